import asyncio
import contextlib
import sqlite3
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from edge_agent import outbox_start, outbox_writer, salvage
from edge_agent.chores import Chores
from edge_agent.correction import Fix
from edge_agent.dispatch import Dispatcher, Outgoing
from edge_agent.outbox import Outbox, OutboxDamaged
from edge_agent.outbox_room import Room
from edge_agent.outbox_writer import OutboxWriter, Settings
from edge_agent.row import Row, RowClass
from edge_agent.uplink_state import Limits
from shared import limits
from shared.batch import ClockQuality, Hint, Lane, ReadingRecord, encode_record
from shared.clock import SystemClock
from shared.errors import Transient
from tests.unit.edge_agent.outbox_files import new_file, row

BOUNDS = Limits(replay_start_s=0.0, free_every_s=0.0)


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    def prepare(path: Path) -> None:
        if not path.exists():
            new_file(path)

    monkeypatch.setattr(outbox_start, "prepare", prepare)
    monkeypatch.setattr(salvage, "prepare", prepare)
    return tmp_path / "outbox.db"


class Hub:
    """Collects what is delivered; `got` waits for so many batches."""

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.batches: list[Outgoing] = []
        self.ended = 0
        self._more = asyncio.Event()

    def deliver(self, batches: list[Outgoing] | None) -> None:
        self.loop.call_soon_threadsafe(self._take, batches)

    def _take(self, batches: list[Outgoing] | None) -> None:
        if batches is None:
            self.ended += 1
        else:
            self.batches += batches
        self._more.set()

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(20):
            while not condition():
                self._more.clear()
                await self._more.wait()

    async def got(self, count: int) -> list[Outgoing]:
        await self.until(lambda: len(self.batches) >= count)
        return self.batches


async def soon(condition: Callable[[], bool], act: Callable[[], Awaitable[object]] | None = None) -> None:
    """Wait for what another thread does."""
    async with asyncio.timeout(20):
        while not condition():
            if act is not None:
                await act()
            await asyncio.sleep(0.005)


@pytest.fixture
def make(path: Path):
    writers: list[OutboxWriter] = []

    def start(**changes) -> OutboxWriter:
        settings = {"free_floor_bytes": 0, "reserve_bytes": 4096, "uplink": BOUNDS} | changes
        writer = OutboxWriter(Settings(path, **settings), SystemClock())
        writer.start()
        writers.append(writer)
        return writer

    yield start
    for writer in writers:
        writer.stop()


def seen(path: Path, query: str = "SELECT count(*) FROM rows"):
    db = sqlite3.connect(path)
    try:
        return db.execute(query).fetchone()[0]
    finally:
        db.close()


async def test_what_was_submitted_is_in_the_file_when_the_future_resolves(make, path):
    writer = make()
    await writer.submit([row(1), row(2)], [b"i" * 16])
    assert seen(path) == 2
    assert writer.ledger().accepted == (0, 0, 0, 2, 0)
    writer.stop()
    again = make()
    assert again.recent_identities() == [b"i" * 16]
    assert again.ledger().waiting == (0, 0, 0, 2, 0)


async def test_submissions_of_a_moment_share_one_commit_in_their_order(make, path):
    writer = make(commit_every_s=0.2)
    futures = [writer.submit([row(number)], []) for number in range(20)]
    await asyncio.gather(*futures)
    assert seen(path, "SELECT count(*) FROM receipts") == 1
    with Outbox(path) as outbox:
        assert [record for _, _, record in outbox.read((1, 99), 99)] == [row(number).record for number in range(20)]


async def test_a_full_group_does_not_wait(make):
    writer = make(commit_every_s=30.0, commit_rows=100)
    async with asyncio.timeout(10):
        await writer.submit([row(number) for number in range(100)], [])


async def test_stopping_commits_what_waits(make, path):
    writer = make(commit_every_s=30.0)
    future = writer.submit([row(1)], [])
    await asyncio.to_thread(writer.stop)
    await future
    assert seen(path) == 1
    with pytest.raises(Transient, match="closed"):
        await writer.submit([row(2)], [])


