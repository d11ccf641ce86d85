import math
from random import Random

from edge_agent.anomaly import Scorer
from edge_agent.anomaly.watch import LATE_RUN, PAIR, Watch

DAY = 288
NOW_S = 1_790_000_000.0


def cell(rows: int, sag_from: int | None = None) -> list[tuple[float, float]]:
    """Temperature, and voltage that follows it; from `sag_from` on the voltage sinks by 15 mV within six hours."""
    draw = Random(2)
    weather, made = 0.0, []
    for row in range(rows):
        weather = 0.999 * weather + draw.gauss(0, 0.08)
        t = 20 + 6 * math.sin(2 * math.pi * row / DAY) + weather
        sag = 0.0 if sag_from is None else 0.015 * min(1.0, max(0, row - sag_from) / 72)
        made.append((round(t + draw.gauss(0, 0.1), 2), round(3.9 + 0.004 * (t - 20) - sag + draw.gauss(0, 0.002), 3)))
    return made


def alarms(rows: list[tuple[float, float]], *, apart: bool = False) -> list[tuple[int, str, str]]:
    """Row, metric and reason. `apart`: the two metrics come at moments of their own, so they are no pair."""
    scorer = Scorer()
    found = []
    for row, (t, v) in enumerate(rows):
        for metric, value, late_s in (("temperature", t, 0.0), ("voltage", v, 1.0 if apart else 0.0)):
            verdict = scorer.score("d", metric, NOW_S + row * 300.0 + late_s, value)
            if verdict is not None:
                found.append((row, metric, verdict.reason))
    return found


def test_a_sag_hidden_in_the_daily_swing_is_found_by_the_pair() -> None:
    begin = 15 * DAY + 50
    rows = cell(16 * DAY, begin)
    found = [item for item in alarms(rows) if item[0] >= begin]
    assert found
    row, metric, reason = found[0]
    assert (metric, reason) == ("voltage", PAIR + "temperature")
    assert row - begin <= 72
    assert not [item for item in alarms(rows, apart=True) if begin <= item[0] <= begin + 72]


def test_a_quiet_pair_adds_no_alarm() -> None:
    rows = cell(20 * DAY)
    assert len(alarms(rows)) <= len(alarms(rows, apart=True))


def test_a_fault_of_the_first_metric_is_not_blamed_on_the_second() -> None:
    rows = cell(12 * DAY)
    rows[11 * DAY] = (-127.0, rows[11 * DAY][1])
    found = [item for item in alarms(rows) if item[0] >= 11 * DAY]
    assert [(row, metric) for row, metric, _ in found] == [(11 * DAY, "temperature")]


def test_at_five_readings_a_second_no_pair_speaks() -> None:
    """Minutes do not tell what belongs together: a spike of the one is never the other's fault."""
    scorer = Scorer()
    rows = cell(4_000)
    rows[3_000:] = [(t + 30.0, v) for t, v in rows[3_000:]]
    found = []
    for row, (t, v) in enumerate(rows):
        for metric, value in (("temperature", t), ("voltage", v)):
            verdict = scorer.score("d", metric, NOW_S + row * 0.2, value)
            if verdict is not None:
                found.append((metric, verdict.reason))
    assert found == [("temperature", "jump")]


def test_a_channel_keeps_one_partner() -> None:
    first, second, third = Watch(), Watch(), Watch()
    for row in range(40):
        for number, watch in enumerate((first, second, third)):
            assert watch.takes(float(row), row % 7 + number)
            watch.judge(float(row), row % 7 + number, "a", None if watch is first else first)
    assert third.pair is not None
    assert third.pair.samples == 8
    third.judge(40.0, 1.0, "b", second)
    assert (third.pair.other, third.pair.samples) == ("a", 8)
    assert first.pair is None


def test_a_river_model_has_no_pair() -> None:
    first, second = Watch(), Watch("sad")
    for row in range(300):
        first.judge(float(row), float(row % 5), "a", None)
        second.judge(float(row), float(row % 5), "a", first)
    assert second.pair is None
    assert second.channel is None


def test_late_samples_are_not_taken_until_there_are_too_many() -> None:
    watch = Watch()
    assert watch.takes(100.0, 1.0)
    assert [watch.takes(50.0 + number, 1.0) for number in range(LATE_RUN)] == [False] * (LATE_RUN - 1) + [True]
    assert watch.takes(200.0, 1.0)
    assert not watch.takes(200.0, 1.0)
    assert watch.takes(200.0, 2.0)
