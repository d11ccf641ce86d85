"""From readings to changes of stock: each change once, in whatever way the readings come."""

from itertools import pairwise
from typing import Any

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from control_plane.analytics.forwarder import STRETCHES, Adjustment, Forwarder, RuleState
from control_plane.analytics.job import MemoryState
from control_plane.analytics.records import NormalizedReading, Quality
from control_plane.analytics.rules import Late, Level, Op, Rule
from shared.batch import ClockQuality, Lane
from shared.envelope import rfc3339
from shared.pseudonym import pseudonym
from shared.reading import MetricValue

START_MS = 1_767_225_600_000
KEY = bytes(range(32))


def rule(**changes: Any) -> Rule:
    facts = {
        "id": "r1", "device_type": "gate", "metric": "closed", "op": Op.EQUAL, "threshold": True, "sku": "PALLET",
        "location": "dock-4", "unit": "pcs", "quantity": -1.0,
    }  # fmt: skip
    return Rule(**(facts | changes))


def level_rule(**changes: Any) -> Rule:
    facts = {
        "metric": "kg", "op": Op.AT_LEAST, "threshold": 0.0, "quantity": None, "unit": "kg",
        "level": Level("kg", dead_band=1.0),
    }  # fmt: skip
    return rule(**(facts | changes))


class Bench:
    """A forwarder with these rules and one device's state."""

    def __init__(self, *rules: Rule) -> None:
        self.state = MemoryState()
        self.now_ms = 0
        self.forwarder = Forwarder(lambda: {"gate": rules}, lambda device: pseudonym(KEY, device))

    def at(
        self,
        at_ms: int,
        value: MetricValue,
        lane: Lane = Lane.LIVE,
        device_type: str | None = "gate",
        metric: str | None = None,
        received_ms: int | None = None,
        **more: MetricValue,
    ) -> list[Adjustment]:
        self.now_ms = max(self.now_ms, at_ms)
        name = metric or ("closed" if isinstance(value, bool) else "kg")
        item = NormalizedReading(
            device_id="dev-1",
            device_type=device_type,
            ts=rfc3339(START_MS + at_ms),
            ts_raw=at_ms,
            received_at=rfc3339(START_MS + (self.now_ms if received_ms is None else received_ms)),
            metrics={name: value, **more},
            lane=lane,
            quality=Quality(ClockQuality.SYNCED, None, ()),
        )
        return self.forwarder.forward(item, self.state)

    def deltas(self, *readings: tuple[Any, ...]) -> list[float]:
        return [found.record.delta for item in readings for found in self.at(*item)]


def test_an_adjustment_says_what_inventory_needs_and_nothing_of_the_device() -> None:
    bench = Bench(rule())
    bench.at(0, False)
    found = bench.at(1_000, True)
    source = pseudonym(KEY, "dev-1")
    assert msgspec.to_builtins(found[0].record) == {
        "sku": "PALLET",
        "location": "dock-4",
        "delta": -1.0,
        "unit": "pcs",
        "reason": "sensor",
        "occurred_at": rfc3339(START_MS + 1_000),
        "source_pseudonym": source,
    }
    assert found[0].ce_id == f"{source}:r1:{START_MS + 1_000}"
    assert "dev-1" not in repr(found)


def test_a_quantity_is_emitted_at_each_onset() -> None:
    held = [False, True, True, False, True, False, False, True]
    assert Bench(rule()).deltas(*((step * 1_000, value) for step, value in enumerate(held))) == [-1.0] * 3


def test_what_is_seen_first_is_no_change() -> None:
    assert Bench(rule()).deltas((0, True), (1_000, True)) == []


def test_other_types_metrics_and_kinds_of_value_are_not_concerned() -> None:
    bench = Bench(rule())
    bench.at(0, False)
    assert bench.at(1_000, True, device_type="door") == []
    assert bench.at(1_000, True, device_type=None) == []
    assert bench.at(1_000, True, metric="open") == []
    assert bench.at(1_000, "yes", metric="closed") == []
    assert len(bench.at(1_000, True)) == 1


def test_a_condition_must_hold_for_the_debounce() -> None:
    bench = Bench(rule(debounce_s=2.0))
    assert bench.deltas((0, False), (1_000, True), (2_000, True), (2_500, False), (3_000, True), (4_900, True)) == []
    found = bench.at(5_000, True)
    assert [item.record.occurred_at for item in found] == [rfc3339(START_MS + 3_000)]


