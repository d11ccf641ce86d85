"""What stands between this gateway and the hub, found by trying: `edge-agent doctor`.

Promises: every finding that is not good says what to do. It changes nothing, and never takes a running agent's
connection away: while an agent runs, that one is asked how its connections are. With `canary` a reading is sent
through the whole path, from the local broker to the hub's acknowledgement; that needs the running agent.
"""

import asyncio
import os
import re
import time
from collections.abc import AsyncIterator
from dataclasses import asdict, dataclass
from enum import StrEnum

import msgspec

from edge_agent.account import COLUMNS, Account, account
from edge_agent.config import AgentConfig, read_key
from edge_agent.intake import DROPPED
from edge_agent.local_broker_file import LocalBrokerFile
from edge_agent.mqtt import Connection, Options
from edge_agent.running import Running, fetch, find
from edge_agent.status import PAGE
from shared.clock import SystemClock
from shared.envelope import rfc3339
from shared.errors import HubError, Permanent, Transient
from shared.ids import DeviceId, new_secret
from shared.topics import Channel, build

CONNECT_S = 10.0
CANARY_S = 60.0
_ASK_AGAIN_S = 0.25
_BRIDGE_BUGS_BEFORE = (2, 0, 18)


class Verdict(StrEnum):
    """How a check went."""

    OK = "ok"
    WARNING = "warning"
    FAILED = "failed"
    SKIPPED = "skipped"


@dataclass(frozen=True, slots=True)
class Finding:
    """One check: what was looked at, what was found, and what to do where it is not good."""

    check: str
    verdict: Verdict
    found: str
    do: str = ""

    def as_dict(self) -> dict[str, str]:
        """For --json."""
        return {name: str(value) for name, value in asdict(self).items()}

    def __str__(self) -> str:
        advice = f"\n           -> {self.do}" if self.do else ""
        return f"{self.verdict:<8}  {self.check}: {self.found}{advice}"


async def examine(config: AgentConfig, *, canary: bool) -> AsyncIterator[Finding]:
    """Every check in turn, as it is done."""
    running = find(config.data_dir)
    yield _data_dir(config)
    yield _disk(config)
    key = _key(config)
    yield key
    yield _clock()
    yield _agent(running)
    local = await _local_broker(config)
    yield local
    if local.verdict is Verdict.OK:
        yield await _broker_version(config)
        yield await _broker_drops(config)
    yield _lan(config)
    if running is not None and running.health_port:
        hub = _hub_of(running, _shown(config))
    elif key.verdict is Verdict.FAILED and not config.certified:
        hub = Finding("hub", Verdict.SKIPPED, "not tried: the key file is bad", "mend the key file first")
    else:
        hub = await _hub(config)
    if not canary:
        yield hub
        return
    arrived = await _canary(config, running)
    if arrived.verdict is Verdict.OK and hub.verdict is not Verdict.OK:
        # Asked in the first seconds after its start, the agent was still connecting. What arrived went over it.
        hub = Finding("hub", Verdict.OK, f"the agent connected meanwhile, its {_shown(config)} accepted")
    yield hub
    yield arrived


def _data_dir(config: AgentConfig) -> Finding:
    path = config.data_dir
    if not path.is_dir():
        return Finding(
            "data directory", Verdict.FAILED, f"{path} is missing", "make it, mode 0700, or mend AGENT_DATA_DIR"
        )
    if not os.access(path, os.W_OK | os.X_OK):
        return Finding("data directory", Verdict.FAILED, f"{path} cannot be written", "give it to the agent's user")
    if path.stat().st_mode & 0o077:
        return Finding("data directory", Verdict.WARNING, f"{path}: others may enter it", f"chmod 700 {path}")
    return Finding("data directory", Verdict.OK, str(path))


def _disk(config: AgentConfig) -> Finding:
    try:
        disk = os.statvfs(config.data_dir)
    except OSError as error:
        return Finding("disk", Verdict.SKIPPED, f"{error.strerror}")
    free_mib = disk.f_bavail * disk.f_frsize // 1_048_576
    wanted_mib = config.disk_floor_mib + config.outbox_max_mib
    if free_mib <= config.disk_floor_mib:
        return Finding(
            "disk", Verdict.FAILED, f"{free_mib} MiB free, at the floor of {config.disk_floor_mib} MiB",
            "free disk space: the agent takes nothing below the floor",
        )  # fmt: skip
    if free_mib < wanted_mib:
        return Finding(
            "disk", Verdict.WARNING, f"{free_mib} MiB free; outbox and floor may want {wanted_mib} MiB",
            "free disk space, or lower AGENT_OUTBOX_MAX_MIB",
        )  # fmt: skip
    return Finding("disk", Verdict.OK, f"{free_mib} MiB free")


