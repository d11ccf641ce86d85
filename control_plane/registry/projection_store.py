"""What the broker should hold, read from Postgres: in pages, of one device, and as a whole file.

Raises Transient or Permanent (`control_plane.db.connect`). What follows from it: `projection`.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from importlib.resources import files
from typing import Any

from control_plane.db import queries
from control_plane.db.connect import Pool, acquire, transaction
from control_plane.registry.projection import Key, KeyState, enabled
from shared.device import Status
from shared.dynsec_document import BrokerClient
from shared.ids import DeviceId

_SQL = queries.parse((files(__package__) / "projection.sql").read_text(encoding="utf-8"))
_UNDER_WAY = timedelta(seconds=30)
"""No transaction of ours lasts longer: what one wrote that was not committed when we read bears a later time."""


@dataclass(frozen=True, slots=True)
class FileRecord:
    """One record of the broker's file; `arriving`: a key of an import, which becomes valid by it."""

    client: BrokerClient
    arriving: bool


class ProjectionStore:
    """Reads on the registry's pool."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def between(self, after: str, until: str | None, limit: int) -> list[tuple[str, Key]]:
        """Keys by id, in order, beyond `after` and up to `until` (None: to the end), at most `limit`; without those
        that ended more than a day ago.
        """
        async with acquire(self._pool) as db:
            return _keys(await db.fetch(_SQL["range"], after, until, limit))

    async def doors(self) -> dict[str, Key]:
        """The records by which sessions of gateways with certificates can be closed."""
        async with acquire(self._pool) as db:
            return dict(_keys(await db.fetch(_SQL["doors"], None)))

    async def known(self, names: Collection[str]) -> set[str]:
        """Those of these key ids that Postgres knows at all."""
        async with acquire(self._pool) as db:
            return {row["name"] for row in await db.fetch(_SQL["known"], list(names))}

    async def held(self, names: Collection[str]) -> set[str]:
        """Those of these keys that the broker should hold now."""
        async with acquire(self._pool) as db:
            return {row["name"] for row in await db.fetch(_SQL["held"], list(names))}

    async def of_device(self, device_id: DeviceId) -> dict[str, Key]:
        """The records of one device, those of keys that ended long ago left out."""
        async with acquire(self._pool) as db:
            rows = [*await db.fetch(_SQL["of_device"], device_id), *await db.fetch(_SQL["doors"], device_id)]
        return dict(_keys(rows))

    async def file(self) -> tuple[datetime, list[FileRecord]]:
        """Every record of a device that the broker should hold, registrations under way included; and since when
        changes may not be in it.
        """
        async with transaction(self._pool) as db:
            now = await db.fetchval(_SQL["now"])
            rows = await db.fetch(_SQL["file"])
            doors = _keys(await db.fetch(_SQL["doors"], None))
        found = [
            FileRecord(
                BrokerClient(row["name"], row["hash"], row["client_id"], disabled=not _enabled(row)), row["arriving"]
            )
            for row in rows
        ]
        found += [FileRecord(BrokerClient(name, None, name, disabled=not key.enabled), False) for name, key in doors]
        return now - _UNDER_WAY, found


def _enabled(row: Any) -> bool:
    return enabled(Status(row["status"]), valid=row["valid"])


def _keys(rows: Sequence[Any]) -> list[tuple[str, Key]]:
    return [
        (row["name"], Key(row["client_id"], KeyState(row["state"]), _enabled(row), row["revoked"])) for row in rows
    ]
