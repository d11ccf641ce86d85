"""Moves of a device's life, written: the row, the audit log and the words for Kafka in the caller's transaction.

After the commit the caller has the broker follow (`Projector.device`); the reconciler mends a crash in between.
"""

from collections.abc import Mapping
from importlib.resources import files

from control_plane.db import queries
from control_plane.db.connect import Connection
from control_plane.registry import journal, life
from control_plane.registry.life import Illegal, Move
from control_plane.registry.lifecycle_event import Change
from shared.authority import Actor
from shared.device import Status
from shared.ids import DeviceId

_SQL = queries.parse((files(__package__) / "moves.sql").read_text(encoding="utf-8"))
_CHANGE = {
    Move.APPROVE: Change.APPROVED,
    Move.USE: Change.ACTIVATED,
    Move.QUARANTINE: Change.QUARANTINED,
    Move.RELEASE: Change.RELEASED,
    Move.SUSPEND: Change.SUSPENDED,
    Move.RESUME: Change.RESUMED,
    Move.RETIRE: Change.RETIRED,
    Move.REVOKE: Change.REVOKED,
}


async def move(
    db: Connection, actor: Actor, device_id: DeviceId, wanted: Move, detail: Mapping[str, object] | None = None
) -> Status | Illegal | None:
    """Make the move; the new status, why not, or None if there is no such device. Holds the device's row.

    Retiring ends its keys and its ownership; revoking ends them with the reason `revoked` and marks the row.
    """
    row = await db.fetchrow(_SQL["hold"], device_id)
    if row is None:
        return None
    status = Status(row["status"])
    before = Status(row["status_before"]) if row["status_before"] else None
    found = life.after(status, wanted, before)
    if isinstance(found, Illegal):
        return found
    await db.execute(_SQL["set_status"], device_id, found.value, life.remembered(status, wanted, before))
    if wanted in (Move.RETIRE, Move.REVOKE):
        await db.execute(_SQL["end_keys"], device_id, "revoked" if wanted is Move.REVOKE else "retired")
        await db.execute(_SQL["end_ownership"], device_id)
        await db.execute(_SQL["mark_retired"], device_id, wanted is Move.REVOKE)
    await journal.changed(db, device_id, _CHANGE[wanted])
    await journal.audit(
        db, actor, f"device.{wanted}", device_id, {**(detail or {}), "from": status.value, "to": found.value}
    )
    return found
