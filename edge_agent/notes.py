"""What happens to the gateway itself, as rows of class `event`: the hub hears of a salvage, a full disk, a set clock.

Promises: what is said is logged and counted at once, as every event; its row has the time at which it was said and is
offered to the outbox until it is stored, in the order of saying. The newest `WAITING` are kept while it cannot be,
and what was said before an outbox was open waits for it. `say` may be called from any thread and never blocks.
Leaves which events are said here to their places; their fields are counts, sizes and reasons, as in the log.
"""

import asyncio
import dataclasses
import random
import re
import threading
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress

from edge_agent.row import Row, RowClass
from shared.backoff import Backoff
from shared.batch import ClockQuality, EventRecord, encode_record
from shared.clock import Clock
from shared.errors import Transient
from shared.events import Event
from shared.limits import STRING_CHARS

WAITING = 64
AGAIN = Backoff(first_s=0.5, cap_s=30.0)

Say = Callable[[Event], None]
"""Takes an event of which the hub is to hear."""

Submit = Callable[[Sequence[Row], Sequence[bytes]], asyncio.Future[None]]


def emit(event: Event) -> None:
    """For whom no hub listens."""
    event.emit()


class Notes:
    """One gateway's; `serve` it once."""

    def __init__(self, gateway: str, clock: Clock) -> None:
        self._gateway = gateway
        self._clock = clock
        self._lock = threading.Lock()
        self._waiting: deque[Row] = deque(maxlen=WAITING)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._said = asyncio.Event()

    def say(self, event: Event) -> None:
        """Emit it, and keep its row for the hub."""
        event.emit()
        clock = self._clock
        quality = ClockQuality.SYNCED if clock.synced() else ClockQuality.UNSYNCED
        wall_ms = clock.wall_ms()
        record = EventRecord(self._gateway, wall_ms, _name(event), _data(event))
        row = Row(RowClass.EVENT, wall_ms, clock.boot_ms(), clock.boot_id(), quality, encode_record(record))
        with self._lock:
            self._waiting.append(row)
            loop = self._loop
        if loop is not None:
            with suppress(RuntimeError):  # the loop has ended, and the agent with it
                loop.call_soon_threadsafe(self._said.set)

    async def serve(self, stopping: asyncio.Event, *, submit: Submit) -> None:
        """Store what was said, and what is said until `stopping`; then what still waits, if that goes at once."""
        with self._lock:
            self._loop = asyncio.get_running_loop()
        stop = asyncio.ensure_future(stopping.wait())
        try:
            while not stopping.is_set():
                self._said.clear()
                await self._store(stopping, submit)
                said = asyncio.ensure_future(self._said.wait())
                await asyncio.wait((said, stop), return_when=asyncio.FIRST_COMPLETED)
                said.cancel()
                await asyncio.gather(said, return_exceptions=True)
            await self._store(stopping, submit)
        finally:
            stop.cancel()
            await asyncio.gather(stop, return_exceptions=True)

    async def _store(self, stopping: asyncio.Event, submit: Submit) -> None:
        attempt = 0
        while rows := self._oldest():
            try:
                await submit(rows, [])
            except Transient:  # the outbox has said why, and says when that ends
                if stopping.is_set():
                    return
                with suppress(TimeoutError):
                    async with asyncio.timeout(AGAIN.delay_s(attempt, random.random())):  # noqa: S311 - jitter
                        await stopping.wait()
                attempt += 1
                continue
            with self._lock:
                if self._waiting and self._waiting[0] is rows[0]:  # else newer ones have pushed it out
                    self._waiting.popleft()

    def _oldest(self) -> list[Row]:
        with self._lock:
            return [self._waiting[0]] if self._waiting else []


def _name(event: Event) -> str:
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", type(event).__name__).lower()


def _data(event: Event) -> dict[str, object]:
    fields = {field.name: getattr(event, field.name) for field in dataclasses.fields(event)}
    return {name: value[:STRING_CHARS] if isinstance(value, str) else value for name, value in fields.items()}
