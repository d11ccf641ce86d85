"""Who fails is slowed, who is good is served, whatever the others do."""

import asyncio
import logging
from collections.abc import Awaitable, Callable

import pytest

from control_plane.registry.access.attempts import Budget, Failure
from control_plane.registry.access.events import LOGIN_FAILURES
from control_plane.registry.access.logins import NARROW, Logins
from control_plane.registry.problem import Problem, ProblemRaised

REFUSAL = Problem(401, "no", "unauthenticated")


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def logins(clock: Clock) -> Logins:
    return Logins(per_source=Budget(5, 2.0), per_name=Budget(3, 6.0), clock=clock)


def finding(found: str | Failure) -> Callable[[], Awaitable[str | Failure]]:
    async def look() -> str | Failure:
        return found

    return look


async def answer(door: Logins, found: str | Failure, source: str = "192.0.2.1", name: str | None = "t-a") -> object:
    try:
        return await door.attempt("api", source, name, finding(found), REFUSAL)
    except ProblemRaised as raised:
        return raised.problem


def status(found: object) -> int:
    return found.status if isinstance(found, Problem) else 200


async def test_a_name_that_is_guessed_at_is_limited_from_wherever_the_guesses_come() -> None:
    clock = Clock()
    door = logins(clock)
    said = [status(await answer(door, Failure.WRONG, f"192.0.2.{number}")) for number in range(5)]
    assert said == [401, 401, 401, 429, 429]
    refused = await answer(door, Failure.WRONG, "192.0.2.99")
    assert isinstance(refused, Problem)
    assert (refused.headers()["Retry-After"], refused.kind) == ("6", "too-many-attempts")
    clock.now += 6
    assert status(await answer(door, Failure.WRONG)) == 401


async def test_an_address_that_guesses_at_many_names_is_limited_and_others_are_not() -> None:
    door = logins(Clock())
    said = [status(await answer(door, Failure.UNKNOWN, name=f"t-{number}")) for number in range(7)]
    assert said == [401] * 5 + [429] * 2
    assert status(await answer(door, Failure.MALFORMED, name=None)) == 429
    assert status(await answer(door, Failure.WRONG, "192.0.2.2", "t-x")) == 401


async def test_a_good_token_is_served_while_others_fail_from_its_address_and_by_its_name() -> None:
    """An attacker who knows an operator's token's id, behind the same address translation, locks nobody out."""
    door = logins(Clock())
    for _ in range(50):
        await answer(door, Failure.WRONG)
    assert await answer(door, "an operator") == "an operator"
    assert status(await answer(door, Failure.WRONG)) == 429


async def test_who_shows_nothing_tries_nothing() -> None:
    door = logins(Clock())
    assert {status(await answer(door, Failure.MISSING, name=None)) for _ in range(50)} == {401}


async def test_a_flood_over_its_budget_is_looked_at_few_at_a_time_and_the_good_one_in_it_is_served() -> None:
    door = logins(Clock())
    for _ in range(5):
        await answer(door, Failure.WRONG)
    at_once = most = 0

    async def look() -> str | Failure:
        nonlocal at_once, most
        at_once += 1
        most = max(most, at_once)
        await asyncio.sleep(0)
        at_once -= 1
        return Failure.WRONG

    flood = [asyncio.ensure_future(door.attempt("api", "192.0.2.1", "t-a", look, REFUSAL)) for _ in range(100)]
    good = await answer(door, "an operator")
    await asyncio.wait(flood)
    assert (good, most) == ("an operator", NARROW)
    assert {status(task.exception().problem) for task in flood} == {429}  # type: ignore[union-attr]


async def test_failures_are_counted_by_door_and_kind_and_an_attack_is_one_line(
    caplog: pytest.LogCaptureFixture,
) -> None:
    clock = Clock()
    door = logins(clock)
    refused = LOGIN_FAILURES.labels("api", "revoked", "refused")._value
    limited = LOGIN_FAILURES.labels("api", "revoked", "limited")._value
    before = refused.get(), limited.get()
    with caplog.at_level(logging.INFO, "events"):
        for _ in range(20):
            await answer(door, Failure.REVOKED)
        clock.now += 10
        for _ in range(5):
            await answer(door, Failure.REVOKED)
    assert (refused.get() - before[0], limited.get() - before[1]) == (4, 21)
    lines = [record.__dict__["event_fields"] for record in caplog.records if record.message == "logins_limited"]
    assert [(line["by"], line["source"], line["attempts"]) for line in lines] == [
        ("name", "192.0.2.1", 1),
        ("name", "192.0.2.1", 17),
    ]
    assert "t-a" not in caplog.text