def test_the_release_is_debounced_too() -> None:
    bench = Bench(rule(debounce_s=2.0))
    assert bench.deltas((0, False), (1_000, True), (3_000, True)) == [-1.0]
    assert bench.deltas((4_000, False), (5_000, True), (8_000, True)) == []
    assert bench.deltas((9_000, False), (11_000, False), (12_000, True), (14_000, True)) == [-1.0]


def test_a_repeat_changes_nothing() -> None:
    bench = Bench(rule())
    once = [(0, False), (1_000, True), (2_000, False)]
    assert bench.deltas(*once) == [-1.0]
    before = dict(bench.state.values)
    assert bench.deltas(*once) == []
    assert bench.state.values == before


def test_a_reading_that_tells_nothing_new_is_not_written() -> None:
    bench = Bench(rule())
    bench.deltas((0, False), (1_000, True))
    written: list[bytes] = []
    bench.state.set = lambda name, value: written.append(name)  # type: ignore[method-assign, assignment]
    bench.deltas((1_000, True), (500, False))
    assert written == []


def test_rules_do_not_disturb_one_another() -> None:
    bench = Bench(rule(), rule(id="r2", sku="BOX", quantity=4.0))
    bench.at(0, False)
    assert [(item.record.sku, item.record.delta) for item in bench.at(1_000, True)] == [
        ("PALLET", -1.0),
        ("BOX", 4.0),
    ]


def test_late_readings_are_ignored_unless_the_rule_counts_them() -> None:
    pressed = [(1_000, False), (10_000, False), (2_000, False), (3_000, True), (4_000, False)]
    assert Bench(rule()).deltas(*pressed) == []
    assert Bench(rule(late=Late.COUNT)).deltas(*pressed) == [-1.0]


def test_a_replayed_reading_that_is_the_newest_counts_only_where_late_ones_do() -> None:
    replayed = [(0, False, Lane.REPLAY), (1_000, True, Lane.REPLAY)]
    assert Bench(rule()).deltas(*replayed) == []
    assert Bench(rule(late=Late.COUNT)).deltas(*replayed) == [-1.0]


def test_an_onset_that_reaches_from_the_outage_into_the_present_counts_once() -> None:
    bench = Bench(rule(late=Late.COUNT))
    assert bench.deltas((0, False), (1_000, False), (9_000, True)) == [-1.0]
    assert bench.deltas((5_000, False, Lane.REPLAY), (6_000, True, Lane.REPLAY), (7_000, True, Lane.REPLAY)) == []


def test_a_release_within_the_outage_shows_two_onsets() -> None:
    bench = Bench(rule(late=Late.COUNT))
    assert bench.deltas((0, False), (1_000, True), (9_000, True)) == [-1.0]
    assert bench.deltas((5_000, True, Lane.REPLAY), (6_000, False, Lane.REPLAY), (7_000, True, Lane.REPLAY)) == [-1.0]


def test_a_late_repeat_changes_nothing() -> None:
    bench = Bench(rule(late=Late.COUNT))
    bench.deltas((0, False), (1_000, False), (9_000, False))
    late = [(3_000, False, Lane.REPLAY), (4_000, True, Lane.REPLAY), (5_000, False, Lane.REPLAY)]
    assert bench.deltas(*late) == [-1.0]
    assert bench.deltas(*late) == []


def test_gaps_of_one_reading_are_told_apart() -> None:
    bench = Bench(rule(late=Late.COUNT))
    readings = [(0, False), (1_000, False), (3_000, False), (2_000, True, Lane.REPLAY), (5_000, True)]
    assert bench.deltas(*readings, (4_000, False, Lane.REPLAY)) == [-1.0, -1.0]


def test_a_long_outage_does_not_hide_the_next_short_ones() -> None:
    bench = Bench(rule(late=Late.COUNT))
    second = 0
    found: list[float] = []

    def live(count: int) -> None:
        nonlocal second
        for _ in range(count):
            second += 1
            found.extend(bench.deltas((second * 1_000, False)))

    live(5)
    second += 3_600
    for _ in range(2):
        live(3)
        second += 10
        live(1)
        found += bench.deltas(((second - 2) * 1_000, True, Lane.REPLAY))
    assert found == [-1.0, -1.0]


def test_a_late_reading_inside_a_stretch_is_between_its_own() -> None:
    bench = Bench(rule(late=Late.COUNT))
    bench.deltas(*((step * 1_000, step == 6) for step in range(7)))
    assert bench.deltas((2_500, True, Lane.REPLAY)) == [-1.0]


