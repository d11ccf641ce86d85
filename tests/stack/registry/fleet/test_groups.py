"""Groups on a real Postgres: listed and by query."""

from control_plane.registry.fleet.changes import Stale
from control_plane.registry.fleet.finder import Finder
from control_plane.registry.fleet.group_query import Group
from control_plane.registry.fleet.groups import GroupRefusal, Groups, Membership
from control_plane.registry.fleet.search import Filter
from tests.stack.registry.fleet.fleet_kit import ACTOR, put, registry


async def test_listed_members(database_url: str) -> None:
    async with registry(database_url) as database:
        groups, lists = Groups(database), Finder(database)
        for name in "abc":
            await put(database, name)
        made = await groups.create("canaries", "first", None, ACTOR)
        assert isinstance(made, Group)
        assert await groups.create("canaries", "again", None, ACTOR) is GroupRefusal.TAKEN
        done = await groups.add("canaries", ["a", "c", "nobody"], ACTOR)
        assert isinstance(done, Membership)
        assert (done.changed, done.unknown, done.group.version) == (2, ["nobody"], 2)
        again = await groups.add("canaries", ["a"], ACTOR)
        assert isinstance(again, Membership)
        assert (again.changed, again.group.version) == (0, 2), "nothing changed"
        wanted = await groups.narrow(Filter(), "canaries")
        assert wanted is not None
        assert [item.id for item in (await lists.page(wanted, after="", limit=9)).devices] == ["a", "c"]
        gone = await groups.remove("canaries", ["a", "b"], ACTOR)
        assert isinstance(gone, Membership)
        assert gone.changed == 1
        assert await groups.change("canaries", frozenset({1}), {"description": "x"}, ACTOR) == Stale(3)
        assert await groups.change("canaries", None, {"query": {"kind": "device"}}, ACTOR) is GroupRefusal.BY_QUERY
        assert await groups.delete("canaries", frozenset({1}), ACTOR) == Stale(3)
        assert await groups.delete("canaries", frozenset({3}), ACTOR) is True
        assert await groups.delete("canaries", None, ACTOR) is False
        assert await groups.add("canaries", ["a"], ACTOR) is None
        assert await groups.narrow(Filter(), "canaries") is None
        actions = [item["action"] for item in await database.fetch("SELECT action FROM audit_log ORDER BY id")]
        assert actions == ["group.create", "group.add", "group.remove", "group.delete"]


async def test_by_query_its_members_are_whoever_fits_at_the_time(database_url: str) -> None:
    async with registry(database_url) as database:
        groups, lists = Groups(database), Finder(database)
        await put(database, "a", labels={"site": "berlin"})
        await put(database, "b", labels={"site": "paris"})
        made = await groups.create("berlin", "", {"labels": ["site=berlin"]}, ACTOR)
        assert isinstance(made, Group)
        wanted = await groups.narrow(Filter(), "berlin")
        assert wanted is not None
        assert [item.id for item in (await lists.page(wanted, after="", limit=9)).devices] == ["a"]
        await put(database, "c", labels={"site": "berlin"})
        assert [item.id for item in (await lists.page(wanted, after="", limit=9)).devices] == ["a", "c"]
        assert await groups.add("berlin", ["b"], ACTOR) is GroupRefusal.BY_QUERY
        changed = await groups.change("berlin", frozenset({1}), {"query": {"labels": ["site=paris"]}}, ACTOR)
        assert isinstance(changed, Group)
        assert (changed.version, changed.query) == (2, {"labels": ["site=paris"]})
        assert [item.name for item in await groups.list(after="", limit=9)] == ["berlin"]
