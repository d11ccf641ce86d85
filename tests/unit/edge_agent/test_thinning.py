import math
from collections import defaultdict

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.row import RowClass, StoredRow
from edge_agent.thinning import WINDOWS_MS, thin
from shared.batch import (
    AggregateRecord,
    BytesRecord,
    ClockQuality,
    EventRecord,
    ReadingRecord,
    decode_record,
    encode_record,
)

MINUTE = WINDOWS_MS[0]


def reading(seq: int, ts_ms: int, device: str = "d1", cls: RowClass = RowClass.TELEMETRY, **metrics) -> StoredRow:
    record = ReadingRecord(device, ts_ms + 5, ts_ms, ts_ms, metrics, None, None, ClockQuality.SYNCED, 0)
    return StoredRow(seq, cls, ts_ms + 5, seq, "boot", ClockQuality.SYNCED, encode_record(record))


def made(plan) -> list[AggregateRecord]:
    return [decode_record(row.record) for _, row in plan.made]


def test_readings_of_a_minute_become_one_aggregate_a_metric():
    rows = [reading(10 + n, n * 10_000, t=float(n), v=n) for n in range(12)]
    plan = thin(rows, MINUTE)
    assert plan.taken == tuple(range(10, 22))
    assert plan.counts == (0, 0, 0, 12, 0)
    assert [seq for seq, _ in plan.made] == [18, 19, 20, 21]
    assert made(plan) == [
        AggregateRecord("d1", 50_005, "t", 0, 50_000, 6, 0.0, 5.0, 2.5, ClockQuality.SYNCED),
        AggregateRecord("d1", 50_005, "v", 0, 50_000, 6, 0.0, 5.0, 2.5, ClockQuality.SYNCED),
        AggregateRecord("d1", 110_005, "t", 60_000, 110_000, 6, 6.0, 11.0, 8.5, ClockQuality.SYNCED),
        AggregateRecord("d1", 110_005, "v", 60_000, 110_000, 6, 6.0, 11.0, 8.5, ClockQuality.SYNCED),
    ]
    assert {row.cls for _, row in plan.made} == {RowClass.AGGREGATE}


def test_aggregates_are_aggregated_again_with_a_longer_window():
    first = thin([reading(n, n * 1_000, t=float(n)) for n in range(1, 1_200)], MINUTE)
    stored = [
        StoredRow(seq, row.cls, row.wall_ms, row.boot_ms, row.boot_id, row.clock, row.record)
        for seq, row in first.made
    ]
    assert len(stored) == 20
    second = thin(stored, WINDOWS_MS[1])
    assert [(one.count, one.min, one.max) for one in made(second)] == [(599, 1.0, 599.0), (600, 600.0, 1199.0)]
    assert second.counts == (0, 0, 0, 0, 20)


def test_what_is_precious_or_has_no_numbers_is_left_alone():
    event = encode_record(EventRecord("g", 1, "x", {}))
    raw = encode_record(BytesRecord("d1", 1, b"?", 1, "00"))
    others = [
        reading(1, 0, cls=RowClass.ALARM, t=1.0),
        reading(2, 0, cls=RowClass.ANOMALY, t=1.0),
        StoredRow(3, RowClass.EVENT, 0, 0, "b", ClockQuality.SYNCED, event),
        StoredRow(4, RowClass.TELEMETRY, 0, 0, "b", ClockQuality.SYNCED, raw),
        reading(5, 0, word="x", flag=True),
        StoredRow(6, RowClass.TELEMETRY, 0, 0, "b", ClockQuality.SYNCED, b"?"),
    ]
    assert thin(others, MINUTE) is None
    plan = thin([*others, *(reading(10 + n, n, t=1.0) for n in range(4))], MINUTE)
    assert plan.taken == (10, 11, 12, 13)


