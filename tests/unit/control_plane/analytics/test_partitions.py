"""Which days have a partition."""

from datetime import date, timedelta

from hypothesis import given
from hypothesis import strategies as st

from control_plane.analytics.partitions import Partition, parse, plan

TODAY = date(2026, 3, 1)
DAYS = st.dates(date(2020, 1, 1), date(2035, 1, 1))


def names(*days: date, table: str = "telemetry") -> list[str]:
    return [Partition(table, day).name for day in days]


def test_a_partition_bears_its_day() -> None:
    partition = Partition("telemetry", date(2026, 1, 31))
    assert partition.name == "telemetry_p20260131"
    assert partition.bounds == ("2026-01-31 00:00:00+00", "2026-02-01 00:00:00+00")


def test_a_fresh_table_gets_today_and_the_days_ahead() -> None:
    made = plan("telemetry", [], TODAY, ahead_days=2, keep_days=30)
    assert [partition.day for partition in made.create] == [TODAY + timedelta(days=ahead) for ahead in range(3)]
    assert made.drop == ()


def test_what_is_there_is_not_made_again() -> None:
    existing = names(TODAY, TODAY + timedelta(days=1))
    made = plan("telemetry", existing, TODAY, ahead_days=2, keep_days=30)
    assert [partition.day for partition in made.create] == [TODAY + timedelta(days=2)]


def test_a_day_is_dropped_when_its_last_row_is_older_than_the_retention() -> None:
    existing = names(*(TODAY - timedelta(days=age) for age in range(40)))
    made = plan("telemetry", existing, TODAY, ahead_days=1, keep_days=30)
    assert [partition.day for partition in made.drop] == [TODAY - timedelta(days=age) for age in range(39, 30, -1)]


def test_what_is_not_ours_is_left_alone() -> None:
    foreign = ["telemetry_p20200230", "telemetry_p2020", "telemetry_old", "other_p20200101", "telemetry_p202001011"]
    assert plan("telemetry", foreign, TODAY, ahead_days=1, keep_days=1).drop == ()


def test_a_prefix_is_not_the_table() -> None:
    existing = names(date(2020, 1, 1), table="telemetry_aggregates")
    assert plan("telemetry", existing, TODAY, ahead_days=1, keep_days=1).drop == ()
    assert len(plan("telemetry_aggregates", existing, TODAY, ahead_days=1, keep_days=1).drop) == 1


@given(DAYS)
def test_names_are_two_way(day: date) -> None:
    partition = Partition("telemetry", day)
    assert parse(partition.name) == partition


@given(st.lists(DAYS, max_size=60), DAYS, st.integers(1, 9), st.integers(1, 90))
def test_carried_out_it_leaves_nothing_to_do(days: list[date], today: date, ahead: int, keep: int) -> None:
    existing = set(names(*days))
    made = plan("telemetry", existing, today, ahead_days=ahead, keep_days=keep)
    after = (existing | {partition.name for partition in made.create}) - {partition.name for partition in made.drop}
    again = plan("telemetry", after, today, ahead_days=ahead, keep_days=keep)
    assert again.create == again.drop == ()
    assert Partition("telemetry", today).name in after
