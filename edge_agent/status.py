"""How an agent does, in a few lines: `edge-agent status`."""

from typing import Any

import msgspec

from edge_agent.account import COLUMNS, account, held
from edge_agent.config import AgentConfig
from edge_agent.device_desk import pending
from edge_agent.running import fetch, find
from shared.errors import HubError, Transient

PAGE = "/status"


def status(config: AgentConfig) -> dict[str, Any]:
    """{"gateway", "running", "pid", "ready", "missing", "uplink", "clock", "key", "rows", "held", "pending_devices"};
    never raises for what is away.

    `held`: rows that wait for their devices' approval, in no column of `rows`, and of how many devices.
    `pending_devices`: those that the hub says wait for approval. Each None where nobody said.
    `rows`: the ledger's sums by column, or None where there is no outbox yet. `uplink`: connected, and why not.
    `key`: where its replacement stands.
    """
    running = find(config.data_dir)
    found: dict[str, Any] = {
        "gateway": config.agent_id,
        "running": running is not None,
        "pid": running.pid if running else None,
        "ready": False,
        "missing": ["the agent does not run: start it with `edge-agent run`"],
        "uplink": None,
        "clock": None,
        "key": None,
        "rows": None,
        "held": held(config.outbox_path),
        "pending_devices": pending(config.data_dir),
    }
    if running is not None:
        found["missing"] = ["it is starting"]
        if running.health_port:
            try:
                found |= msgspec.json.decode(fetch(running, "/readyz")[1])
                found |= msgspec.json.decode(fetch(running, PAGE)[1])
            except Transient as error:
                found["missing"] = [str(error)]
    try:
        classes = account(config.data_dir, config.outbox_path)["classes"].values()
        found["rows"] = {column: sum(line[column] for line in classes) for column in COLUMNS}
    except HubError as error:
        found["missing"] = [*found["missing"], str(error)]
    return found


def as_text(found: dict[str, Any]) -> str:
    """The same for people."""
    if found["running"]:
        lines = [f"gateway {found['gateway']}: pid {found['pid']}, {'ready' if found['ready'] else 'NOT READY'}"]
    else:
        lines = [f"gateway {found['gateway']}: not running"]
    lines += [f"  missing: {missing}" for missing in found["missing"]]
    uplink = found["uplink"]
    if uplink is not None:
        lines.append(f"  hub: {'connected' if uplink['connected'] else uplink['trouble']}")
    if found["clock"] is not None:
        lines.append(f"  clock: {found['clock']}")
    if found.get("key") not in (None, "idle"):
        lines.append(f"  key: being replaced ({found['key']})")
    if found["rows"] is not None:
        lines.append("  rows: " + ", ".join(f"{name} {count}" for name, count in found["rows"].items()))
    waiting = found.get("held")
    if waiting and waiting["rows"]:
        lines.append(f"  held: {waiting['rows']} rows of {waiting['devices']} devices that are not approved")
    if found.get("pending_devices"):
        lines.append(f"  pending devices: {found['pending_devices']} (hub device approve ID)")
    return "\n".join(lines)
