from math import inf, log10
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_agent.anomaly.surprise import CEILING, CLUSTER_LONGEST, KEPT, Tail

WINDOW = 4_096


def fed(values: list[float], window: int = WINDOW, floor: float = 0.0) -> Tail:
    tail = Tail(floor)
    for number, value in enumerate(values):
        if value > tail.gate:
            tail.learn(value, number)
        if number % 64 == 0:
            tail.sweep(number, window)
    return tail


def exponential(count: int, seed: int = 1) -> list[float]:
    draw = Random(seed)
    return [draw.expovariate(1.0) for _ in range(count)]


def test_a_surprise_is_the_rarity_in_decades() -> None:
    """Of 20,000 normal residuals, one that is reached once in 10^d scores about d, beyond what was ever seen too."""
    draw = Random(3)
    tail = fed([abs(draw.gauss(0, 1)) for _ in range(20_000)], window=20_000)
    for sigmas, decades in ((3.29, 3.0), (3.89, 4.0), (4.42, 5.0)):  # two-sided tails of the normal distribution
        assert tail.surprise(sigmas, 20_000, 20_000) == pytest.approx(decades, abs=0.5)


def test_reach_is_the_inverse_of_surprise() -> None:
    tail = fed(exponential(5_000))
    for decades in (2.5, 4.0, 7.0):
        assert tail.surprise(tail.reach(decades, 5_000, WINDOW), 5_000, WINDOW) == pytest.approx(decades)


def test_at_or_below_the_gate_nothing_is_surprising() -> None:
    tail = fed(exponential(5_000))
    assert tail.surprise(tail.gate, 5_000, WINDOW) == 0.0
    assert tail.surprise(0.0, 5_000, WINDOW) == 0.0


def test_while_young_it_does_not_extrapolate() -> None:
    """With fewer positive residuals than a tail needs, no residual scores above one in all that were seen."""
    tail = fed([0.0] * 500 + [0.1] * 3)
    assert tail.reach(3.0, 503, WINDOW) == inf
    assert tail.surprise(1e9, 503, WINDOW) == pytest.approx(log10(505))


def test_no_surprise_exceeds_the_ceiling() -> None:
    tail = fed(exponential(5_000))
    assert tail.surprise(1e300, 5_000, WINDOW) == CEILING


def test_neighbouring_peaks_are_one_event() -> None:
    """A slow excursion of 40 samples takes one place, not 32; the same peaks far apart take one each."""
    together, apart = fed(exponential(5_000)), fed(exponential(5_000))
    for number in range(40):
        together.learn(50.0 + number, 5_000 + number)
    for number in range(4):
        apart.learn(50.0 + number, 5_000 + 100 * number)
    assert [value for value in together.values if value >= 50.0] == [89.0]
    assert [value for value in apart.values if value >= 50.0] == [50.0, 51.0, 52.0, 53.0]


def test_an_excursion_without_end_becomes_many_events() -> None:
    tail = fed(exponential(5_000))
    for number in range(KEPT * CLUSTER_LONGEST):
        tail.learn(50.0, 5_000 + number)
    assert tail.gate == 50.0


def test_memory_is_bounded() -> None:
    tail = fed(exponential(50_000))
    assert len(tail.values) == len(tail.born) <= KEPT


def test_old_peaks_are_forgotten_and_the_gate_sinks() -> None:
    """A channel that has become quiet gets a lower gate, so smaller things count again."""
    loud = exponential(5_000)
    tail = fed([*loud, *(value / 100 for value in exponential(3 * WINDOW, seed=2))])
    assert tail.gate < 0.2
    assert fed(loud).gate > 2.0


def test_forgetting_is_no_evidence() -> None:
    """When every peak has expired and residuals are what they always were, none is a surprise worth an alarm."""
    tail = Tail()
    worst = 0.0
    for number in range(4 * WINDOW):
        if tail.gate < 1.0:
            worst = max(worst, tail.surprise(1.0, number, WINDOW)) if number > 64 else worst
            tail.learn(1.0, number)
        if number % 64 == 0:
            tail.sweep(number, WINDOW)
    assert worst < 4.0


def test_the_floor_holds() -> None:
    tail = Tail(floor=10.0)
    assert tail.surprise(10.0, 5_000, WINDOW) == 0.0
    tail.sweep(5_000, WINDOW)
    assert tail.gate == 10.0
    assert tail.surprise(20.0, 5_000, WINDOW) > 4.0


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(min_value=0.0, max_value=1e100, allow_subnormal=True), min_size=1, max_size=200))
def test_any_residuals_are_borne(values: list[float]) -> None:
    tail = fed(values, window=50)
    ordered = list(tail.values)
    assert ordered == sorted(ordered)
    for value in (0.0, 5e-324, 1.0, 1e100):
        assert 0.0 <= tail.surprise(value, len(values), 50) <= CEILING
    assert tail.reach(4.0, len(values), 50) >= tail.gate
