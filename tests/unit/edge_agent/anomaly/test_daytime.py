import pytest

from edge_agent.anomaly.daytime import DAY_S, DAYS, SLOTS, Daytime

HOUR = 3_600.0


def lived(days: float, value_at=float) -> Daytime:
    daytime = Daytime()
    for hour in range(int(days * 24)):
        daytime.gather(hour * HOUR, value_at(hour), -value_at(hour))
    return daytime


def test_it_is_silent_until_three_days_of_this_hour_are_known() -> None:
    assert Daytime().distances(0.0, 1.0, 1.0) is None
    two_days = lived(2 + 2 / 24)
    assert two_days.distances(2 * DAY_S + 5 * HOUR, 0.0, 0.0) is None
    three_days = lived(3.1)
    assert three_days.distances(3 * DAY_S, 0.0, 0.0) is not None
    assert three_days.distances(3 * DAY_S + 5 * HOUR, 0.0, 0.0) is not None
    assert lived(2.9).distances(23 * HOUR, 0.0, 0.0) is None


def test_the_distance_is_to_the_nearest_of_three_days() -> None:
    daytime = lived(3.1)  # hour 5 was 5, 29 and 53
    assert daytime.distances(3 * DAY_S + 5 * HOUR, 31.0, -50.0) == (2.0, 3.0)
    assert daytime.nearest(3 * DAY_S + 5 * HOUR, 31.0) == 29.0


def test_a_fourth_day_replaces_the_first() -> None:
    daytime = lived(4.1)  # hour 5: 29, 53, 77
    found = daytime.distances(4 * DAY_S + 5 * HOUR, 5.0, -77.0)
    assert found == (24.0, 0.0)


def test_an_hour_is_the_mean_of_its_samples() -> None:
    daytime = Daytime()
    for day in range(4):
        for minute in range(0, 24 * 60, 15):
            daytime.gather(day * DAY_S + minute * 60, minute % 60, 0.0)
    assert daytime.distances(4 * DAY_S, 22.5, 0.0) == (0.0, 0.0)


def test_a_move_takes_every_day_along() -> None:
    daytime = lived(3.5)
    daytime.move(100.0)
    assert daytime.nearest(3 * DAY_S + 5 * HOUR, 129.0) == 129.0
    daytime.gather(3.6 * DAY_S, 0.0, 0.0)
    assert daytime.values[11 * DAYS] == pytest.approx(100.0 + 83.0)  # the hour that was being gathered, too


def test_memory_is_bounded_and_huge_values_stay_finite() -> None:
    daytime = lived(30, lambda hour: 1e100 if hour % 2 else -1e100)
    assert len(daytime.values) == len(daytime.means) == SLOTS * DAYS
    found = daytime.distances(30 * DAY_S, 1e100, 1e100)
    assert found is not None
    assert all(0.0 <= distance < float("inf") for distance in found)