def test_a_plan_that_would_not_halve_the_rows_is_none():
    assert thin([reading(n, n * MINUTE, t=1.0) for n in range(10)], MINUTE) is None
    assert thin([reading(n, n * MINUTE // 2, t=1.0) for n in range(10)], MINUTE) is not None
    assert thin([], MINUTE) is None


def skewed(seq: int, at_ms: int, ts_ms: int, skew_ms: int | None, *, clock=ClockQuality.SYNCED, boot="b"):
    record = ReadingRecord("d1", at_ms, ts_ms, ts_ms, {"t": 1.0}, None, None, clock, skew_ms)
    return StoredRow(seq, RowClass.TELEMETRY, at_ms, at_ms, boot, clock, encode_record(record))


@pytest.mark.parametrize("skew_ms", [-50 * 365 * 86_400_000, 3_600_000])
def test_a_devices_wrong_clock_moves_no_aggregate(skew_ms):
    """It was windowed by the device's own time: a device of 1970 had aggregates of 1970, unmarked."""
    now = 1_790_000_060_000
    rows = [skewed(n, now + n * 1_000, now + n * 1_000 - 30 + skew_ms, skew_ms) for n in range(8)]
    (one,) = made(thin(rows, MINUTE))
    assert (one.from_ms, one.to_ms, one.at_ms) == (now - 30, now + 7_000 - 30, now + 7_000)
    assert one.clock is ClockQuality.SYNCED


def test_where_the_offset_is_unknown_the_acceptance_counts_and_nothing_is_measured_after_it():
    rows = [
        skewed(1, 10_000, 99, None),
        skewed(2, 11_000, 50_000, 0),
        skewed(3, 12_000, 5, 3_000),
        skewed(4, 13_000, 13_000, 0),
    ]
    (one,) = made(thin(rows, MINUTE))
    assert (one.from_ms, one.to_ms) == (0, 13_000)


def test_stamps_of_an_unset_clock_share_an_aggregate_with_their_own_boot_only():
    unset = ClockQuality.UNSYNCED
    rows = [
        *(skewed(n, n, n, 0, clock=unset, boot="b1") for n in range(1, 5)),
        *(skewed(n, n, n, 0, clock=unset, boot="b2") for n in range(5, 9)),
        *(skewed(n, n, n, 0, boot=f"b{n}") for n in range(9, 13)),
    ]
    plan = thin(rows, MINUTE)
    boots = [(row.boot_id, row.clock) for _, row in plan.made]
    assert boots == [("b1", unset), ("b2", unset), ("b12", ClockQuality.SYNCED)]
    assert [(one.clock, one.count) for one in made(plan)] == [(unset, 4), (unset, 4), (ClockQuality.SYNCED, 4)]


finite = st.floats(allow_nan=False, allow_infinity=False)
rows = st.lists(
    st.tuples(st.sampled_from("ab"), st.integers(0, 300_000), st.dictionaries(st.sampled_from("xy"), finite)),
    max_size=60,
)


@given(rows, st.sampled_from(WINDOWS_MS))
def test_every_number_stands_in_exactly_one_aggregate(given_rows, window_ms):
    stored = [reading(seq, ts, device, **metrics) for seq, (device, ts, metrics) in enumerate(given_rows, 1)]
    plan = thin(stored, window_ms)
    if plan is None:
        return
    numbers = defaultdict(list)
    for seq, (device, ts, metrics) in enumerate(given_rows, 1):
        for name, value in metrics.items():
            assert seq in plan.taken
            numbers[device, name, ts // window_ms].append(value)
    aggregates = {(one.device, one.metric, one.from_ms // window_ms): one for one in made(plan)}
    assert aggregates.keys() == numbers.keys()
    for key, one in aggregates.items():
        values = numbers[key]
        assert (one.count, one.min, one.max) == (len(values), min(values), max(values))
        assert one.min <= one.mean <= one.max
        if math.isfinite(sum(values)):
            assert one.mean == pytest.approx(sum(values) / len(values), rel=1e-9, abs=1e-9 * max(map(abs, values)))
        assert one.from_ms // window_ms == one.to_ms // window_ms
    seqs = [seq for seq, _ in plan.made]
    assert seqs == sorted(set(seqs))
    assert set(seqs) <= set(plan.taken)
    assert 2 * len(seqs) <= len(plan.taken)
