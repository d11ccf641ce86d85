"""One leader at a time, and another when it is gone."""

import asyncio
from collections import Counter
from typing import Any

import pytest

from control_plane.db.connect import connect
from control_plane.registry import leader
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


async def test_one_leads_and_the_next_takes_over(
    parts: Parts, environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    url = environment["HUB_DATABASE_URL"]
    Duty.running = Duty.terms = 0
    attempts: Counter[asyncio.Task[None] | None] = Counter()

    async def counted(url: str, *, application: str) -> Any:
        attempts[asyncio.current_task()] += 1
        return await connect(url, application=application)

    async def all_others_tried_again() -> None:
        """Each candidate that does not lead has looked twice more."""
        before = Counter(attempts)
        await until_async(
            lambda: sum(attempts[task] >= before[task] + 2 for task in candidates) == len(candidates) - 1,
            "the others tried again",
        )

    monkeypatch.setattr(leader, "connect", counted)
    candidates = [asyncio.create_task(lead(url, [Duty().serve])) for _ in range(3)]
    try:
        await until_async(lambda: Duty.running, "one leads")
        await all_others_tried_again()
        assert (Duty.running, Duty.terms) == (1, 1)
        # The connection that holds the lock is cut off: its term ends at once, and one of the three leads again.
        await parts.database.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND granted AND database ="
            " (SELECT oid FROM pg_database WHERE datname = current_database())"
        )
        await until_async(lambda: Duty.terms == 2 and Duty.running == 1, "another term")
        await all_others_tried_again()
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
