"""The lease on a real Postgres."""

import asyncio
from contextlib import asynccontextmanager

import asyncpg
import pytest

from control_plane.ingest.lease_keeper import HolderName, LeaseKeeper
from shared.clock import SystemClock
from shared.errors import Permanent
from tests.stack.hub_process import until

pytestmark = pytest.mark.stack
LEASE_S = 3.0
_ANOTHERS = "UPDATE ingest_slots SET holder = 'z', incarnation = 'z', renewals = renewals + 1 WHERE slot = $1"


@asynccontextmanager
async def kept(world, holder, beside=0, lease_s=LEASE_S):
    slot = world.slot + beside
    keeper = LeaseKeeper(world.env["HUB_DATABASE_URL"], slot, holder, lease_s, SystemClock())
    task = asyncio.ensure_future(keeper.run())
    try:
        yield keeper
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def row(world):
    connection = await asyncpg.connect(world.env["HUB_DATABASE_URL"])
    try:
        return await connection.fetchrow("SELECT * FROM ingest_slots WHERE slot = $1", world.slot)
    finally:
        await connection.close()


async def until_row(world, condition, wait_s=20):
    """The slot's row once it is so."""
    found = None

    async def so():
        nonlocal found
        found = await row(world)
        return bool(condition(found))

    await until(so, "the row is so", wait_s=wait_s)
    return found


async def test_a_new_slot_is_taken_at_once_and_renewed(world):
    async with kept(world, "a") as keeper:
        await asyncio.wait_for(keeper.wait(held=True), 5)
        assert keeper.certain()
        assert keeper.may_write()
        first = await row(world)
        assert first["holder"] == "a"
        await until_row(world, lambda found: found["renewals"] > first["renewals"], wait_s=LEASE_S)


async def test_the_row_says_once_that_the_session_has_its_subscriptions(world):
    async with kept(world, "a") as keeper:
        await asyncio.wait_for(keeper.wait(held=True), 5)
        assert (await row(world))["subscribed_at"] is None
        keeper.subscribed()
        first = await until_row(world, lambda found: found["subscribed_at"], wait_s=LEASE_S / 3)
        keeper.subscribed()
        later = await until_row(world, lambda found: found["renewals"] > first["renewals"])
        assert later["subscribed_at"] == first["subscribed_at"]


async def test_what_postgres_did_not_hear_it_is_told_when_it_is_back(world):
    async with kept(world, "a") as keeper:
        await asyncio.wait_for(keeper.wait(held=True), 5)
        world.stack.postgres.kill()
        try:
            keeper.subscribed()
            await until(lambda: not keeper.certain(), "it is no longer certain")
        finally:
            world.stack.postgres.start()
        await until_row(world, lambda found: found["subscribed_at"])


async def test_after_a_crash_the_same_name_resumes_at_once_and_another_waits(world):
    async with kept(world, "a") as keeper:
        await asyncio.wait_for(keeper.wait(held=True), 5)
    async with kept(world, "b") as other, kept(world, "a") as same:
        await asyncio.wait_for(same.wait(held=True), 1)
        resumed = await row(world)
        # Four renewals, a third of a lease apart each: a whole lease passed, in which `other` looked all the time.
        await until_row(world, lambda found: found["renewals"] >= resumed["renewals"] + 4)
        assert not other.held
        assert same.held


async def test_what_was_released_is_taken_at_once(world):
    """At the next look, of which there are many in a lease time: it need not run out."""
    lease_s = 60.0
    async with kept(world, "a", lease_s=lease_s) as first:
        await asyncio.wait_for(first.wait(held=True), 20)
        async with kept(world, "b", lease_s=lease_s) as second:
            await first.release()
            assert (await row(world))["holder"] in (None, "b")
            await asyncio.wait_for(second.wait(held=True), lease_s / 3)


async def test_slots_are_apart(world):
    async with kept(world, "a") as first, kept(world, "b", beside=1_000) as second:
        await asyncio.wait_for(first.wait(held=True), 5)
        await asyncio.wait_for(second.wait(held=True), 5)


async def test_confirming_reads_the_row(world):
    """The row is another's, though the hold is still certain by the clock: that is a human hand, and it counts."""
    async with kept(world, "a") as keeper:
        await asyncio.wait_for(keeper.wait(held=True), 5)
        connection = await asyncpg.connect(world.env["HUB_DATABASE_URL"])
        await connection.execute(_ANOTHERS, world.slot)
        await connection.close()
        assert keeper.certain()
        await keeper.confirm()
        assert not keeper.held
        assert not keeper.may_write()


async def test_postgres_away_keeps_the_hold_and_its_return_renews_it(world):
    async with kept(world, "a") as keeper:
        await asyncio.wait_for(keeper.wait(held=True), 5)
        world.stack.postgres.kill()
        try:
            await until(lambda: not keeper.certain(), "it is no longer certain")
            await until(keeper.may_write, "connected, it may write on", wait_s=LEASE_S)
            assert keeper.held
        finally:
            world.stack.postgres.start()
        await until(keeper.certain, "certain again")


async def test_a_namesake_is_an_error(world):
    first = LeaseKeeper(world.env["HUB_DATABASE_URL"], world.slot, "a", LEASE_S, SystemClock())
    running = asyncio.ensure_future(first.run())
    await asyncio.wait_for(first.wait(held=True), 5)
    async with kept(world, "a") as second:
        await asyncio.wait_for(second.wait(held=True), 5)
        with pytest.raises(Permanent, match="under this one's name"):
            await asyncio.wait_for(running, 5)


def test_a_name_is_kept_and_is_one_process_s(tmp_path):
    with HolderName(tmp_path, None) as first:
        with pytest.raises(Permanent, match="another ingest"):
            HolderName(tmp_path, None)
        assert first.name.startswith("ingest-")
    with HolderName(tmp_path, None) as again:
        assert again.name == first.name
    with HolderName(tmp_path, "given") as given:
        assert given.name == "given"
