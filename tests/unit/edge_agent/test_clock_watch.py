import asyncio
import logging

import pytest

from edge_agent.clock_watch import ClockWatch
from edge_agent.correction import Fix
from edge_agent.skew import SkewBook
from shared.batch import ClockQuality


class Clock:
    """A machine whose clock was never set: boot is all it knows."""

    def __init__(self) -> None:
        self.boot = 10_000
        self.zero = 0
        self.is_synced = False

    def wall_ms(self) -> int:
        return self.zero + self.boot

    def boot_ms(self) -> int:
        return self.boot

    def monotonic_s(self) -> float:
        return self.boot / 1_000

    def boot_id(self) -> str:
        return "boot-7"

    def synced(self) -> bool:
        return self.is_synced


class Rows:
    def __init__(self) -> None:
        self.corrected: list[Fix] = []

    def correct(self, fix: Fix) -> None:
        self.corrected.append(fix)


NOW = 1_790_000_000_000


@pytest.fixture
def clock() -> Clock:
    return Clock()


def watch(clock: Clock, skew: SkewBook | None = None) -> tuple[ClockWatch, Rows]:
    rows = Rows()
    return ClockWatch(clock, skew or SkewBook(), rows.correct), rows


def test_rows_of_this_boot_are_corrected_once_when_the_clock_becomes_synced(clock: Clock) -> None:
    watched, rows = watch(clock)
    assert watched.quality is ClockQuality.UNSYNCED
    clock.boot += 60_000
    watched.check()
    assert rows.corrected == []
    clock.zero = NOW
    clock.is_synced = True
    watched.check()
    watched.check()
    assert rows.corrected == [Fix("boot-7", NOW, 70_000)]
    assert watched.quality is ClockQuality.SYNCED


def test_a_clock_found_synced_corrects_what_an_earlier_process_of_this_boot_left(clock: Clock) -> None:
    clock.is_synced, clock.zero = True, NOW
    watched, rows = watch(clock)
    assert rows.corrected == [Fix("boot-7", NOW, 10_000)]
    clock.zero += 5_000
    watched.check()
    assert len(rows.corrected) == 1


def test_losing_and_regaining_synchronisation_corrects_again(clock: Clock) -> None:
    clock.is_synced, clock.zero = True, NOW
    watched, rows = watch(clock)
    clock.is_synced = False
    watched.check()
    assert watched.quality is ClockQuality.UNSYNCED
    clock.is_synced, clock.zero = True, NOW + 40
    watched.check()
    assert rows.corrected[1:] == [Fix("boot-7", NOW + 40, 10_000)]


def test_a_step_moves_device_offsets_and_is_told(clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    skew = SkewBook()
    clock.zero, clock.is_synced = NOW, True
    for number in range(5):
        skew.observe("a", NOW + number * 1_000 + 70, NOW + number * 1_000)
    watched, _ = watch(clock, skew)
    clock.zero += 3_600_000
    with caplog.at_level(logging.WARNING, "events"):
        watched.check()
    assert [record.msg for record in caplog.records] == ["clock_stepped"]
    assert caplog.records[0].event_fields == {"step_ms": 3_600_000}
    later = NOW + 3_600_000 + 9_000
    assert skew.observe("a", later - 3_600_000 + 70, later) == 70 - 3_600_000


def test_slewing_is_no_step(clock: Clock) -> None:
    skew = SkewBook()
    clock.zero = NOW
    for number in range(5):
        skew.observe("a", NOW + number * 1_000, NOW + number * 1_000)
    watched, _ = watch(clock, skew)
    for _ in range(100):
        clock.zero += 20
        clock.boot += 1_000
        watched.check()
    assert skew.worst_ms() == 0


async def test_it_serves_until_it_is_stopped(clock: Clock) -> None:
    watched, rows = watch(clock)
    stopping = asyncio.Event()
    clock.is_synced = True
    task = asyncio.ensure_future(watched.serve(stopping))
    async with asyncio.timeout(5):
        while not rows.corrected:
            await asyncio.sleep(0)
        stopping.set()
        await task
