"""The robust z-score: what it finds, what it leaves alone, and how little it keeps."""

import math
import random
from itertools import pairwise

import msgspec
import pytest

from control_plane.analytics import residuals
from control_plane.analytics.residuals import Head, Rings


def feed(values: list[float], *, habit: bool = True) -> list[tuple[int, str]]:
    """(index, stream) of every value over the line; the state goes through its packed form at every step."""
    head = Head(0, values[0])
    rings = residuals.pack(Rings(residuals.unpack(None).values, residuals.unpack(None).jumps))
    over = []
    for index, value in enumerate(values):
        head = msgspec.msgpack.decode(msgspec.msgpack.encode(head), type=Head)
        finding = residuals.judge(head, value)
        if finding is not None and finding.strength >= 1.0:
            over.append((index, finding.reason))
            if habit:
                residuals.alarmed(head)
        if residuals.learn(head, value):
            rings = residuals.pack(residuals.fold(head, residuals.unpack(rings)))
    return over


def noise(count: int, seed: int = 1, size: float = 1.0) -> list[float]:
    source = random.Random(seed)
    return [20.0 + source.gauss(0.0, size) for _ in range(count)]


def slow(count: int, seed: int = 1) -> list[float]:
    """A wave over 24 samples with little noise: neighbours are much closer than the range is wide."""
    source = random.Random(seed)
    return [20.0 + 5.0 * math.sin(index * math.tau / 24) + source.gauss(0.0, 0.1) for index in range(count)]


def test_ordinary_signals_are_never_over_the_line() -> None:
    assert [feed(noise(5_000, seed)) for seed in range(3)] == [[]] * 3
    assert [feed(slow(5_000, seed)) for seed in range(3)] == [[]] * 3


def test_a_spike_is_a_jump_and_names_what_was_expected() -> None:
    values = slow(100)
    head = Head(0, values[0])
    rings = residuals.unpack(None)
    for value in values:
        if residuals.learn(head, value):
            rings = residuals.fold(head, rings)
    finding = residuals.judge(head, 60.0)
    assert finding is not None
    assert finding.reason == "jump"
    assert finding.expected == values[-1]
    assert finding.strength > 2.0
    assert finding.score == pytest.approx(abs(60.0 - values[-1]) / head.jump_sigma)


def test_a_spike_speaks_at_its_own_sample() -> None:
    values = slow(200)
    values[150] += 20.0
    assert feed(values)[0] == (150, "jump")


def test_a_quiet_slow_signal_far_from_its_level_is_a_level_finding() -> None:
    # Steps too small for a jump (half a sigma each) lead far away.
    wave = [20.0 + (index % 2) * 1.0 for index in range(96)]
    climb = [21.0 + 0.5 * step for step in range(40)]
    found = feed(wave + climb)
    assert found
    assert found[0][1] == "level"


def test_a_new_level_becomes_normal() -> None:
    values = noise(150) + [value + 40.0 for value in noise(200, seed=2)]
    over = [index for index, _ in feed(values)]
    assert 150 in over
    assert max(over) < 150 + residuals.RING


def test_nothing_is_said_before_warm_up() -> None:
    values = noise(residuals.WARM_UP)
    values[residuals.WARM_UP - 1] = 1e6
    assert feed(values) == []
    assert feed([*noise(residuals.WARM_UP), 1e6])[0][0] == residuals.WARM_UP


def test_it_scores_before_it_learns() -> None:
    values = noise(120)
    values[119] = 500.0  # the last: if it were learned first, its own jump would stand in the ring
    assert feed(values) == [(119, "level")]


@pytest.mark.parametrize("every", [5, 10, 30])
def test_what_keeps_happening_falls_silent(every: int) -> None:
    values = noise(3_000, size=0.1)
    for index in range(200, 3_000, every):
        values[index] += 30.0
    over = feed(values, habit=False)
    assert over[0][0] == 200
    assert len(over) < 80
    assert max(index for index, _ in over) < 1_200


def test_a_slow_wave_is_no_event() -> None:
    assert feed([math.sin(index / 300) for index in range(6_000)], habit=False) == []


def test_a_burst_does_not_deafen_it_for_what_follows() -> None:
    values = slow(260)
    source = random.Random(5)
    for index in range(150, 170):
        values[index] += source.gauss(0.0, 40.0)
    for index in range(220, 240):
        values[index] += 25.0
    over = [index for index, _ in feed(values, habit=False)]
    assert 220 in over


def test_nor_for_a_level_that_creeps_away() -> None:
    wave = [20.0 + index % 2 for index in range(96)]
    burst = [120.0] * 20
    climb = [21.0 + 0.5 * step for step in range(40)]
    over = feed([*wave, *burst, *wave[:30], *climb], habit=False)
    assert any(index >= 96 + 20 + 30 and why == "level" for index, why in over)


