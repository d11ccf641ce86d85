"""Pages of devices, read as `search` says."""

import json
from collections.abc import Sequence
from dataclasses import dataclass

import asyncpg

from control_plane.db.connect import Connection, Pool, acquire
from control_plane.registry.device import Device
from control_plane.registry.fleet import search
from control_plane.registry.fleet.search import Filter, Stream
from control_plane.registry.store import device_of


@dataclass(frozen=True, slots=True)
class Page:
    """Devices in order of id; `after`: behind which id the next page begins, None on the last.

    A page may hold fewer than were asked for, even none, and still not be the last.
    """

    devices: Sequence[Device]
    after: str | None


class Finder:
    """Reads lists. Raises Transient if Postgres is away."""

    def __init__(self, database: Pool) -> None:
        self._database = database

    async def page(self, wanted: Filter, *, after: str, limit: int) -> Page:
        """The next page behind the id `after`; without the devices' keys."""
        async with acquire(self._database) as db:
            stream, until = await _way(db, wanted, after)
            statement = search.page(wanted, stream, after, until, limit + 1)
            rows = await db.fetch(statement.text, *statement.values)
        devices = [device_of(row) for row in rows[:limit]]
        return Page(devices, devices[-1].id if len(rows) > limit else until)


async def _way(db: Connection, wanted: Filter, after: str) -> tuple[Stream | None, str | None]:
    """Which stream to walk (None: the trigram index) and up to which id."""
    choices = search.streams(wanted)
    if len(choices) == 1 and search.all_wanted(wanted):
        return choices[0], None
    ahead = await _ahead(db, choices, after)
    chosen = search.sparsest(ahead)
    if wanted.text is not None and ahead[chosen] is not None and await _few(db, wanted.text):
        return None, None
    return choices[chosen], ahead[chosen]


async def _ahead(db: Connection, choices: Sequence[Stream], after: str) -> list[str | None]:
    statement = search.probe(choices, after)
    row = await db.fetchrow(statement.text, *statement.values)
    assert isinstance(row, asyncpg.Record)
    return list(row)


async def _few(db: Connection, text: str) -> bool:
    if len(text) < search.TRIGRAM:
        return False
    statement = search.count_text(text)
    plan = json.loads(await db.fetchval(statement.text, *statement.values))
    expected: float = plan[0]["Plan"]["Plan Rows"]
    return expected <= search.FEW_MATCHES
