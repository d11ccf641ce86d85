import math
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_agent.anomaly.residuals import BOOT, NAMES
from edge_agent.anomaly.streams import DAY_ONE, LINE, LINE_RATE, NO_LINE, ORDINARY, Channel, alarm_line

FIVE_MIN_S = 300.0
DAY = 288


def weather(rows: int, seed: int = 1) -> list[float]:
    """A day's swing, wandering weather, sensor noise; one sample in five minutes."""
    draw = Random(seed)
    away, values = 0.0, []
    for row in range(rows):
        away = 0.999 * away + draw.gauss(0, 0.08)
        values.append(round(20 + 6 * math.sin(2 * math.pi * row / DAY) + away + draw.gauss(0, 0.1), 2))
    return values


def learned(values: list[float], interval_s: float = FIVE_MIN_S) -> Channel:
    channel = Channel()
    for row, value in enumerate(values):
        channel.learn(row * interval_s, value)
    return channel


def scores(channel: Channel, values: list[float], start: int, interval_s: float = FIVE_MIN_S):
    return [channel.observe((start + row) * interval_s, value) for row, value in enumerate(values)]


ROWS = 12 * DAY
PAST = weather(ROWS + DAY)


@pytest.fixture
def channel() -> Channel:
    return learned(PAST[:ROWS])


def test_a_quiet_day_stays_below_the_line(channel: Channel) -> None:
    found = scores(channel, PAST[ROWS:], ROWS)
    assert max(score for score, _, _ in found) < channel.line


@pytest.mark.parametrize(
    ("name", "spoil", "within", "reasons"),
    [
        ("spike", lambda row, value, draw: value + (2.0 if row == 10 else 0.0), 0, {"jump"}),
        ("glitch", lambda row, value, draw: -127.0 if row == 10 else value, 0, {"jump", "level", "clock"}),
        ("level shift", lambda row, value, draw: value + (2.0 if row >= 10 else 0.0), 0, {"jump"}),
        (
            "noise burst",
            lambda row, value, draw: value + (draw.gauss(0, 1) if row >= 10 else 0),
            4,
            {"jump", "noise"},
        ),
        ("stuck", lambda row, value, draw: 20.01 if row >= 10 else value, 20, {"stuck", "jump"}),
        ("drift", lambda row, value, draw: value + max(0, row - 10) * 0.05, 200, {"clock", "clock48", "level"}),
    ],
)
def test_each_kind_of_fault_is_found(channel: Channel, name, spoil, within, reasons) -> None:
    draw = Random(1)
    values = [spoil(row, value, draw) for row, value in enumerate(PAST[ROWS : ROWS + 260])]
    if name == "stuck":
        values[10:] = [values[10]] * 250
    found = [
        (row, reason) for row, (score, reason, _) in enumerate(scores(channel, values, ROWS)) if score >= channel.line
    ]
    assert found, name
    assert 10 <= found[0][0] <= 10 + within
    assert found[0][1] in reasons


def test_a_sample_is_scored_before_it_is_learned(channel: Channel) -> None:
    """Its own value does not lower its score: what `judge` says beforehand is what `observe` says."""
    at_s = ROWS * FIVE_MIN_S
    spike = PAST[ROWS] + 5.0
    before = channel.judge(at_s, spike)
    assert before[0] > channel.line
    assert channel.observe(at_s, spike) == before


def test_judging_changes_nothing(channel: Channel) -> None:
    other = learned(PAST[:ROWS])
    for value in (-127.0, 1e300, 20.0):
        channel.judge(ROWS * FIVE_MIN_S, value)
    assert scores(channel, PAST[ROWS:], ROWS) == scores(other, PAST[ROWS:], ROWS)


def test_a_few_episodes_do_not_blunt_it(channel: Channel) -> None:
    values = list(PAST[ROWS:])
    for row in (20, 60, 100, 140):
        values[row] += 3.0
    found = scores(channel, values, ROWS)
    assert all(found[row][0] > channel.line for row in (20, 60, 100, 140))


def test_nor_do_many_in_one_disturbance() -> None:
    """At five readings a second, twelve spikes within three minutes: the last scores almost as the first."""
    channel = learned(PAST[:ROWS], 0.2)
    values = weather(ROWS + 960)[ROWS:]
    at = range(40, 960, 80)
    for row in at:
        values[row] += 3.0
    found = [scores_[0] for scores_ in scores(channel, values, ROWS, 0.2)]
    assert found[at[-1]] > 0.7 * found[at[0]]


def test_nor_do_noise_bursts_soon_after_the_beginning() -> None:
    """What surrounds an alarming sample is not learned as if it were ordinary either."""
    channel = learned(PAST[:600], 0.2)
    draw = Random(1)
    values = weather(2_200)[600:]
    for burst in range(80, 1_500, 120):
        for row in range(burst, burst + 40):
            values[row] += draw.gauss(0, 15)
    values[1_590] += 15.0
    found = scores(channel, values, 600, 0.2)
    assert found[1_590][0] > 1.5 * channel.line