def _lan(config: AgentConfig) -> Finding:
    """Who gets in from the LAN."""
    if config.lan_anonymous:
        return Finding(
            "LAN", Verdict.WARNING, "anybody on the LAN may speak as any device (AGENT_LAN_ANONYMOUS)",
            "give devices their keys: AGENT_LAN_DIR, docs/agent.md",
        )  # fmt: skip
    if config.lan_dir is None:
        return Finding("LAN", Verdict.OK, "the local broker is for this machine alone")
    files = LocalBrokerFile(config.lan_dir, config.lan_restart_command)
    if not os.access(config.lan_dir, os.W_OK | os.X_OK):
        return Finding("LAN", Verdict.FAILED, f"{config.lan_dir} cannot be written", "give it to the agent's user")
    if files.restart_needed:
        return Finding(
            "LAN", Verdict.WARNING, "the local broker has not loaded its newest records",
            "restart it now; for the next time set AGENT_LAN_RESTART_COMMAND",
        )  # fmt: skip
    return Finding("LAN", Verdict.OK, f"devices have their keys, kept in {config.lan_dir}")


def _key(config: AgentConfig) -> Finding:
    try:
        key_id, _ = read_key(config.key_file)
    except HubError as error:
        path = config.key_file
        try:
            open_to_others = bool(path.stat().st_mode & 0o077)
        except OSError:
            open_to_others = False
        advice = f"chmod 600 {path}" if open_to_others else "write the registration's key into it, mode 0600"
        return Finding("key file", Verdict.FAILED, str(error), advice)
    return Finding("key file", Verdict.OK, f"key {key_id}, readable by its owner alone")


def _clock() -> Finding:
    if SystemClock().synced():
        return Finding("clock", Verdict.OK, "synchronised")
    return Finding(
        "clock", Verdict.WARNING, "not synchronised: readings are marked `unsynced` until it is",
        "run an NTP client (systemd-timesyncd, chrony); in a container the host's counts",
    )  # fmt: skip


def _agent(running: Running | None) -> Finding:
    if running is None:
        return Finding("agent", Verdict.WARNING, "not running", "start it: edge-agent run")
    if not running.health_port:
        return Finding("agent", Verdict.WARNING, f"pid {running.pid} is starting", "ask again in a moment")
    try:
        _, body = fetch(running, "/readyz")
    except Transient as error:
        return Finding("agent", Verdict.FAILED, str(error), "see its log")
    missing = msgspec.json.decode(body)["missing"]
    if missing:
        return Finding(
            "agent", Verdict.FAILED, f"pid {running.pid} is not ready: {'; '.join(missing)}", "mend that first"
        )
    return Finding("agent", Verdict.OK, f"pid {running.pid} is ready")


async def _local_broker(config: AgentConfig) -> Finding:
    try:
        async with asyncio.timeout(CONNECT_S), _visit(config):
            pass
    except (HubError, TimeoutError) as error:
        return Finding(
            "local broker", Verdict.FAILED, f"{config.local_mqtt_url}: {error or 'no answer'}",
            "start it (mosquitto with deploy/edge/mosquitto-local.conf), or mend AGENT_LOCAL_MQTT_URL",
        )  # fmt: skip
    return Finding("local broker", Verdict.OK, f"{config.local_mqtt_url} answers")


async def _broker_version(config: AgentConfig) -> Finding:
    try:
        async with asyncio.timeout(CONNECT_S), _visit(config) as visit:
            await visit.subscribe("$SYS/broker/version")
            (message, *_) = await visit.receive(1)
    except (HubError, TimeoutError):
        return Finding("local broker's version", Verdict.SKIPPED, "the broker does not tell it")
    text = message.payload.decode(errors="replace")[:80]
    found = re.search(r"(\d+)\.(\d+)\.(\d+)", text)
    if found and tuple(map(int, found.groups())) < _BRIDGE_BUGS_BEFORE:
        return Finding(
            "local broker's version", Verdict.WARNING, f"{text}: its bridges lose messages",
            "fine while no bridge is configured in it; before you add one, install 2.0.18 or later",
        )  # fmt: skip
    return Finding("local broker's version", Verdict.OK, text)


async def _broker_drops(config: AgentConfig) -> Finding:
    try:
        async with asyncio.timeout(CONNECT_S), _visit(config) as visit:
            await visit.subscribe(DROPPED)
            (message, *_) = await visit.receive(1)
    except (HubError, TimeoutError):
        return Finding("local broker's drops", Verdict.SKIPPED, "the broker does not tell them")
    return judge_drops(message.payload)


