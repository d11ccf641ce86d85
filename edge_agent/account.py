"""The ledger as others see it: a page of the running agent, read by the commands; or the file at rest.

Promises: the same numbers either way. The running agent's are of this moment; the file's are those of its last
commit, which may lag behind by acknowledgements not yet written down (they repeat themselves after a start).
"""

import sqlite3
from collections.abc import Mapping
from http import HTTPStatus
from pathlib import Path
from typing import Any

import msgspec

from edge_agent.ledger import Ledger
from edge_agent.outbox_load import load
from edge_agent.row import CLASSES
from edge_agent.running import fetch, find
from shared.errors import Permanent, Transient

COLUMNS = ("accepted", "acked", "waiting", "thinned", "expired", "damaged")
PAGE = "/ledger"

Account = Mapping[str, Any]
"""{"classes": {class: {column: rows}}, "lost_with_counters": [at least, at most], "live": bool}"""


def page(ledger: Ledger) -> Account:
    """What the running agent shows on `PAGE`."""
    columns = {name: getattr(ledger, name) for name in COLUMNS}
    classes = {cls.value: {name: columns[name][at] for name in COLUMNS} for at, cls in enumerate(CLASSES)}
    return {"classes": classes, "lost_with_counters": list(ledger.doubt), "live": True}


def account(data_dir: Path, outbox: Path) -> Account:
    """The ledger of this directory's agent. Raises Transient if it runs and is silent, Permanent if there is none."""
    running = find(data_dir)
    if running is not None and running.health_port:
        status, body = fetch(running, PAGE)
        if status != HTTPStatus.OK:
            raise Transient(f"the agent answers {status} on {PAGE}")
        found: dict[str, Any] = msgspec.json.decode(body)
        return found
    return {**page(_at_rest(outbox)), "live": False}


def held(outbox: Path) -> dict[str, int] | None:
    """Rows that wait for their devices' approval, and of how many devices, as the file's last commit says; None if
    it does not say.
    """
    if not outbox.exists():
        return None
    try:
        db = sqlite3.connect(f"file:{outbox}?mode=ro", uri=True)
        try:
            rows, devices = db.execute("SELECT count(*), count(DISTINCT device) FROM held").fetchone()
        finally:
            db.close()
    except sqlite3.Error:
        return None
    return {"rows": rows, "devices": devices}


def balances(found: Account) -> bool:
    """True if every accepted row stands in exactly one column."""
    return all(
        line["accepted"] == sum(line[column] for column in COLUMNS if column != "accepted")
        for line in found["classes"].values()
    )


def table(found: Account) -> str:
    """The account as text, with its sums and its verdict."""
    widths = [max(9, len(column)) for column in COLUMNS]
    lines = ["class      " + "  ".join(f"{column:>{width}}" for column, width in zip(COLUMNS, widths, strict=True))]
    sums = {column: sum(line[column] for line in found["classes"].values()) for column in COLUMNS}
    for name, line in (*found["classes"].items(), ("sum", sums)):
        cells = "  ".join(f"{line[column]:>{width}}" for column, width in zip(COLUMNS, widths, strict=True))
        lines.append(f"{name:<10} {cells}")
    least, most = found["lost_with_counters"]
    if most:
        lines.append(f"lost with damaged counters: {least} to {most} rows")
    verdict = "balances" if balances(found) else "DOES NOT BALANCE: please report this"
    lines.append(f"accepted = acked + waiting + thinned + expired + damaged: {verdict}")
    if not found["live"]:
        lines.append("(the agent is not running; this is its file at rest)")
    return "\n".join(lines)


def _at_rest(outbox: Path) -> Ledger:
    if not outbox.exists():
        raise Permanent(f"there is no outbox at {outbox}", hint="check AGENT_DATA_DIR; `edge-agent run` makes one")
    try:
        db = sqlite3.connect(f"file:{outbox}?mode=ro", uri=True, isolation_level=None)
        try:
            db.execute("BEGIN")
            return load(db).ledger
        finally:
            db.close()
    except (sqlite3.Error, ValueError, KeyError, TypeError) as error:
        raise Permanent(
            f"the outbox cannot be read: {error}", hint="`edge-agent run` saves what a damaged one still holds"
        ) from error
