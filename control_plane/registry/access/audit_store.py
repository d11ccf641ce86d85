"""The audit log, read. Raises Transient or Permanent.

A page is read from behind the last row that was seen, so its cost does not grow with the log; an export is pages too:
no transaction is held open while somebody reads slowly.
"""

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.resources import files

import asyncpg

from control_plane.db import queries
from control_plane.db.connect import Pool, acquire, transaction
from control_plane.registry import journal
from control_plane.registry.access.audit_documents import AuditEntry
from shared.authority import Actor

_SQL = queries.parse((files(__package__) / "queries.sql").read_text(encoding="utf-8"))
EARLIEST = datetime(1970, 1, 1, tzinfo=UTC)
LATEST = datetime(9999, 1, 1, tzinfo=UTC)
_EXPORT_PAGE = 500


@dataclass(frozen=True, slots=True)
class Filter:
    """Which lines: `action` is one, or a family (`device`) with all below it; `to` is not included."""

    actor: str | None = None
    target: str | None = None
    action: str | None = None
    since: datetime = EARLIEST
    to: datetime = LATEST

    def words(self) -> dict[str, object]:
        """What was asked for, for the audit log itself."""
        named = {"actor": self.actor, "target": self.target, "action": self.action}
        found: dict[str, object] = {name: value for name, value in named.items() if value is not None}
        moments = (("from", self.since, EARLIEST), ("to", self.to, LATEST))
        return found | {name: moment.isoformat() for name, moment, none in moments if moment != none}


@dataclass(frozen=True, slots=True)
class Place:
    """Where a page begins: behind this row."""

    at: datetime
    id: int


NEWEST = Place(LATEST, 2**63 - 1)
OLDEST = Place(EARLIEST, 0)


class AuditStore:
    """All statements that read the audit log."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def page(self, wanted: Filter, after: Place, limit: int) -> list[AuditEntry]:
        """Newest first."""
        return await self._read("audit_newest_first", wanted, after, limit)

    async def all(self, wanted: Filter) -> AsyncIterator[list[AuditEntry]]:
        """Oldest first, in pages; what is written meanwhile may or may not be among them."""
        after = OLDEST
        while page := await self._read("audit_oldest_first", wanted, after, _EXPORT_PAGE):
            yield page
            after = Place(page[-1].at, page[-1].id)

    async def note_export(self, wanted: Filter, actor: Actor) -> None:
        """That somebody took a copy, and of what."""
        async with transaction(self._pool) as db:
            await journal.audit(db, actor, "audit.export", wanted.target or "*", wanted.words())

    async def _read(self, statement: str, wanted: Filter, after: Place, limit: int) -> list[AuditEntry]:
        async with acquire(self._pool) as db:
            rows = await db.fetch(
                _SQL[statement],
                wanted.actor,
                wanted.target,
                wanted.action,
                wanted.since,
                wanted.to,
                after.at,
                after.id,
                limit,
            )
        return [_entry(row) for row in rows]


def _entry(row: asyncpg.Record) -> AuditEntry:
    return AuditEntry(
        id=row["id"],
        at=row["at"],
        actor=row["actor"],
        source=row["source"],
        action=row["action"],
        target=row["target"],
        detail=json.loads(row["detail"]),
        before=json.loads(row["before"]) if row["before"] else None,
        after=json.loads(row["after"]) if row["after"] else None,
        erased=row["detail_sha256"] is not None and not row["has_values"],
        values_sha256=row["detail_sha256"].hex() if row["detail_sha256"] else None,
    )
