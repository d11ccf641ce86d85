import pytest

from edge_agent.correction import Fix, corrected
from edge_agent.row import Row, RowClass
from shared.batch import AggregateRecord, ClockQuality, EventRecord, ReadingRecord, decode_record, encode_record

ZERO = 1_700_000_000_000
FIX = Fix("boot", ZERO, 2_000)


def stored(record, clock=ClockQuality.UNSYNCED) -> Row:
    return Row(RowClass.TELEMETRY, 3_000, 2_000, "boot", clock, encode_record(record))


READING = ReadingRecord("d", 3_000, 5_000, 5_000, {"t": 1.0}, None, None, ClockQuality.UNSYNCED, 2_000)


def test_the_true_time_is_the_boots_zero_and_the_time_since():
    row = corrected(stored(READING), FIX)
    assert (row.wall_ms, row.boot_ms, row.clock) == (ZERO + 2_000, 2_000, ClockQuality.CORRECTED)
    record = decode_record(row.record)
    assert (record.at_ms, record.clock) == (ZERO + 2_000, ClockQuality.CORRECTED)
    assert record.ts_ms == 5_000, "what the device said stays"
    assert record.skew_ms == 5_000 - record.at_ms, "and so its offset changes"


def test_an_unknown_offset_stays_unknown_and_events_are_moved_too():
    import msgspec

    row = corrected(stored(msgspec.structs.replace(READING, skew_ms=None)), FIX)
    assert decode_record(row.record).skew_ms is None
    assert decode_record(corrected(stored(EventRecord("g", 3_000, "x", {})), FIX).record).at_ms == ZERO + 2_000


def test_an_aggregate_is_moved_whole():
    record = AggregateRecord("d", 3_000, "t", 1_000, 2_500, 9, 1.0, 2.0, 1.5, ClockQuality.UNSYNCED)
    moved = decode_record(corrected(stored(record), FIX).record)
    assert (moved.at_ms, moved.from_ms, moved.to_ms) == (ZERO + 2_000, ZERO, ZERO + 1_500)
    assert moved.clock is ClockQuality.CORRECTED


def test_what_needs_no_correction_or_is_no_record_is_left():
    assert corrected(stored(READING, ClockQuality.SYNCED), FIX) is None
    assert corrected(stored(READING, ClockQuality.CORRECTED), FIX) is None
    row = Row(RowClass.TELEMETRY, 1, 1, "boot", ClockQuality.UNSYNCED, b"?")
    assert corrected(row, FIX) is None


@pytest.mark.parametrize("fix", [Fix("another", ZERO, 2_000), Fix("boot", ZERO, 1_999)])
def test_a_fix_is_for_its_boot_and_for_what_was_stamped_before_it(fix):
    assert corrected(stored(READING), fix) is None