def test_what_comes_again_for_hours_is_learned() -> None:
    """A jump up and down every five hours is an alarm at first, and later a part of the channel's life."""
    channel = learned(PAST[:ROWS])
    values = weather(ROWS + 20 * DAY)[ROWS:]
    at = range(40, 20 * DAY, 60)
    for row in at:
        values[row] += 3.0
    found = [scores_[0] for scores_ in scores(channel, values, ROWS)]
    assert found[at[0]] > channel.line
    assert sum(found[row] >= channel.line for row in at[-20:]) <= 2


def test_a_glitch_does_not_poison_what_follows(channel: Channel) -> None:
    values = list(PAST[ROWS:])
    values[20], values[21], values[40] = -127.0, -127.0, 85.0
    found = scores(channel, values, ROWS)
    assert max(score for row, (score, _, _) in enumerate(found) if row not in {20, 21, 40}) < channel.line


def test_a_level_shift_is_the_new_normal_after_its_alarm(channel: Channel) -> None:
    found = scores(channel, [value + 8.0 for value in PAST[ROWS:]], ROWS)
    assert found[0][0] > channel.line
    assert max(score for score, _, _ in found[6:]) < channel.line


def test_lasting_noise_is_learned(channel: Channel) -> None:
    draw = Random(2)
    rows = 10 * DAY
    calm = weather(ROWS + rows)[ROWS:]
    found = scores(channel, [value + draw.gauss(0, 2) for value in calm], ROWS)
    late = [score for score, _, _ in found[-3 * DAY :]]
    assert found[5][0] > channel.line or max(score for score, _, _ in found[:10]) > channel.line
    assert sum(score >= channel.line for score in late) <= 2


def test_the_reason_and_what_was_expected(channel: Channel) -> None:
    last = channel.past.last
    score, reason, expected = channel.judge(ROWS * FIVE_MIN_S, last + 3.0)
    assert (reason, expected) == ("jump", last)
    assert reason in NAMES
    assert score > 0


def test_ordinary_samples_have_no_reason(channel: Channel) -> None:
    assert channel.judge(ROWS * FIVE_MIN_S, channel.past.last) == ORDINARY


def test_before_it_has_seen_enough_it_says_nothing() -> None:
    channel = Channel()
    for row in range(BOOT):
        assert channel.observe(row * 1.0, 1e6 * (-1) ** row) == ORDINARY
        assert row == BOOT - 1 or channel.line == NO_LINE


def test_on_the_first_day_the_slow_streams_are_quiet() -> None:
    """The first morning's rise is further from all that was seen, and no alarm: twelve channels, two days each."""
    for seed in range(12):
        channel = Channel()
        for row, value in enumerate(weather(2 * DAY, seed)):
            score, reason, _ = channel.observe(row * FIVE_MIN_S, value)
            assert score < channel.line, (seed, row, reason)


def test_yet_a_jump_on_the_first_day_speaks() -> None:
    channel = learned(weather(100))
    assert channel.judge(100 * FIVE_MIN_S, 40.0)[0] > channel.line


def test_the_clock_streams_wait_for_enough_days() -> None:
    """At five readings a second a warm-up covers minutes, and the time of day has no say."""
    channel = learned(PAST[:ROWS], 0.2)
    assert max(channel.weights[-2:]) == 0.0
    assert learned(PAST[: 3 * DAY]).weights[-1] == 0.0
    assert learned(PAST[: 7 * DAY]).weights[-1] == 1.0


def test_a_time_of_day_that_is_wrong_is_found(channel: Channel) -> None:
    """Values that are ordinary at noon are not at midnight: frozen weather of twelve hours ago, slowly reached."""
    start = ROWS
    low = min(PAST[ROWS:])
    values = [value + (low - value) * min(1.0, row / 40) for row, value in enumerate(PAST[ROWS : ROWS + 130])]
    found = [(score, reason) for score, reason, _ in scores(channel, values, start)]
    assert any(score > channel.line and reason.startswith("clock") for score, reason in found)


def test_a_counter_and_a_constant_are_ordinary() -> None:
    for values in ([float(row) for row in range(6_000)], [5.0] * 6_000):
        channel = Channel()
        worst = 0.0
        for row, value in enumerate(values):
            score, _, _ = channel.observe(row * 1.0, value)
            worst = max(worst, score / channel.line)
        assert worst < 1.0


def test_the_line_is_higher_for_fast_and_for_young_channels() -> None:
    assert alarm_line(300.0, 10_000) == LINE
    assert alarm_line(3_600.0, 10_000) == LINE
    assert alarm_line(3.0, 10_000) == pytest.approx(LINE + 2 * LINE_RATE)
    assert alarm_line(300.0, 0) == LINE + DAY_ONE
    assert alarm_line(0.0, 10_000) == alarm_line(1e-3, 10_000)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1, max_size=20),
    st.integers(min_value=0, max_value=2**32),
    st.sampled_from([0.0, 1e-9, 0.2, 300.0, 1e9]),
)
def test_any_finite_values_are_borne(values: list[float], seed: int, interval_s: float) -> None:
    draw = Random(seed)
    channel = Channel()
    for row in range(300):
        value = draw.choice(values) if draw.random() < 0.7 else draw.gauss(0, 1)
        score, _, expected = channel.observe(row * interval_s, value)
        assert 0.0 <= score < 1e3
        assert expected is None or math.isfinite(expected)
