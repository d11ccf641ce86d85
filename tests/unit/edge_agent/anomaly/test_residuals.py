import math
from array import array
from random import Random

import pytest

from edge_agent.anomaly.residuals import (
    BOOT,
    CLOCK,
    GAP,
    JUMP,
    LEVEL,
    MEAN12,
    MEAN48,
    NOISE,
    RETURN_SAMPLES,
    RING,
    SETTLED,
    STUCK,
    STUCK_OFFSET,
    SUSPECTS_LONGEST,
    Past,
)

REACH = 3.0


class Run:
    """A Past fed by hand: a sample is a suspect if it jumps further than REACH."""

    def __init__(self, values: list[float], interval_s: float = 1.0) -> None:
        self.past = Past()
        self.interval_s = interval_s
        self.at_s = 0.0
        for _ in range(BOOT):
            self.past.stamp(self.at_s)
            self.at_s += interval_s
        self.past.start(array("d", values[:BOOT]))
        self.feed(values[BOOT:])

    def residuals(self, value: float) -> list[float]:
        return self.past.residuals(self.at_s, value)

    def feed(self, values: list[float], usual: float = 1.0) -> None:
        for value in values:
            jump = self.residuals(value)[JUMP]
            self.past.stamp(self.at_s)
            self.past.follow(value, suspect=jump > REACH, reach=REACH, usual=usual)
            self.at_s += self.interval_s


def noise(count: int, seed: int = 1, sigma: float = 0.1) -> list[float]:
    draw = Random(seed)
    return [20.0 + draw.gauss(0, sigma) for _ in range(count)]


def test_each_stream_measures_what_its_name_says() -> None:
    values = noise(400)
    run = Run(values)
    found = run.residuals(25.0)
    past = run.past
    assert found[JUMP] == pytest.approx(25.0 - values[-1], abs=1e-3)
    assert found[LEVEL] == pytest.approx(25.0 - past.level, abs=1e-3)
    assert found[MEAN12] == pytest.approx(abs(sum(values[-12:]) / 12 - past.level), abs=1e-3)
    assert found[MEAN48] == pytest.approx(abs(sum(values[-48:]) / 48 - past.level), abs=1e-3)
    steps = [abs(b - a) for a, b in zip(values[-49:], values[-48:], strict=False)]
    assert found[NOISE] == pytest.approx(abs(math.log(sum(steps) / 48 / past.noise)), abs=0.05)
    assert found[STUCK] == 0.0


def test_sums_stay_true_over_a_long_time() -> None:
    run = Run(noise(5_000))
    values = noise(5_000)
    assert run.past.sum12 == pytest.approx(sum(values[-12:]))
    assert run.past.sum48 == pytest.approx(sum(values[-48:]))


def test_scoring_changes_nothing() -> None:
    run = Run(noise(400))
    before = run.residuals(23.0)
    for value in (1e9, -127.0, 20.0):
        run.residuals(value)
    assert run.residuals(23.0) == before


def test_one_glitch_leaves_no_trace() -> None:
    run, clean = Run(noise(400)), Run(noise(400))
    run.feed([-127.0])
    clean.feed([clean.past.last])
    after = run.residuals(20.0)
    for stream in (JUMP, LEVEL, MEAN12, MEAN48):
        assert after[stream] == pytest.approx(clean.residuals(20.0)[stream], abs=1e-9)


def test_glitches_at_the_beginning_leave_no_trace() -> None:
    spoilt = noise(400)
    spoilt[0], spoilt[7] = -127.0, 85.0
    assert Run(spoilt).residuals(20.0)[LEVEL] == pytest.approx(Run(noise(400)).residuals(20.0)[LEVEL], abs=0.5)


def test_what_a_glitch_at_the_beginning_says_is_cut() -> None:
    spoilt = noise(BOOT)
    spoilt[7] = 85.0
    found = Past().start(array("d", spoilt))
    assert len(found) == BOOT
    assert max(max(residuals[:4]) for residuals in found) < 2.0  # eight sigmas of 0.1, and what was before


def test_a_shift_is_one_jump_and_then_the_normal() -> None:
    run = Run(noise(400))
    shifted = [value + 10.0 for value in noise(60, seed=2)]
    jumps = []
    for value in shifted:
        jumps.append(run.residuals(value)[JUMP])
        run.feed([value])
    assert all(jump > 9.0 for jump in jumps[:SETTLED])
    assert all(jump < 1.0 for jump in jumps[SETTLED:])
    assert run.residuals(30.0)[LEVEL] < 1.0
    assert run.residuals(20.0)[JUMP] < 1.0, "the return to the old level is no jump either"
    assert run.past.expected(JUMP, run.at_s, 35.0) == pytest.approx(30.0, abs=1.0)


