"""Groups of devices: a list of members, or a query over labels, type and kind. Each change is one transaction."""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from importlib.resources import files
from typing import Any

import asyncpg

from control_plane.db import queries
from control_plane.db.connect import Connection, Pool, acquire, transaction
from control_plane.registry import journal
from control_plane.registry.fleet.changes import Stale
from control_plane.registry.fleet.group_query import Group, narrowed
from control_plane.registry.fleet.search import Filter
from shared.authority import Actor

_SQL = queries.parse((files(__package__) / "groups.sql").read_text(encoding="utf-8"))


class GroupRefusal(StrEnum):
    """Why a group is not changed; the API's problem types end in these words."""

    TAKEN = "group-taken"
    BY_QUERY = "group-by-query"


@dataclass(frozen=True, slots=True)
class Membership:
    """What a change of members did: how many came or went, and which ids are no device's."""

    group: Group
    changed: int
    unknown: Sequence[str]


class Groups:
    """Reads and writes groups. Raises Transient if Postgres is away."""

    def __init__(self, database: Pool) -> None:
        self._database = database

    async def get(self, name: str) -> Group | None:
        """One group."""
        async with acquire(self._database) as db:
            row = await db.fetchrow(_SQL["group"], name)
        return _group(row) if row else None

    async def list(self, *, after: str, limit: int) -> Sequence[Group]:
        """In order of name, behind `after`."""
        async with acquire(self._database) as db:
            return [_group(row) for row in await db.fetch(_SQL["groups"], after, limit)]

    async def narrow(self, wanted: Filter, name: str) -> Filter | None:
        """The filter and also: in this group. None if there is no such group."""
        group = await self.get(name)
        if group is None:
            return None
        if group.query is None:
            return dataclasses.replace(wanted, members_of=name)
        return narrowed(wanted, group.query)

    async def create(
        self, name: str, description: str, query: Mapping[str, Any] | None, actor: Actor
    ) -> Group | GroupRefusal:
        """Make a group; without a query it has no members yet."""
        try:
            async with transaction(self._database) as db:
                row = await db.fetchrow(_SQL["insert"], name, description, _json(query))
                await journal.audit(db, actor, "group.create", name, {"query": query})
        except asyncpg.UniqueViolationError:
            return GroupRefusal.TAKEN
        return _group(row)

    async def change(
        self, name: str, allowed: frozenset[int] | None, asked: Mapping[str, Any], actor: Actor
    ) -> Group | Stale | GroupRefusal | None:
        """Change `description` or `query`, those that are asked; a listed group stays one."""
        async with transaction(self._database) as db:
            held = await _hold(db, name, allowed)
            if not isinstance(held, Group):
                return held
            if asked.get("query") is not None and held.query is None:
                return GroupRefusal.BY_QUERY
            query = asked.get("query", held.query)
            row = await db.fetchrow(_SQL["change"], name, asked.get("description", held.description), _json(query))
            await journal.audit(db, actor, "group.change", name, {"query": query})
        return _group(row)

    async def delete(self, name: str, allowed: frozenset[int] | None, actor: Actor) -> bool | Stale:
        """Delete a group; its devices stay. False if there is none."""
        async with transaction(self._database) as db:
            held = await _hold(db, name, allowed)
            if not isinstance(held, Group):
                return held or False
            await db.execute(_SQL["delete"], name)
            await journal.audit(db, actor, "group.delete", name)
        return True

    async def add(self, name: str, ids: Sequence[str], actor: Actor) -> Membership | GroupRefusal | None:
        """Make devices members; those that are already stay."""
        return await self._members(name, ids, actor, "add")

    async def remove(self, name: str, ids: Sequence[str], actor: Actor) -> Membership | GroupRefusal | None:
        """Make devices members no more."""
        return await self._members(name, ids, actor, "remove")

    async def _members(
        self, name: str, ids: Sequence[str], actor: Actor, what: str
    ) -> Membership | GroupRefusal | None:
        async with transaction(self._database) as db:
            held = await _hold(db, name, None)
            if not isinstance(held, Group):
                return None
            if held.query is not None:
                return GroupRefusal.BY_QUERY
            known = {row["id"] for row in await db.fetch(_SQL["known"], list(ids))}
            changed = await db.fetch(_SQL[f"{what}_members"], name, sorted(known))
            if changed:
                row = await db.fetchrow(_SQL["change"], name, held.description, None)
                members = sorted(item["device_id"] for item in changed)
                await journal.audit(db, actor, f"group.{what}", name, {"devices": members})
                held = _group(row)
        return Membership(held, len(changed), sorted(set(ids) - known))


async def _hold(db: Connection, name: str, allowed: frozenset[int] | None) -> Group | Stale | None:
    row = await db.fetchrow(_SQL["hold"], name)
    if row is None:
        return None
    group = _group(row)
    return group if allowed is None or group.version in allowed else Stale(group.version)


def _group(row: Any) -> Group:
    return Group(
        row["name"],
        row["description"],
        json.loads(row["query"]) if row["query"] else None,
        row["version"],
        row["created_at"],
        row["updated_at"],
    )


def _json(query: Mapping[str, Any] | None) -> str | None:
    return json.dumps(dict(query)) if query is not None else None