async def test_batches_are_delivered_and_only_the_hubs_acknowledgement_frees(make, path):
    writer = make()
    hub = Hub()
    writer.connected(hub.deliver)
    await writer.submit([row(1)], [])
    (first,) = await hub.got(1)
    assert first.header.lane is Lane.LIVE
    writer.refused(first.key, 0x97)
    await writer.submit([row(2)], [])
    await hub.got(2)
    assert writer.unacknowledged() == 2
    writer.acked((first.key,))
    await soon(lambda: seen(path) == 1)
    assert writer.ledger().acked == (0, 0, 0, 1, 0)
    assert seen(path, "SELECT min(seq) FROM rows") == 2


async def test_where_nobody_listens_the_first_goes_again_soon_and_alone(make):
    writer = make()
    hub = Hub()
    writer.connected(hub.deliver)
    await writer.submit([row(1)], [])
    (first,) = await hub.got(1)
    writer.unheard(first.key)
    await writer.submit([row(2)], [])
    again = (await hub.got(2))[1]
    assert (again.key, again.header.resent) == (first.key, True)
    writer.acked((first.key,))
    assert (await hub.got(3))[2].header.number == 2


async def test_after_a_reconnect_all_is_delivered_again_and_nothing_to_the_old_connection(make):
    writer = make()
    old = Hub()
    writer.connected(old.deliver)
    await writer.submit([row(1)], [])
    await old.got(1)
    writer.disconnected()
    await writer.submit([row(2)], [])
    new = Hub()
    writer.connected(new.deliver)
    writer.acked(((await new.got(1))[0].key,))
    again = await new.got(2)
    assert [(one.header.number, one.header.lane, one.header.resent) for one in again] == [
        (1, Lane.LIVE, True), (2, Lane.REPLAY, False)]  # fmt: skip
    assert again[0].payload == old.batches[0].payload
    assert len(old.batches) == 1


async def test_a_hint_slows_what_is_new(make):
    writer = make()
    hub = Hub()
    writer.connected(hub.deliver)
    writer.hinted(Hint("slow", 2.0, 600.0))
    await writer.submit([row(number) for number in range(100)], [])
    (first, *_) = await hub.got(1)
    assert first.header.hint == "slow"
    assert first.header.records <= 2


async def test_a_full_budget_refuses_and_mends_by_itself(make, path):
    budget = 16 * limits.MIB
    writer = make(budget_bytes=budget)
    accepted = 0

    async def fill() -> None:
        nonlocal accepted
        for _ in range(1_000):
            await writer.submit([row(n, size=900) for n in range(200)], [])
            accepted += 200

    with pytest.raises(Transient, match="holds its"):
        await fill()
    assert writer.trouble is not None
    assert accepted * 900 > budget / 2
    assert path.stat().st_size < 2 * budget
    hub = Hub()
    writer.connected(hub.deliver)
    await hub.got(1)
    async with asyncio.timeout(60):
        while writer.ledger().waiting[3]:
            writer.acked(tuple(batch.key for batch in hub.batches))
            await asyncio.sleep(0.02)
    await soon(lambda: seen(path) == 0)
    await writer.submit([row(1)], [])
    assert writer.trouble is None
    assert writer.ledger().accepted[3] == accepted + 1


async def test_below_the_disks_floor_nothing_is_accepted_and_freeing_goes_on(make, path, monkeypatch):
    writer = make()
    hub = Hub()
    writer.connected(hub.deliver)
    await writer.submit([row(1)], [])
    (batch,) = await hub.got(1)
    with monkeypatch.context() as full:
        full.setattr(Room, "lacking", lambda self: "the disk is full")
        with pytest.raises(Transient, match="disk is full"):
            await writer.submit([row(2)], [])
        writer.acked((batch.key,))
        await soon(lambda: seen(path) == 0)
    await writer.submit([row(3)], [])
    assert seen(path) == 1


async def test_a_commit_that_fails_stores_nothing_and_the_next_may_succeed(make, path, monkeypatch):
    writer = make()
    with monkeypatch.context() as broken:

        def fails(self, *args):
            raise Transient("SQLITE_FULL")

        broken.setattr(Outbox, "append", fails)
        with pytest.raises(Transient, match="SQLITE_FULL"):
            await writer.submit([row(1)], [])
    assert writer.ledger().accepted == (0, 0, 0, 0, 0)

    async def again() -> None:
        try:
            await writer.submit([row(1)], [])
        except Transient:
            return
        done.append(1)

    done: list[int] = []
    await soon(lambda: bool(done), again)
    assert seen(path) == 1


