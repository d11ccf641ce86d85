"""Changes of one device: its values, and the moves of its life. Each is one transaction."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

import asyncpg

from control_plane.db import queries
from control_plane.db.connect import Pool, transaction
from control_plane.registry import journal, moves
from control_plane.registry.fleet import patch
from control_plane.registry.fleet.patch import LABELS, Patch, Values
from control_plane.registry.life import Illegal, Move
from control_plane.registry.lifecycle_event import Change
from control_plane.registry.registration import Refusal, Refused
from shared.authority import Actor
from shared.device import Status
from shared.ids import DeviceId

_SQL = queries.parse((files(__package__) / "changes.sql").read_text(encoding="utf-8"))


@dataclass(frozen=True, slots=True)
class Stale:
    """It was changed since the client saw it; `version` is the present one."""

    version: int


class Changes:
    """Writes changes. Raises Transient if Postgres is away."""

    def __init__(self, database: Pool) -> None:
        self._database = database

    async def patch(
        self, device_id: DeviceId, asked: Patch, allowed: frozenset[int] | None, actor: Actor
    ) -> int | Stale | Refused | None:
        """Change values; the version then, or why not, or None if there is no such device.

        `allowed`: the versions on which the change may be built; None: any. What changes nothing keeps the version.
        """
        try:
            return await self._patch(device_id, asked, allowed, actor)
        except asyncpg.UniqueViolationError:
            return Refused(Refusal.SERIAL_TAKEN, "a device of this type with this serial is registered already")

    async def _patch(
        self, device_id: DeviceId, asked: Patch, allowed: frozenset[int] | None, actor: Actor
    ) -> int | Stale | Refused | None:
        async with transaction(self._database) as db:
            row = await db.fetchrow(_SQL["hold"], device_id)
            if row is None:
                return None
            version: int = row["version"]
            if allowed is not None and version not in allowed:
                return Stale(version)
            before = _values(row)
            after = patch.apply(asked, before)
            if len(after.labels) > LABELS:
                return Refused(Refusal.TOO_MANY_LABELS, f"a device has at most {LABELS} labels")
            was, now = patch.difference(before, after)
            if not now:
                return version
            await db.execute(
                _SQL["set_values"],
                device_id,
                after.serial,
                json.dumps(after.labels),
                _json(after.location),
                _json(after.limits),
            )
            await journal.audit(db, actor, "device.patch", device_id, {"fields": sorted(now)}, before=was, after=now)
            return await journal.changed(db, device_id, Change.CHANGED)

    async def move(
        self, device_id: DeviceId, wanted: Move, actor: Actor, reason: str | None
    ) -> Status | Illegal | None:
        """Make a move; the new status, why not, or None if there is no such device."""
        async with transaction(self._database) as db:
            return await moves.move(db, actor, device_id, wanted, {"reason": reason} if reason else None)


def _values(row: Any) -> Values:
    return Values(
        serial=row["serial"],
        labels=json.loads(row["labels"]),
        location=json.loads(row["location"]) if row["location"] else None,
        limits=json.loads(row["limits"]) if row["limits"] else None,
    )


def _json(found: Mapping[str, Any] | None) -> str | None:
    return json.dumps(dict(found)) if found else None
