"""One way past every door that asks who you are: failures are counted and, in excess, answered with 429.

Promises: a good credential is always served, however many others fail from its address or by its name: an attacker
can make the hub say 429 to themselves, never to an operator. So an attempt over its budget is still looked at, but
only `NARROW` of those at a time, first come first served: a flood of guesses never takes the database's connections
from those who are in. Leaves to the door what its credential is (`look`), and what it answers to strangers.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import nullcontext
from typing import TypeVar

from control_plane.registry.access.attempts import (
    PER_NAME,
    PER_SOURCE,
    Buckets,
    Budget,
    Failure,
    neighbourhood,
    retry_after_s,
)
from control_plane.registry.access.events import LoginsLimited, login_failed
from control_plane.registry.problem import Problem, ProblemRaised

T = TypeVar("T")
NARROW = 2
_SAY_EVERY_S = 10.0


class Logins:
    """One for all doors of a process."""

    def __init__(
        self,
        *,
        per_source: Budget = PER_SOURCE,
        per_name: Budget = PER_NAME,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._sources = Buckets(per_source)
        self._names = Buckets(per_name)
        self._clock = clock
        self._narrow = asyncio.Semaphore(NARROW)
        self._unsaid: dict[tuple[str, str], int] = {}
        self._said_at: dict[tuple[str, str], float] = {}

    async def attempt(
        self,
        door: str,
        source: str | None,
        name: str | None,
        look: Callable[[], Awaitable[T | Failure]],
        refusal: Problem,
    ) -> T:
        """What `look` found, or ProblemRaised with `refusal`, or with 429 where it failed too often.

        `door` names the door in metrics; `source` is the address that asks; `name` the public half of what it shows
        (None: nothing that could be tried). `look` compares secrets in constant time and says what it found.
        """
        place = neighbourhood(source)
        over = self._wait_s(place, name) > 0
        async with self._narrow if over else nullcontext():
            found = await look()
        if not isinstance(found, Failure):
            return found
        wait_s = self._wait_s(place, name)  # again: others failed meanwhile
        login_failed(door, found, limited=wait_s > 0)
        if found is Failure.MISSING:  # no attempt: a browser, a probe, somebody who reads the documentation
            raise ProblemRaised(refusal)
        if wait_s > 0:
            self._say(door, place, name)
            raise ProblemRaised(
                Problem(
                    429,
                    "too many failed attempts to authenticate; a valid token is still served",
                    "too-many-attempts",
                    retry_after_s=retry_after_s(wait_s),
                )
            )
        now = self._clock()
        self._sources.spend(place, now)
        if name is not None:
            self._names.spend(name, now)
        raise ProblemRaised(refusal)

    def _wait_s(self, place: str, name: str | None) -> float:
        now = self._clock()
        by_name = self._names.wait_s(name, now) if name is not None else 0.0
        return max(self._sources.wait_s(place, now), by_name)

    def _say(self, door: str, place: str, name: str | None) -> None:
        """One line for many: an attacker must not fill the log."""
        now = self._clock()
        by = "source" if self._sources.wait_s(place, now) > 0 else "name"
        kind = (door, by)
        self._unsaid[kind] = self._unsaid.get(kind, 0) + 1
        if now - self._said_at.get(kind, -_SAY_EVERY_S) >= _SAY_EVERY_S:
            LoginsLimited(door, by, place, self._unsaid.pop(kind)).emit()
            self._said_at[kind] = now
        del name  # of a device's key: no name of a device stands in a log
