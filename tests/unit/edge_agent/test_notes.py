import asyncio
import threading
from collections.abc import Sequence
from dataclasses import dataclass

import pytest

from edge_agent import notes as notes_module
from edge_agent.notes import WAITING, Notes
from edge_agent.row import Row, RowClass
from shared.backoff import Backoff
from shared.batch import ClockQuality, EventRecord, decode_record
from shared.clock import SystemClock
from shared.errors import Transient
from shared.events import Event


@dataclass(frozen=True, slots=True)
class DiskAte(Event):
    """For tests."""

    rows: int
    why: str = "hungry"


class Store:
    """Takes rows; fails as often as told."""

    def __init__(self, failures: int = 0) -> None:
        self.failures = failures
        self.rows: list[Row] = []
        self.changed = asyncio.Event()

    def submit(self, rows: Sequence[Row], identities: Sequence[bytes]) -> asyncio.Future[None]:
        assert not identities
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        if self.failures:
            self.failures -= 1
            future.set_exception(Transient("full"))
        else:
            self.rows += rows
            future.set_result(None)
        self.changed.set()
        return future

    async def until(self, count: int) -> list[EventRecord]:
        async with asyncio.timeout(10):
            while len(self.rows) < count:
                self.changed.clear()
                await self.changed.wait()
        return [decode_record(row.record) for row in self.rows]  # type: ignore[misc]


class UnsetClock(SystemClock):
    def synced(self) -> bool:
        return False


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(notes_module, "AGAIN", Backoff(first_s=0.001, cap_s=0.001))


async def test_what_is_said_becomes_an_event_of_the_gateway_at_its_time() -> None:
    notes, store, stopping = Notes("gw-1", UnsetClock()), Store(), asyncio.Event()
    notes.say(DiskAte(3))  # before anything is open
    serving = asyncio.ensure_future(notes.serve(stopping, submit=store.submit))
    (first,) = await store.until(1)
    threading.Thread(target=notes.say, args=(DiskAte(4, "x" * 1_000),)).start()
    _, second = await store.until(2)
    stopping.set()
    await serving
    assert (first.device, first.name, first.data) == ("gw-1", "disk_ate", {"rows": 3, "why": "hungry"})
    assert (second.data["rows"], len(second.data["why"])) == (4, 256)
    assert {(row.cls, row.clock) for row in store.rows} == {(RowClass.EVENT, ClockQuality.UNSYNCED)}
    assert [row.wall_ms for row in store.rows] == [first.at_ms, second.at_ms]


async def test_what_cannot_be_stored_waits_in_order_and_only_the_newest_are_kept() -> None:
    notes, store, stopping = Notes("gw-1", SystemClock()), Store(failures=3), asyncio.Event()
    for number in range(WAITING + 5):
        notes.say(DiskAte(number))
    serving = asyncio.ensure_future(notes.serve(stopping, submit=store.submit))
    found = await store.until(WAITING)
    stopping.set()
    await serving
    assert [record.data["rows"] for record in found] == list(range(5, WAITING + 5))


async def test_what_is_said_at_the_end_is_stored_if_it_can_be_and_holds_nobody_if_not() -> None:
    for failures, stored in ((0, 1), (10**9, 0)):
        notes, store, stopping = Notes("gw-1", SystemClock()), Store(failures), asyncio.Event()
        stopping.set()
        notes.say(DiskAte(1))
        await asyncio.wait_for(notes.serve(stopping, submit=store.submit), 10)
        assert len(store.rows) == stored


def test_whoever_speaks_when_the_loop_has_ended_is_not_ended_by_it() -> None:
    notes = Notes("gw-1", SystemClock())

    async def once() -> None:
        stopping = asyncio.Event()
        stopping.set()
        await notes.serve(stopping, submit=Store().submit)

    asyncio.run(once())
    notes.say(DiskAte(1))