def test_a_signal_that_became_noisy_for_good_is_normal_again() -> None:
    values = noise(200, size=0.1) + noise(600, seed=2, size=5.0)
    over = [index for index, _ in feed(values, habit=False)]
    assert over
    assert max(over) < 200 + 2 * residuals.RING


def test_alarms_make_it_slower_to_alarm() -> None:
    head = Head(0, 0.0)
    residuals.alarmed(head)
    assert head.habit == residuals.HABIT
    for _ in range(100):
        residuals.alarmed(head)
    assert head.habit == residuals.HABIT_MOST

    def line(habit: float) -> float:
        young = Head(0, 0.0, habit=habit)
        rings = residuals.unpack(None)
        for value in noise(96):
            if residuals.learn(young, value):
                rings = residuals.fold(young, rings)
        assert young.jump_line is not None
        return young.jump_line

    assert line(1.0) > 1.8 * line(0.0)


def fitted(values: list[float]) -> Head:
    """The head after these values."""
    head = Head(0, values[0])
    rings = residuals.unpack(None)
    for value in values:
        if residuals.learn(head, value):
            rings = residuals.fold(head, rings)
    return head


def test_a_young_channel_has_higher_lines() -> None:
    young, old = fitted(noise(32)), fitted(noise(320))
    assert young.level_line is not None
    assert old.level_line is not None
    assert young.level_line / young.level_sigma == pytest.approx(residuals.LEVEL_LINE * 1.5)
    assert old.level_line / old.level_sigma == pytest.approx(residuals.LEVEL_LINE * 1.05)


def test_alarms_are_forgotten_in_time() -> None:
    head = fitted(noise(96))
    residuals.alarmed(head)
    rings = residuals.unpack(None)
    for value in noise(2_800):
        if residuals.learn(head, value):
            rings = residuals.fold(head, rings)
    assert head.habit == pytest.approx(residuals.HABIT / 2, rel=0.01)


@pytest.mark.parametrize(
    "values",
    [
        [1.0] * 500,
        [float(index) for index in range(500)],
        [float(index + (index > 300) * 57) for index in range(500)],
        [float(index * 2) for index in range(500)],
    ],
    ids=["constant", "counter", "counter with a gap", "stride"],
)
def test_constants_and_counters_are_left_alone(values: list[float]) -> None:
    assert feed(values) == []


def test_a_counter_is_whole_and_only_rises() -> None:
    assert fitted([float(index) for index in range(64)]).counter
    assert not fitted([index + 0.5 for index in range(64)]).counter
    assert not fitted([float(index) for index in range(63)] + [62.0]).counter


def test_a_flat_signal_that_moves_by_its_own_quantum_is_quiet() -> None:
    source = random.Random(3)
    assert feed([3.70 + 0.01 * (source.random() < 0.1) for _ in range(2_000)]) == []


def test_a_few_quanta_more_are_no_event() -> None:
    values = [3.70 + 0.01 * (index % 50 == 0) for index in range(200)]
    assert feed([*values, 3.73]) == []


def test_a_flat_signal_that_leaps_is_not() -> None:
    assert feed([*([3.70] * 100), 5.0])[0] == (100, "level")


def test_memory_is_bounded() -> None:
    head = Head(0, 0.0)
    rings = residuals.unpack(None)
    for value in noise(10 * residuals.RING):
        if residuals.learn(head, value):
            rings = residuals.fold(head, rings)
        assert len(head.fresh) < residuals.FOLD
        assert len(msgspec.msgpack.encode(head)) < 300
    assert len(rings.values) == len(rings.jumps) == residuals.RING
    assert len(residuals.pack(rings)) == 1 + 2 * 4 * residuals.RING


def test_rings_keep_the_newest_in_order() -> None:
    head = Head(0, 0.0)
    rings = residuals.unpack(None)
    for index in range(200):
        if residuals.learn(head, float(index)):
            rings = residuals.fold(head, rings)
    assert rings.values[-1] == 199.0
    assert all(later == earlier + 1 for earlier, later in pairwise(rings.values))


def test_packing_is_two_way() -> None:
    head = Head(0, 0.0)
    rings = residuals.unpack(None)
    for value in noise(24):
        if residuals.learn(head, value):
            rings = residuals.fold(head, rings)
    assert residuals.unpack(residuals.pack(rings)) == rings
    assert len(rings.values) == 24
    assert len(rings.jumps) == 23


@pytest.mark.parametrize("value", [1e308, -1e308, 1.7e308])
def test_any_finite_value_is_taken(value: float) -> None:
    over = feed([*noise(100), value, *noise(100, seed=4), -value, *([value, -value] * 100)])
    assert over[0][0] == 100
    head = fitted([*([value, -value] * 16), *noise(64)])
    assert all(map(math.isfinite, (head.median, head.level_sigma, head.jump_sigma)))
    assert head.level_line is not None
    assert head.jump_line is not None
    assert head.level_line + head.jump_line < math.inf