def test_a_late_reading_before_everything_remembered_is_not_counted() -> None:
    bench = Bench(rule(late=Late.COUNT))
    for step in range(4 * STRETCHES):
        bench.at(100_000 + step * 1_000, step % 2 == 1)
    assert bench.deltas((1_000, False, Lane.REPLAY), (2_000, True, Lane.REPLAY), (3_000, False, Lane.REPLAY)) == []
    assert max(map(len, bench.state.values.values())) < 40 * STRETCHES


def test_late_ids_differ_from_live_ones() -> None:
    bench = Bench(rule(late=Late.COUNT))
    bench.deltas((0, False), (9_000, True))
    bench.at(4_000, False, Lane.REPLAY)
    late = [item.ce_id for step in (5_000, 6_000) for item in bench.at(step, step == 5_000, Lane.REPLAY)]
    assert late == [f"{pseudonym(KEY, 'dev-1')}:r1:{START_MS + 6_000}:late"]


HELD = st.booleans()


@given(
    st.lists(st.tuples(st.lists(HELD, min_size=2, max_size=12), st.lists(HELD, min_size=1, max_size=12)), max_size=6)
)
@example([([False, False], [False])] * 4 + [([False, True], [False]), ([True, True], [False, False])])
@settings(max_examples=300)
def test_live_first_and_the_backlog_later_count_as_in_order(parts: list[tuple[list[bool], list[bool]]]) -> None:
    """Live stretches, each followed by an outage, whose readings come when the next stretch is over."""
    in_order = [False, *(held for part in parts for stretch in part for held in stretch), True, False]
    delivered: list[tuple[int, bool, Lane]] = [(0, False, Lane.LIVE)]
    backlog: list[tuple[int, bool, Lane]] = []
    step = 1
    for live, outage in [*parts, ([True, False], [])]:
        delivered += [(1_000 * (step + index), held, Lane.LIVE) for index, held in enumerate(live)] + backlog
        step += len(live)
        backlog = [(1_000 * (step + index), held, Lane.REPLAY) for index, held in enumerate(outage)]
        step += len(outage)
    bench = Bench(rule(late=Late.COUNT, quantity=1.0))
    assert sum(bench.deltas(*delivered)) == sum(not before and after for before, after in pairwise(in_order))


def test_a_level_is_forwarded_by_its_changes() -> None:
    bench = Bench(level_rule())
    levels = [100.0, 100.4, 99.2, 98.9, 98.5, 120.0]
    assert bench.deltas(*((step * 1_000, level) for step, level in enumerate(levels))) == pytest.approx([-1.1, 21.1])


def test_a_level_must_settle() -> None:
    bench = Bench(level_rule(debounce_s=5.0))
    touched = [(0, 100.0), (1_000, 140.0), (2_000, 139.8), (3_000, 90.0), (4_000, 80.0), (8_900, 80.3)]
    assert bench.deltas(*touched) == []
    found = bench.at(9_000, 80.2)
    assert [(item.record.delta, item.record.occurred_at) for item in found] == [
        (pytest.approx(-19.8), rfc3339(START_MS + 4_000))
    ]


def test_a_level_that_came_back_is_no_change() -> None:
    bench = Bench(level_rule(debounce_s=5.0))
    assert bench.deltas((0, 100.0), (1_000, 80.0), (4_000, 100.3), (7_000, 80.0), (11_000, 80.0)) == []


def test_a_level_counts_only_while_its_condition_holds() -> None:
    bench = Bench(level_rule(metric="closed", op=Op.EQUAL, threshold=True))
    assert bench.deltas((0, 100.0)) == []
    assert [found.record.delta for found in bench.at(1_000, True, kg=100.0)] == []
    assert [found.record.delta for found in bench.at(2_000, False, kg=50.0)] == []
    assert [found.record.delta for found in bench.at(3_000, True, kg=80.0)] == [-20.0]


def test_a_scale_turns_the_level_into_units() -> None:
    bench = Bench(level_rule(level=Level("kg", dead_band=1.0, scale=4.0)))
    assert bench.deltas((0, 10.0), (1_000, 12.5)) == [10.0]


def test_a_late_level_changes_nothing() -> None:
    bench = Bench(level_rule(late=Late.COUNT))
    assert bench.deltas((0, 10.0), (9_000, 20.0), (5_000, 90.0, Lane.REPLAY), (9_000, 90.0)) == [10.0]


