"""One leader at a time, and another when it is gone."""

import asyncio

from control_plane.registry.leader import lead
from tests.stack.registry.conftest import Parts, until_async


class Duty:
    """Counts how many of its kind run at once, over all leaders."""

    running = 0
    terms = 0

    async def serve(self) -> None:
        Duty.running += 1
        Duty.terms += 1
        try:
            await asyncio.Future()
        finally:
            Duty.running -= 1


async def test_one_leads_and_the_next_takes_over(parts: Parts, environment: dict[str, str]) -> None:
    url = environment["HUB_DATABASE_URL"]
    Duty.running = Duty.terms = 0
    candidates = [asyncio.create_task(lead(url, [Duty().serve])) for _ in range(3)]
    try:
        await until_async(lambda: Duty.running, "one leads")
        await asyncio.sleep(1.5)  # every other candidate has tried again by now
        assert (Duty.running, Duty.terms) == (1, 1)
        # The connection that holds the lock is cut off: its term ends at once, and one of the three leads again.
        await parts.database.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND granted AND database ="
            " (SELECT oid FROM pg_database WHERE datname = current_database())"
        )
        await until_async(lambda: Duty.terms == 2 and Duty.running == 1, "another term")
        await asyncio.sleep(1.5)
        assert Duty.running == 1
    finally:
        for task in candidates:
            task.cancel()
        await asyncio.gather(*candidates, return_exceptions=True)
    assert Duty.running == 0


async def test_a_duty_that_fails_is_our_bug_and_ends_the_leader(environment: dict[str, str]) -> None:
    async def broken() -> None:
        raise KeyError("bug")

    async with asyncio.timeout(20):
        (result,) = await asyncio.gather(lead(environment["HUB_DATABASE_URL"], [broken]), return_exceptions=True)
    assert isinstance(result, ExceptionGroup)
    assert result.subgroup(KeyError)