async def test_too_much_that_waits_is_refused_at_once(make):
    writer = make(commit_every_s=0.3, pending_bytes=10_000)
    first = writer.submit([row(1, size=9_000)], [])
    with pytest.raises(Transient, match="too much waits"):
        await writer.submit([row(2, size=2_000)], [])
    await first


async def test_a_file_damaged_while_running_is_salvaged_and_the_connection_begins_anew(make, path):
    writer = make()
    hub = Hub()
    writer.connected(hub.deliver)
    for start in range(0, 6_000, 500):  # more than SQLite keeps in memory
        await writer.submit([row(n, size=900) for n in range(start, start + 500)], [])
    await hub.got(1)
    db = sqlite3.connect(path)
    db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    db.close()
    with path.open("r+b") as file:
        file.seek(20 * 4096)
        file.write(b"\xff" * 40 * 4096)
    writer.disconnected()
    writer.connected(hub.deliver)
    await hub.until(lambda: hub.ended == 1)
    after = Hub()
    writer.connected(after.deliver)
    await writer.submit([row("after")], [])
    await soon(lambda: writer.ledger().accepted[3] == 6_001)
    ledger = writer.ledger()
    assert ledger.balances()
    assert 0 < ledger.damaged[3] < 200
    before = {one.header.epoch for one in hub.batches}

    async def acknowledge() -> None:
        writer.acked(tuple(one.key for one in after.batches))

    await soon(lambda: {one.header.epoch for one in after.batches} > before, acknowledge)
    assert list(path.parent.glob("outbox.db.damaged-*"))


async def test_what_ends_the_thread_is_raised_where_it_is_watched(make, monkeypatch):
    writer = make()
    stopping = asyncio.Event()
    watching = asyncio.ensure_future(writer.watch(stopping))
    await asyncio.sleep(0)

    def bug(self, happening):
        raise AssertionError("a bug")

    monkeypatch.setattr(Dispatcher, "happened", bug)
    with pytest.raises(AssertionError, match="a bug"):
        await writer.submit([row(1)], [])
    with pytest.raises(AssertionError, match="a bug"):
        await asyncio.wait_for(watching, 10)


async def test_watching_ends_when_asked(make):
    writer = make()
    stopping = asyncio.Event()
    watching = asyncio.ensure_future(writer.watch(stopping))
    await asyncio.sleep(0)
    stopping.set()
    await asyncio.wait_for(watching, 10)


def test_an_outbox_that_cannot_be_opened_is_raised_by_start(tmp_path, path):
    path.mkdir()
    writer = OutboxWriter(Settings(path, free_floor_bytes=0), SystemClock())
    with pytest.raises(Exception, match=r"outbox|directory|unable"):
        writer.start()
    writer.stop()
    assert not any(thread.name == "outbox" and thread.is_alive() for thread in threading.enumerate())


async def test_alarms_and_telemetry_keep_their_order(make):
    writer = make()
    hub = Hub()
    writer.connected(hub.deliver)
    await writer.submit([row(1), row(2, RowClass.ALARM), row(3)], [])
    (batch,) = await hub.got(1)
    assert batch.header.records == 3
    assert writer.ledger().waiting == (1, 0, 0, 2, 0)


def reading(number: int, clock: ClockQuality = ClockQuality.SYNCED, boot: str = "boot-1") -> Row:
    record = ReadingRecord("d1", number, number, number * 100, {"t": 1.0}, "x" * 200, None, clock, None)
    return Row(RowClass.TELEMETRY, number, number, boot, clock, encode_record(record))


async def test_a_full_budget_thins_old_telemetry_and_goes_on_accepting(make):
    writer = make(budget_bytes=16 * limits.MIB)
    accepted = 0
    while accepted < 100_000:
        await writer.submit([reading(accepted + n) for n in range(1_000)], [])
        accepted += 1_000
    ledger = writer.ledger()
    assert ledger.balances()
    assert ledger.accepted[3] == accepted
    assert ledger.thinned[3] > 10_000
    assert writer.trouble is None