def test_a_return_takes_the_old_memory_back() -> None:
    run = Run(noise(400))
    run.feed([value + 10.0 for value in noise(30, seed=2)])
    run.feed(noise(30, seed=3))
    found = run.residuals(20.0)
    assert max(found[JUMP], found[LEVEL], found[MEAN48]) < 0.5
    assert run.past.shift == 0.0
    assert run.residuals(30.0)[JUMP] > 9.0, "leaving again is a jump again"


def test_the_old_level_is_not_remembered_for_ever() -> None:
    run = Run(noise(400))
    run.feed([value + 10.0 for value in noise(RETURN_SAMPLES + 20, seed=2)])
    assert run.residuals(20.0)[JUMP] > 9.0


def test_scattered_suspects_do_not_become_the_normal() -> None:
    run = Run(noise(400))
    draw = Random(5)
    run.feed([20.0 + draw.choice((-1, 1)) * draw.uniform(8, 40) for _ in range(SUSPECTS_LONGEST - 1)])
    run.feed(noise(20, seed=4))
    assert run.residuals(20.0)[LEVEL] < 1.0


def test_what_never_settles_is_accepted_in_the_end() -> None:
    run = Run(noise(400))
    run.feed([20.0 + 30.0 * (-1) ** number for number in range(SUSPECTS_LONGEST + 1)])
    assert run.past.last in {50.0, -10.0}


def test_coming_back_within_the_usual_range_moves_nothing() -> None:
    """After a burst the value has drifted, as it may: the memory stays where it was."""
    run = Run(noise(400))
    level = run.past.level
    run.feed([23.5] * SETTLED, usual=5.0)
    assert run.past.last == 23.5
    assert run.past.level == pytest.approx(level, abs=0.2)
    assert run.past.shift == 0.0


def test_repeats_are_counted_until_the_value_changes() -> None:
    run = Run(noise(400))
    run.feed([20.05] * 30)
    assert run.residuals(20.05)[STUCK] == 31 + STUCK_OFFSET
    assert run.residuals(20.06)[STUCK] == 0.0


def test_after_a_pause_a_jump_says_nothing() -> None:
    run = Run(noise(400))
    assert run.residuals(30.0)[JUMP] > 9.0
    run.at_s += GAP * run.interval_s
    assert run.residuals(30.0)[JUMP] == 0.0
    assert run.residuals(30.0)[LEVEL] > 9.0


def test_the_interval_withstands_pauses_and_equal_times() -> None:
    run = Run(noise(2_000), interval_s=0.2)
    assert run.past.interval_s == pytest.approx(0.2)
    run.at_s += 86_400.0
    run.feed(noise(1))
    assert run.past.interval_s < 0.21
    coarse = Past()
    for number in range(1_000):
        coarse.stamp(float(number // 5))  # five readings a second, stamped in whole seconds
    assert coarse.interval_s == pytest.approx(0.2, rel=0.05)


def test_a_coarse_sensor_s_single_step_is_no_wonder() -> None:
    """A quantised channel's distances start at two quanta, so that one quantum is not infinitely more than none."""
    draw = Random(1)
    run = Run([round(20 + draw.gauss(0, 0.06), 1) for _ in range(400)])
    assert run.past.quantum == pytest.approx(0.1)
    assert run.residuals(run.past.last)[JUMP] == pytest.approx(0.2)


def test_expected_is_told_where_there_is_one() -> None:
    run = Run(noise(400))
    assert run.past.expected(JUMP, run.at_s, 25.0) == run.past.last
    assert run.past.expected(MEAN48, run.at_s, 25.0) == run.past.level
    assert run.past.expected(NOISE, run.at_s, 25.0) is None


def test_the_time_of_day_is_compared_with_the_days_before() -> None:
    hourly = Run([5 * math.sin(hour * math.pi / 12) + 0.01 * (hour % 7) for hour in range(24 * 6)], 3_600.0)
    assert hourly.residuals(0.0)[CLOCK] < 0.5
    assert hourly.residuals(4.0)[CLOCK] > 3.9
    assert hourly.past.expected(CLOCK, hourly.at_s, 4.0) == pytest.approx(0.0, abs=0.1)


def test_memory_is_bounded() -> None:
    run = Run(noise(5_000))
    assert len(run.past.ring) == len(run.past.diffs) == RING
