from itertools import pairwise

import pytest

from edge_agent.sim.faults import GLITCHES, Distortion, Episode, Fault, happened, schedule

DEVICES = ["a", "b", "c"]
KINDS = [Fault.SPIKE, Fault.LEVEL_SHIFT, Fault.NOISE_BURST]


def made(seed=1, episodes=9):
    return schedule(DEVICES, KINDS, "t", episodes, first_s=10, last_s=100, interval_s=0.2, seed=seed)


def test_a_schedule_is_told_again_by_its_seed_and_not_by_another():
    assert made() == made()
    assert made() != made(seed=2)


def test_every_kind_and_device_has_its_turn_within_the_time():
    episodes = made()
    assert len(episodes) == 9
    assert {e.device for e in episodes} == set(DEVICES)
    assert {e.fault for e in episodes} == set(KINDS)
    assert all(10 <= e.start_s < e.end_s <= 100 for e in episodes)
    assert all(5 <= abs(e.size) <= 8 for e in episodes)


def test_two_episodes_of_a_device_never_touch():
    for device in DEVICES:
        spans = sorted((e.start_s, e.end_s) for e in made(episodes=12) if e.device == device)
        assert all(end + 5 < start for (_, end), (start, _) in pairwise(spans))


def distorted(fault, size=5.0, readings=10):
    distortion = Distortion([Episode("a", fault, "t", 2.0, 6.0, size)], sigma=2.0, seed=1)
    return [distortion.apply(20.0 + n / 100, float(n)) for n in range(readings)]


def plain(n):
    return 20.0 + n / 100


@pytest.mark.parametrize("fault", [Fault.SPIKE, Fault.LEVEL_SHIFT, Fault.NOISE_BURST, Fault.DRIFT, Fault.GLITCH])
def test_values_change_within_the_episode_and_only_there(fault):
    values = distorted(fault)
    assert values[:2] == [plain(0), plain(1)]
    assert values[6:] == [plain(n) for n in range(6, 10)]
    assert any(abs(values[n] - plain(n)) > 1 for n in range(2, 6))


def test_a_shift_is_its_sigmas_high():
    assert distorted(Fault.LEVEL_SHIFT, size=-5.0)[3] == pytest.approx(plain(3) - 10.0)


def test_a_burst_begins_with_a_reading_far_off():
    assert distorted(Fault.NOISE_BURST)[2] == pytest.approx(plain(2) + 10.0)


def test_a_drift_grows():
    values = distorted(Fault.DRIFT)
    offs = [abs(values[n] - plain(n)) for n in range(2, 6)]
    assert offs == sorted(offs)
    assert offs[-1] > offs[0]


def test_a_stuck_sensor_says_one_value():
    values = distorted(Fault.STUCK)
    assert values[2:6] == [plain(2)] * 4
    assert values[6] == plain(6)


def test_glitches_are_those_of_broken_sensors():
    assert set(distorted(Fault.GLITCH)[2:6]) <= set(GLITCHES)


def test_what_happened_ends_where_the_run_did():
    episodes = [Episode("a", Fault.STUCK, "t", start, start + 2.0, 1.0) for start in (1.0, 4.0, 6.0)]
    assert happened(episodes, last_s=4.5, ended_s=4.6) == [
        Episode("a", Fault.STUCK, "t", 1.0, 3.0, 1.0),
        Episode("a", Fault.STUCK, "t", 4.0, 4.6, 1.0),
    ]
