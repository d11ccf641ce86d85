"""Whose turn it is at the broker: one command in flight, revocations before everything else."""

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from enum import IntEnum

_ASKED_IN_A_ROW = 3
"""Then a patient one has its turn, or a rotation would never end while devices are registered."""


class Lane(IntEnum):
    """Who goes first."""

    URGENT = 0  # somebody is to be cut off: at once, without the pause
    ASKED = 1  # somebody waits for the answer
    PATIENT = 2  # rotations by schedule, repairs: as there is room


class Turns:
    """One at a time; within a lane in order of arrival. Urgent ones go first and keep no pause; of four others at
    least one is patient, if one waits.
    """

    def __init__(self) -> None:
        self._busy = False
        self._not_before = 0.0
        self._waiting: dict[Lane, deque[asyncio.Future[None]]] = {lane: deque() for lane in Lane}
        self._asked_in_a_row = 0
        self._timer: asyncio.TimerHandle | None = None

    @asynccontextmanager
    async def turn(self, lane: Lane) -> AsyncIterator[None]:
        """Waits for its turn; the block is the turn."""
        mine: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting[lane].append(mine)
        self._next()
        try:
            await mine
        except asyncio.CancelledError:
            if mine.done() and not mine.cancelled():  # the turn was given at the very moment
                self._busy = False
            self._next()
            raise
        try:
            yield
        finally:
            self._busy = False
            self._next()

    def pause(self, seconds: float) -> None:
        """Only urgent turns begin before that."""
        self._not_before = time.monotonic() + seconds

    def waiting(self, lane: Lane) -> int:
        """How many wait in this lane, those that gave up left out."""
        return sum(not one.done() for one in self._waiting[lane])

    def _next(self) -> None:
        if self._busy:
            return
        for waiting in self._waiting.values():
            while waiting and waiting[0].done():  # given up
                waiting.popleft()
        lane = self._lane()
        if lane is None:
            return
        left_s = self._not_before - time.monotonic()
        if lane is not Lane.URGENT and left_s > 0:
            if self._timer is None:
                self._timer = asyncio.get_running_loop().call_later(left_s, self._due)
            return
        if lane is not Lane.URGENT:
            self._asked_in_a_row = self._asked_in_a_row + 1 if lane is Lane.ASKED else 0
        self._busy = True
        self._waiting[lane].popleft().set_result(None)

    def _lane(self) -> Lane | None:
        if self._waiting[Lane.URGENT]:
            return Lane.URGENT
        if self._waiting[Lane.PATIENT] and (self._asked_in_a_row >= _ASKED_IN_A_ROW or not self._waiting[Lane.ASKED]):
            return Lane.PATIENT
        return Lane.ASKED if self._waiting[Lane.ASKED] else None

    def _due(self) -> None:
        self._timer = None
        self._next()
