"""From a pseudonym back to its device, and the forgetting of a device.

Promises: who asked and who forgot stands in the audit log; a forgotten device's row stays, with its id and without
anything that says what or where it was, so that the audit trail stays honest and nobody takes the id again.
Forgetting again erases what arrived meanwhile. What it cannot reach is said in the answer (UNREACHED).
"""

import asyncio
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from importlib.resources import files

from control_plane.db import queries
from control_plane.db.connect import Pool, acquire, transaction
from control_plane.registry import events, journal, lifecycle_event
from shared.authority import Actor
from shared.device import Status
from shared.errors import HubError
from shared.ids import DeviceId
from shared.topics import Kafka

_SQL = queries.parse((files(__package__) / "privacy.sql").read_text(encoding="utf-8"))
_EVERY_S = 30.0
"""How late a fresh device's pseudonym is written at most; whoever asks before has it written first."""
_BATCH = 5_000
_LONG_S = 600.0
"""For the telemetry of years."""
_ERASED = (
    "groups", "gateways", "keys", "requests", "enrolments", "quarantines", "audit_details",
    "telemetry", "aggregates", "anomalies",
)  # fmt: skip
UNREACHED = (
    (
        "Kafka: records of this device stay in the topics until their retention ends; the compacted registry topic "
        "loses it soon after the tombstone"
    ),
    "backups of Postgres and Kafka: they forget it when they are replaced",
    "logs of the broker, which hold client ids: until they are rotated away",
    "the gateway that spoke for it, and whoever read the topics",
)


@dataclass(frozen=True, slots=True)
class Forgotten:
    """When, and how many rows of each kind went."""

    at: datetime
    erased: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class StillAlive:
    """Only what is retired can be forgotten."""

    status: Status


class Privacy:
    """`pseudonym`: of a device id, by the hub's key. Raises Transient if Postgres is away."""

    def __init__(self, database: Pool, pseudonym: Callable[[str], str]) -> None:
        self._database = database
        self._pseudonym = pseudonym

    async def serve(self) -> None:
        """Write the pseudonyms that are not written yet, until cancelled."""
        while True:
            try:
                await self.complete()
            except HubError as error:
                events.PseudonymsNotWritten(str(error)).emit()
            await asyncio.sleep(_EVERY_S)

    async def complete(self) -> int:
        """Write what is missing, all anew if the key was changed; how many."""
        async with acquire(self._database) as db:
            one = await db.fetchrow(_SQL["sample"])
            if one is not None and one["pseudonym"] != self._pseudonym(one["id"]):
                await db.execute(_SQL["reset"], timeout=_LONG_S)
            written = 0
            while True:
                names = [row["id"] for row in await db.fetch(_SQL["without"], _BATCH)]
                if not names:
                    return written
                await db.execute(_SQL["name_them"], names, [self._pseudonym(name) for name in names])
                written += len(names)

    async def whois(self, pseudonym: str, actor: Actor) -> DeviceId | None:
        """Whose pseudonym that is; None if nobody's, or a forgotten device's. Either way it is in the audit log."""
        found = await self._find(pseudonym)
        if found is None and await self.complete():
            found = await self._find(pseudonym)
        async with transaction(self._database) as db:
            await journal.audit(db, actor, "device.whois", found or pseudonym, {"found": found is not None})
        return found

    async def _find(self, pseudonym: str) -> DeviceId | None:
        async with acquire(self._database) as db:
            found = await db.fetchval(_SQL["by_pseudonym"], pseudonym)
        return DeviceId(found) if found else None

    async def forget(self, device_id: DeviceId, actor: Actor) -> Forgotten | StillAlive | None:
        """Erase what is known of a retired device; None if there is no such device."""
        async with transaction(self._database) as db:
            status = await db.fetchval(_SQL["hold"], device_id)
            if status is None:
                return None
            if status != Status.RETIRED:
                return StillAlive(Status(status))
            row = await db.fetchrow(_SQL["forget_device"], device_id, f"forgotten-{secrets.token_hex(8)}")
            assert row is not None, "the row is held"
            erased = {}
            for what in _ERASED:
                done = await db.execute(_SQL[f"forget_{what}"], device_id, timeout=_LONG_S)
                erased[what] = int(done.rpartition(" ")[2])
            ce_id = f"{device_id}:{row['version']}:forgotten"
            await db.execute(_SQL["tombstone"], Kafka.REGISTRY.value, device_id, ce_id, lifecycle_event.VIEW_TYPE)
            await journal.audit(db, actor, "device.forget", device_id, {"erased": erased})
        return Forgotten(row["forgotten_at"], erased)
