"""Whose turn it is at the broker: one command in flight, revocations before everything else."""

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class Turns:
    """One at a time, in order of arrival; ordinary ones keep the pauses, urgent ones go first and without any."""

    def __init__(self) -> None:
        self._busy = False
        self._not_before = 0.0
        self._urgent: deque[asyncio.Future[None]] = deque()
        self._ordinary: deque[asyncio.Future[None]] = deque()
        self._timer: asyncio.TimerHandle | None = None

    @asynccontextmanager
    async def turn(self, *, urgent: bool) -> AsyncIterator[None]:
        """Waits for its turn; the block is the turn."""
        mine: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        (self._urgent if urgent else self._ordinary).append(mine)
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
        """No ordinary turn begins before that."""
        self._not_before = time.monotonic() + seconds

    def _next(self) -> None:
        if self._busy:
            return
        for waiting in (self._urgent, self._ordinary):
            while waiting and waiting[0].done():  # given up
                waiting.popleft()
        left_s = self._not_before - time.monotonic()
        if not self._urgent and self._ordinary and left_s > 0:
            if self._timer is None:
                self._timer = asyncio.get_running_loop().call_later(left_s, self._due)
            return
        waiting = self._urgent or self._ordinary
        if waiting:
            self._busy = True
            waiting.popleft().set_result(None)

    def _due(self) -> None:
        self._timer = None
        self._next()
