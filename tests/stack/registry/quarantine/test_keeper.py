"""The keeper on a real Postgres and broker: written first, then followed; ends by themselves."""

import json

import pytest

from control_plane.db.connect import acquire
from control_plane.registry.life import Illegal
from control_plane.registry.projector import Projector
from control_plane.registry.quarantine.keeper import EXPIRY, Quarantine
from shared.authority import Actor, Role
from shared.device import Status

pytestmark = pytest.mark.stack

ACTOR = Actor("t-someone", Role.OPERATOR)
POLICY = Actor("policy:flood", Role.ADMIN)


@pytest.fixture
async def keeper(parts, environment):
    async with acquire(parts.database) as db:
        await db.execute("INSERT INTO device_types (name) VALUES ('t')")
        for name, kind in (("gw", "gateway"), ("dev", "device")):
            await db.execute(
                "INSERT INTO devices (id, serial, type, kind, status, registered_at)"
                " VALUES ($1, $1, 't', $2, 'active', now())",
                name,
                kind,
            )
        await db.execute("INSERT INTO gateway_ownership (device_id, gateway_id, from_at) VALUES ('dev', 'gw', now())")
    projector = Projector(parts.store, parts.broker, lambda: None)
    return Quarantine(parts.database, environment["HUB_DATABASE_URL"], projector, lambda name: f"p-{name}")


async def status(parts, name):
    async with acquire(parts.database) as db:
        return await db.fetchval("SELECT status FROM devices WHERE id = $1", name)


async def test_it_is_written_with_its_evidence(keeper, parts):
    entered = await keeper.enter("dev", POLICY, "flood", {"count": 7, "window_s": 60}, 300)
    assert entered.until > entered.at
    assert await status(parts, "dev") == "quarantined"
    async with acquire(parts.database) as db:
        row = await db.fetchrow("SELECT * FROM quarantines WHERE device_id = 'dev'")
        audit = await db.fetchrow("SELECT * FROM audit_log WHERE target = 'dev' AND action = 'device.quarantine'")
    assert (row["by"], row["reason"], json.loads(row["evidence"])) == (
        "policy:flood",
        "flood",
        {"count": 7, "window_s": 60},
    )
    assert (audit["actor"], json.loads(audit["detail"])["evidence"]["count"]) == ("policy:flood", 7)
    again = await keeper.enter("dev", POLICY, "flood", {}, 300)
    assert isinstance(again, Illegal), "the first stands"
    assert await keeper.release("dev", ACTOR) is Status.ACTIVE
    assert isinstance(await keeper.release("dev", ACTOR), Illegal)
    assert await keeper.enter("nobody", ACTOR, "x") is None
    assert await keeper.release("nobody", ACTOR) is None


async def test_ends_that_are_due_are_made_and_the_next_one_waited_for(keeper, parts):
    assert await keeper.run() == 60.0
    await keeper.enter("dev", ACTOR, "x", for_s=30)
    await keeper.enter("gw", ACTOR, "y")
    assert 20.0 < await keeper.run() <= 30.0
    async with acquire(parts.database) as db:
        await db.execute("UPDATE quarantines SET until = now() WHERE device_id = 'dev'")
    assert await keeper.run() == 60.0
    assert [await status(parts, name) for name in ("dev", "gw")] == ["active", "quarantined"]
    async with acquire(parts.database) as db:
        assert await db.fetchval("SELECT released_by FROM quarantines WHERE device_id = 'dev'") == EXPIRY.id


async def test_one_that_was_moved_in_the_meantime_stands_in_nobodys_way(keeper, parts):
    await keeper.enter("dev", ACTOR, "x", for_s=30)
    async with acquire(parts.database) as db:
        await db.execute("UPDATE devices SET status = 'retired' WHERE id = 'dev'")
        await db.execute("UPDATE quarantines SET until = now()")
    assert await keeper.run() == 60.0
    async with acquire(parts.database) as db:
        assert await db.fetchval("SELECT released_by FROM quarantines") == "superseded"
        await db.execute("UPDATE devices SET status = 'active' WHERE id = 'dev'")
        await db.execute("UPDATE quarantines SET released_at = NULL, until = NULL")
    assert not isinstance(await keeper.enter("dev", ACTOR, "anew"), Illegal | None)
