import math
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_agent.anomaly.pair import LASTING, Pair

DAY = 288
DAY_S = 86_400.0
STEP_S = 300.0
LINE = 4.6


class Run:
    """A room's temperature and a cell's voltage that follows it by 4 mV a degree, told to a Pair."""

    def __init__(self, days: float, slope: float = 0.004) -> None:
        self.pair = Pair("temperature")
        self.draw = Random(1)
        self.slope = slope
        self.row = 0
        self.weather = 0.0
        self.worst = 0.0
        self.live(int(days * DAY))

    def live(self, rows: int, wrong_v: float = 0.0, wrong_t: float = 0.0) -> list[float]:
        found = []
        for _ in range(rows):
            self.weather = 0.999 * self.weather + self.draw.gauss(0, 0.08)
            t = 20 + 6 * math.sin(2 * math.pi * self.row / DAY) + self.weather
            v = 3.9 - 0.1 * self.row / (60 * DAY) + self.slope * (t - 20) + self.draw.gauss(0, 0.002)
            found.append(
                self.pair.observe(
                    t + wrong_t,
                    v + wrong_v,
                    floor=0.002,
                    interval_s=STEP_S,
                    lived_s=self.row * STEP_S,
                    line=LINE,
                    window=4_096,
                )
            )
            self.row += 1
        self.worst = max(self.worst, *found)
        return found


def test_a_month_of_two_metrics_that_go_together_is_quiet() -> None:
    run = Run(30)
    assert run.worst < LINE
    assert run.pair.tail is not None


@pytest.mark.parametrize(("wrong_v", "wrong_t"), [(0.015, 0.0), (-0.015, 0.0), (0.0, 4.0)])
def test_what_each_alone_would_bear_is_found_together(wrong_v: float, wrong_t: float) -> None:
    """15 mV beside a swing of 48 mV, or 4 degrees beside a swing of 12 and weather."""
    run = Run(12)
    assert max(run.live(5, wrong_v, wrong_t)) > LINE


def test_expected_is_what_the_other_lets_expect() -> None:
    run = Run(12)
    assert run.pair.expected(24.0) - run.pair.expected(20.0) == pytest.approx(0.016, rel=0.2)


def test_two_that_do_not_go_together_are_no_pair() -> None:
    run = Run(12, slope=0.0)
    assert run.pair.tail is None
    assert run.live(5, 1.0) == [0.0] * 5


def test_it_says_nothing_in_the_first_days() -> None:
    run = Run(1.9)
    assert run.live(20, 5.0) == [0.0] * 20


def test_a_moved_normal_moves_the_relation() -> None:
    run = Run(12)
    run.pair.move(0.0, 0.3)
    assert max(run.live(100, wrong_v=0.3)) < LINE


def test_a_fault_is_not_learned_at_once_but_a_lasting_change_is() -> None:
    run = Run(12)
    assert min(run.live(LASTING // 2, 0.05)) > LINE
    run.live(4 * DAY, 0.05)
    assert max(run.live(DAY, 0.05)) < LINE


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(min_value=-1e100, max_value=1e100), min_size=2, max_size=12), st.integers(0, 2**32))
def test_any_values_are_borne(values: list[float], seed: int) -> None:
    draw = Random(seed)
    pair = Pair("x")
    for row in range(1_500):
        x, y = draw.choice(values), draw.choice(values) if draw.random() < 0.5 else draw.gauss(0, 1)
        decades = pair.observe(x, y, floor=0.0, interval_s=600.0, lived_s=row * 600.0, line=LINE, window=400)
        assert 0.0 <= decades <= 30.0
    assert math.isfinite(pair.expected(values[0]))
