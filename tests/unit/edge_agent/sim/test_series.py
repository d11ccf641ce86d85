import statistics
from itertools import pairwise

import pytest

from edge_agent.sim.series import DAY_S, Battery, Replay, Temperature, robust_sigma


def test_a_replay_begins_at_its_offset_and_turns_round_at_the_end():
    replay = Replay([1.0, 2.0, 3.0], offset=1)
    assert [replay.value(n, 0.0) for n in range(6)] == [2.0, 3.0, 2.0, 1.0, 2.0, 3.0]
    assert Replay([7.0]).value(5, 0.0) == 7.0


def test_temperature_swings_over_a_day_and_is_told_again_by_its_seed():
    values = [Temperature(3).value(0, 0.0)]
    model = Temperature(3)
    day = [model.value(n, n * DAY_S / 200) for n in range(200)]
    assert values[0] == day[0]
    assert 4.0 < max(day) - min(day) < 12.0
    assert all(5 < value < 40 for value in day)


def test_a_battery_discharges_and_is_charged_again():
    battery = Battery(1, life_s=DAY_S, noise=0.0)
    volts = [battery.value(n, n * 600.0) for n in range(600)]
    assert 2.9 < min(volts) < 3.5
    assert max(volts) > 4.0
    steps = [after - before for before, after in pairwise(volts)]
    assert min(steps) < 0 < max(steps)


def test_robust_sigma_is_that_of_normal_values_and_heeds_no_outlier():
    import random

    draw = random.Random(1)
    values = [draw.gauss(10, 2) for _ in range(20_000)]
    assert robust_sigma(values) == pytest.approx(2.0, rel=0.05)
    assert robust_sigma([*values, 1e9]) == pytest.approx(2.0, rel=0.05)
    assert statistics.stdev([*values, 1e9]) > 1e6
