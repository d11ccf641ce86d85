import pytest
from hypothesis import given
from hypothesis import strategies as st

from control_plane.analytics import event_time
from control_plane.analytics.event_time import (
    AHEAD_MS,
    LATEST_MS,
    PLAUSIBLE_FROM_MS,
    Rules,
    normalise,
    skew_of,
    was_ahead,
    with_sample,
)
from control_plane.analytics.records import Flag
from shared.batch import ClockQuality
from shared.envelope import rfc3339

NOW = 1_790_000_000_000
HOUR, DAY, YEAR = 3_600_000, 86_400_000, 365 * 86_400_000
SYNCED, UNSYNCED, CORRECTED = ClockQuality.SYNCED, ClockQuality.UNSYNCED, ClockQuality.CORRECTED
RULES = Rules()
WRONG, MENDED, DRIFT = Flag.TS_IMPLAUSIBLE, Flag.SKEW_CORRECTED, Flag.DRIFT


@pytest.mark.parametrize(
    ("ts", "skew", "clock", "accepted", "received", "wanted"),
    [
        # sane
        (NOW, None, SYNCED, NOW, NOW, (NOW, ())),
        (NOW, 30, SYNCED, NOW, NOW, (NOW, ())),
        (NOW, 2_000, SYNCED, NOW, NOW, (NOW, ())),
        (NOW - 3 * HOUR, 0, SYNCED, NOW, NOW, (NOW - 3 * HOUR, ())),  # delivered late: the device's time stays
        (NOW - YEAR, None, SYNCED, NOW, NOW, (NOW - YEAR, ())),
        (NOW + 23 * HOUR, None, SYNCED, NOW, NOW, (NOW + 23 * HOUR, ())),
        # an offset beyond the threshold is taken off
        (NOW + 3_000, 3_000, SYNCED, NOW, NOW, (NOW, (MENDED,))),
        (NOW + 6_000, 6_000, SYNCED, NOW, NOW, (NOW, (DRIFT, MENDED))),
        (NOW - HOUR, -HOUR, CORRECTED, NOW, NOW, (NOW, (DRIFT, MENDED))),
        (NOW + HOUR - 600_000, HOUR, SYNCED, NOW, NOW + 9, (NOW - 600_000, (DRIFT, MENDED))),
        # the estimate is out of date: taking it off would lead into the future
        (NOW, -HOUR, SYNCED, NOW, NOW, (NOW, (DRIFT,))),
        # the gateway's clock cannot be trusted: its offset says nothing, its acceptance is no time
        (NOW - 5_000, 9_000, UNSYNCED, 7_000, NOW, (NOW - 5_000, ())),
        (5_000, 9_000, UNSYNCED, 7_000, NOW, (NOW, (WRONG,))),
        (NOW, 9_000, SYNCED, 7_000, NOW, (NOW, ())),
        (NOW, 9_000, SYNCED, NOW + 2 * DAY, NOW, (NOW, ())),
        # impossible
        (0, None, SYNCED, NOW - 500, NOW, (NOW - 500, (WRONG,))),
        (PLAUSIBLE_FROM_MS - 1, None, SYNCED, NOW, NOW, (NOW, (WRONG,))),
        (PLAUSIBLE_FROM_MS, None, SYNCED, NOW, NOW, (PLAUSIBLE_FROM_MS, ())),
        (NOW + DAY, None, SYNCED, NOW, NOW, (NOW + DAY, ())),
        (NOW + DAY + 1, None, SYNCED, NOW, NOW, (NOW, (WRONG,))),
        (0, -300, SYNCED, NOW, NOW, (NOW - 300, (WRONG,))),  # minus the known offset
        (0, HOUR, SYNCED, NOW, NOW, (NOW, (WRONG, DRIFT))),  # an offset of another time
        # a clock that counts from 1970 but steadily: the readings' distances are kept
        (90_000, -NOW + 100_000, SYNCED, NOW, NOW, (NOW - 10_000, (WRONG, DRIFT, MENDED))),
    ],
)
def test_the_time_of_a_reading(ts, skew, clock, accepted, received, wanted):
    assert normalise(ts, skew, clock, accepted, received, RULES) == wanted


MS = st.integers(0, LATEST_MS)


@given(MS, st.none() | st.integers(-(10**15), 10**15), st.sampled_from(ClockQuality), MS, MS)
def test_every_normalised_time_is_plausible_and_can_be_written(ts, skew, clock, accepted, received):
    made, flags = normalise(ts, skew, clock, accepted, received, RULES)
    assert rfc3339(made)
    if not flags:
        assert made == ts
    reference = max(accepted, received)
    assert made <= reference + DAY + RULES.correct_ms
    if Flag.SKEW_CORRECTED in flags:
        assert made == ts - skew


def samples_of(offsets, every_ms=2_000):
    samples = ()
    for n, offset in enumerate(offsets):
        received = NOW + n * every_ms
        samples = with_sample(samples, received, received + offset) or samples
    return samples


def test_an_offset_needs_enough_samples_that_agree():
    assert skew_of(samples_of([5_000] * 4), RULES) is None
    assert skew_of(samples_of([5_000, 4_980, 5_010, 4_990, 5_005]), RULES) == 5_000
    assert skew_of(samples_of([0, 90_000, 20_000, 50_000, 10]), RULES) is None


def test_samples_disagree_by_their_own_pace_and_by_what_would_be_corrected():
    assert skew_of(samples_of([0, 500, 1_000, 1_500, 2_000], every_ms=1_000), RULES) == 1_000
    assert skew_of(samples_of([0, 600, 1_200, 1_800, 2_400], every_ms=1_000), RULES) is None
    assert skew_of(samples_of([0, 600, 1_200, 1_800, 2_400], every_ms=60_000), RULES) == 1_200
    assert skew_of(samples_of([0, 1_100, 2_200, 3_300, 4_400], every_ms=60_000), RULES) is None


def test_one_late_delivery_does_not_move_the_offset():
    assert skew_of(samples_of([-50, -40, -60, -90_000, -45, -55, -50]), RULES) == -50


def test_a_backlog_that_is_worked_off_is_no_offset():
    # Every 2 s one sample; the readings behind them are 20 s apart.
    assert skew_of(samples_of([-HOUR + n * 18_000 for n in range(15)]), RULES) is None


def test_samples_are_few_and_the_newest():
    samples = samples_of(range(40))
    assert [offset for _, offset in samples] == list(range(25, 40))
    assert with_sample(samples, samples[-1][0] + 999, 0) is None
    assert with_sample(samples, samples[-1][0] + 1_000, 0) is not None
    assert with_sample(samples, samples[-1][0] - 5, 0) is not None  # the hub's own clock went back
    assert event_time.SAMPLES == 15


def test_a_newest_time_well_after_a_later_receipt_was_ahead():
    assert not was_ahead(NOW + AHEAD_MS, NOW, NOW)
    assert was_ahead(NOW + AHEAD_MS + 1, NOW, NOW)
    assert not was_ahead(NOW + DAY, NOW + 1, NOW)  # received before it: a repeat, which proves nothing
    assert not was_ahead(-1, -1, NOW)