async def test_stamps_are_corrected_when_the_clock_was_set(make, path):
    writer = make()
    await writer.submit([reading(n, ClockQuality.UNSYNCED) for n in range(10)], [])
    writer.correct_clock(Fix("boot-1", 1_000_000, 9))
    await soon(lambda: seen(path, "SELECT min(wall_ms) FROM rows") == 1_000_000)
    await writer.submit([reading(9, ClockQuality.UNSYNCED)], [])  # stamped before, stored only now
    assert seen(path, "SELECT max(wall_ms) FROM rows WHERE seq = 11") == 1_000_009


async def test_a_salvage_does_not_forget_that_stamps_are_to_be_corrected(make, path, monkeypatch):
    writer = make()
    await writer.submit([reading(n, ClockQuality.UNSYNCED) for n in range(10)], [])
    fail_once(monkeypatch, "_correct_chunk", OutboxDamaged("malformed"))
    writer.correct_clock(Fix("boot-1", 1_000_000, 9))
    await soon(lambda: seen(path, "SELECT min(wall_ms) FROM rows") == 1_000_000)


def raising(error: Exception):
    def fails(*_, **__):
        raise error

    return fails


def fail_once(monkeypatch: pytest.MonkeyPatch, chore: str, error: Exception) -> None:
    """The next chore of this name fails, once there is a row."""
    true, left = getattr(Chores, chore), [error]

    def once(self: Chores, *args):
        if left and self._dispatcher.state.tail:
            raise left.pop()
        return true(self, *args)

    monkeypatch.setattr(Chores, chore, once)


@pytest.mark.parametrize("error", [Transient("SQLITE_FULL"), OutboxDamaged("malformed")])
async def test_a_chore_that_fails_takes_back_nothing_of_what_was_committed(make, path, monkeypatch, error):
    """It was answered 'nothing stored': intake stored the same rows again under the next numbers."""
    writer = make()
    hub = Hub()
    writer.connected(hub.deliver)
    fail_once(monkeypatch, "step", error)
    await writer.submit([row(1)], [b"i" * 16])
    await hub.got(1)
    await soon(lambda: writer.trouble is None)
    assert seen(path) == 1
    assert writer.ledger().accepted == (0, 0, 0, 1, 0)


async def test_trouble_ends_without_anyone_submitting(make, path, monkeypatch):
    """An idle gateway stayed not ready for ever after one failed write of its own."""
    monkeypatch.setattr(outbox_writer, "_MEASURE_S", 0.05)
    monkeypatch.setattr(outbox_writer, "_AGAIN_S", 0.05)
    writer = make()
    with monkeypatch.context() as broken:
        broken.setattr(Outbox, "append", raising(Transient("SQLITE_FULL")))
        broken.setattr(Outbox, "set_meta", raising(Transient("SQLITE_FULL")))
        with pytest.raises(Transient):
            await writer.submit([row(1)], [])
        await asyncio.sleep(0.3)  # several times the pause: it is tried again, and fails
        assert writer.trouble is not None
    await soon(lambda: writer.trouble is None)


async def test_damaged_and_no_space_for_the_salvage_it_waits_for_space(make, path, monkeypatch):
    """The thread died of a checkpoint on the closed file."""
    monkeypatch.setattr(outbox_writer, "_AGAIN_S", 0.05)
    writer = make()
    await writer.submit([row(1)], [])
    with monkeypatch.context() as full:
        tries = []

        def no_space(path, why, wall_ms, say):
            tries.append(why)
            raise Transient("the outbox cannot be written: database or disk is full (SQLITE_FULL)")

        full.setattr(outbox_start, "mend_outbox", no_space)
        # The file is damaged for whoever opens it, too.
        full.setattr(outbox_start, "Outbox", raising(OutboxDamaged("malformed")))
        full.setattr(Dispatcher, "cycle", raising(OutboxDamaged("malformed")))
        await soon(lambda: len(tries) >= 3)
        assert writer.trouble is not None
        assert "full" in writer.trouble
        with pytest.raises(Transient):
            await writer.submit([row(2)], [])

    async def again() -> None:
        with contextlib.suppress(Transient):
            await writer.submit([row(2)], [])

    await soon(lambda: writer.ledger().accepted[3] >= 2, again)
    assert writer.trouble is None
    assert writer.ledger().balances()