def test_deltas_are_round_and_what_rounding_leaves_is_not_lost() -> None:
    assert Bench(level_rule(level=Level("kg", dead_band=0.1))).deltas((0, 0.1), (1_000, 0.3)) == [0.2]
    levels = [step * 1.0000004 for step in range(1_001)]
    total = sum(Bench(level_rule()).deltas(*((step * 1_000, level) for step, level in enumerate(levels))))
    assert total == pytest.approx(levels[-1], abs=1e-6)


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=80), st.sampled_from([1.0, 0.1, 3.0, -7.0]))
def test_the_sum_of_deltas_is_the_level_gone(levels: list[float], scale: float) -> None:
    bench = Bench(level_rule(op=Op.AT_LEAST, threshold=-1e9, level=Level("kg", dead_band=0.5, scale=scale)))
    total = sum(bench.deltas(*((step * 1_000, level) for step, level in enumerate(levels))))
    assert abs(total / scale - (levels[-1] - levels[0])) < 0.5 + 1e-3


@given(st.lists(st.tuples(st.integers(0, 60), st.booleans(), st.sampled_from(Lane)), max_size=80), st.floats(0, 5))
def test_nothing_that_comes_in_breaks_it(readings: list[tuple[int, bool, Lane]], debounce_s: float) -> None:
    bench = Bench(rule(late=Late.COUNT, quantity=1.0, debounce_s=debounce_s))
    ids = [found.ce_id for second, value, lane in readings for found in bench.at(second * 1_000, value, lane)]
    assert len(set(ids)) == len(ids)


HOUR_MS = 3_600_000


@pytest.mark.parametrize("late", list(Late))
def test_one_reading_dated_ahead_silences_no_rule(late: Late) -> None:
    bench = Bench(rule(late=late))
    assert bench.deltas((0, False), (1_000, True), (2_000, False)) == [-1.0]
    bench.at(20 * HOUR_MS, False, received_ms=3_000)
    bench.now_ms = 3_000
    later = [(4_000, False), (5_000, True), (6_000, True), (7_000, False), (8_000, True)]
    assert bench.deltas(*later) == [-1.0, -1.0]
    state = msgspec.msgpack.decode(bench.state.values[b"i:r1"], type=RuleState)
    assert state.newest_ms == START_MS + 8_000
    assert all(stretch.last_ms <= START_MS + 8_000 for stretch in state.stretches)


def test_a_debounce_that_began_ahead_begins_anew() -> None:
    bench = Bench(rule(debounce_s=2.0))
    bench.at(0, False)
    bench.at(HOUR_MS, True, received_ms=1_000)
    bench.now_ms = 1_000
    assert bench.deltas((2_000, True), (3_000, True)) == []
    assert bench.deltas((4_000, True)) == [-1.0]


def test_one_level_dated_ahead_does_not_hold_the_level_fast() -> None:
    bench = Bench(level_rule(debounce_s=2.0))
    bench.at(0, 10.0)
    bench.at(HOUR_MS, 20.0, received_ms=1_000)
    bench.now_ms = 1_000
    assert bench.deltas((2_000, 7.0), (3_000, 7.0), (4_000, 7.0)) == [-3.0]


def test_what_fills_a_gap_counts_as_before_after_a_reading_dated_ahead() -> None:
    bench = Bench(rule(late=Late.COUNT))
    bench.deltas((0, False), (1_000, False), (2_000, False))
    bench.at(HOUR_MS, False, received_ms=2_500)
    bench.now_ms = 2_500
    # An outage from 3 s to 60 s; live first, the backlog after it.
    assert bench.deltas((60_000, False), (61_000, False)) == []
    assert bench.deltas((10_000, True, Lane.REPLAY), (11_000, False, Lane.REPLAY)) == [-1.0]


def test_a_dead_letter_that_comes_back_with_its_old_receipt_forgets_nothing() -> None:
    bench = Bench(rule())
    bench.deltas((0, False), (60_000, True))
    before = dict(bench.state.values)
    assert bench.at(1_000, False, Lane.REPLAY, received_ms=1_000) == []
    assert bench.state.values == before


@pytest.mark.parametrize("late", list(Late))
def test_repeats_with_their_old_receipt_are_known_as_late(late: Late) -> None:
    """What was received long ago proves nothing of the times that came since."""
    bench = Bench(rule(late=late))
    once = [(step * 10_000, step % 2 == 1) for step in range(12)]
    assert bench.deltas(*once) == [-1.0] * 6
    again = [found for at_ms, value in once for found in bench.at(at_ms, value, received_ms=at_ms)]
    assert again == []