def judge_drops(payload: bytes) -> Finding:
    """What the broker's own count of dropped messages says."""
    dropped = int(payload) if payload.isdigit() else 0
    if dropped:
        return Finding(
            "local broker's drops", Verdict.WARNING, f"it dropped {dropped} messages since its start",
            "its queue was full while the agent was away (max_queued_bytes), or a subscriber at QoS 0 was too slow",
        )  # fmt: skip
    return Finding("local broker's drops", Verdict.OK, "none since its start")


def _visit(config: AgentConfig) -> Connection:
    return Connection(Options(config.local_mqtt_url, f"_doctor-{new_secret()[:12]}"))


def _shown(config: AgentConfig) -> str:
    """By what the hub knows this gateway."""
    return "certificate" if config.certified else "key"


def _hub_of(running: Running, shown: str) -> Finding:
    """The running agent's word: a connection of ours with its key would end its own."""
    try:
        _, body = fetch(running, PAGE)
    except Transient as error:
        return Finding("hub", Verdict.SKIPPED, str(error))
    uplink = msgspec.json.decode(body)["uplink"]
    if uplink["connected"]:
        return Finding("hub", Verdict.OK, f"the agent is connected, its {shown} accepted")
    return Finding(
        "hub", Verdict.FAILED, f"the agent is not connected: {uplink['trouble']}",
        f"check network, firewall, the hub's URL and the {shown}; what is accepted meanwhile waits in the outbox",
    )  # fmt: skip


async def _hub(config: AgentConfig) -> Finding:
    url = (config.hub_mtls_url if config.certified else None) or config.hub_mqtt_url
    own = "AGENT_CERT_FILE" if config.certified else "AGENT_KEY_FILE"
    try:
        ca_file = str(config.hub_ca_file) if config.hub_ca_file else None
        if config.certified:
            cert, cert_key = str(config.cert_file), str(config.cert_key_file) if config.cert_key_file else None
            options = Options(url, config.agent_id, ca_file=ca_file, cert_file=cert, cert_key_file=cert_key)
        else:
            key_id, secret = read_key(config.key_file)
            options = Options(url, config.agent_id, key_id, secret, ca_file=ca_file)
        async with asyncio.timeout(CONNECT_S), Connection(options):
            pass
    except Permanent as error:
        return Finding(
            "hub", Verdict.FAILED, f"{url}: {error}",
            f"is AGENT_ID this gateway's, is what {own} names its own, and neither ended nor revoked?",
        )  # fmt: skip
    except (Transient, TimeoutError) as error:
        return Finding(
            "hub", Verdict.FAILED, f"{url}: {error or 'no answer'}",
            "check network, firewall and the hub's URL; what is accepted meanwhile waits in the outbox",
        )  # fmt: skip
    return Finding("hub", Verdict.OK, f"{url} accepts the {_shown(config)}")


async def _canary(config: AgentConfig, running: Running | None) -> Finding:
    if running is None or not running.health_port:
        return Finding("canary", Verdict.SKIPPED, "the agent does not run", "start it: edge-agent run")
    topic = build(Channel.TELEMETRY, DeviceId(config.agent_id))
    reading = msgspec.json.encode({"ts": rfc3339(SystemClock().wall_ms()), "canary": new_secret()[:16]})
    started_s = time.monotonic()
    try:
        before = _sums(account(config.data_dir, config.outbox_path))
        async with asyncio.timeout(CONNECT_S), _visit(config) as visit:
            await visit.publish(topic, reading)
        waiting = 0
        mark: int | None = None
        while time.monotonic() - started_s < CANARY_S:
            now = _sums(account(config.data_dir, config.outbox_path))
            if mark is None and now["accepted"] > before["accepted"]:
                mark = now["accepted"]
            waiting = now["waiting"]
            if mark is not None and now["accepted"] - waiting >= mark:
                took_s = time.monotonic() - started_s
                return Finding(
                    "canary", Verdict.OK, f"from local broker to the hub's acknowledgement in {took_s:.1f} s"
                )
            await asyncio.sleep(_ASK_AGAIN_S)
    except (HubError, TimeoutError) as error:
        return Finding("canary", Verdict.FAILED, str(error) or "no answer", "see the findings above")
    if mark is None:
        return Finding("canary", Verdict.FAILED, f"not accepted within {CANARY_S:.0f} s", "see the agent's log")
    return Finding(
        "canary", Verdict.WARNING, f"accepted, not acknowledged by the hub yet; {waiting} records wait with it",
        "nothing is lost; if the number does not fall, look at the hub",
    )  # fmt: skip


def _sums(found: Account) -> dict[str, int]:
    return {column: sum(line[column] for line in found["classes"].values()) for column in COLUMNS}
