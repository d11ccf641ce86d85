"""Which readings deserve an alarm."""

import random
from pathlib import Path

import msgspec
import pytest

from control_plane.analytics.detector import CHANNELS, Detected, Detector, Limit, Limits, limits_of_type
from control_plane.analytics.job import MemoryState
from control_plane.analytics.records import Judge, NormalizedReading, Quality, Score, Severity
from control_plane.analytics.residuals import HABIT, Head
from shared.batch import ClockQuality, Lane
from shared.envelope import rfc3339
from shared.reading import MetricValue

START_MS = 1_767_225_600_000
STEP_MS = 200


def reading(
    at_ms: int,
    *,
    metrics: dict[str, MetricValue] | None = None,
    gateway: str | None = None,
    device_type: str | None = "thermometer",
    lane: Lane = Lane.LIVE,
    score: Score | None = None,
    received_ms: int | None = None,
) -> NormalizedReading:
    return NormalizedReading(
        device_id="dev-1",
        device_type=device_type,
        gateway_id=gateway,
        ts=rfc3339(at_ms),
        ts_raw=at_ms,
        received_at=rfc3339(at_ms if received_ms is None else received_ms),
        metrics={} if metrics is None else metrics,
        lane=lane,
        quality=Quality(ClockQuality.SYNCED, None, ()),
        score=score,
    )


class Bench:
    """A detector and one device's state."""

    def __init__(self, limits: Limits | None = None) -> None:
        self.detector = Detector({"thermometer": limits or {}}.__getitem__)
        self.state = MemoryState()
        self.at_ms = START_MS

    def judge(self, item: NormalizedReading) -> list[Detected]:
        return self.detector.judge(item, self.state)

    def feed(self, values: list[float], **facts: object) -> list[Detected]:
        """Live readings of `temperature`, one every STEP_MS."""
        found = []
        for value in values:
            self.at_ms += STEP_MS
            found += self.judge(reading(self.at_ms, metrics={"temperature": value}, **facts))  # type: ignore[arg-type]
        return found


def quiet(count: int, seed: int = 1) -> list[float]:
    source = random.Random(seed)
    return [20.0 + source.gauss(0.0, 0.2) for _ in range(count)]


def test_a_direct_devices_spike_is_one_anomaly() -> None:
    bench = Bench()
    values = quiet(200)
    values[150] += 8.0
    found = bench.feed(values)
    assert len(found) == 1
    anomaly, at_ms = found[0].anomaly, START_MS + 151 * STEP_MS
    assert (anomaly.device_id, anomaly.metric, anomaly.value) == ("dev-1", "temperature", values[150])
    assert anomaly.source is Judge.HUB
    assert anomaly.ts == rfc3339(at_ms)
    assert anomaly.episode_id == f"dev-1:temperature:{at_ms}"
    assert found[0].ce_id == f"dev-1:temperature:{at_ms}:0"
    assert anomaly.expected == pytest.approx(20.0, abs=1.0)


def test_the_hub_does_not_score_what_came_through_a_gateway() -> None:
    bench = Bench()
    assert bench.feed([*quiet(150), 80.0, *quiet(20)], gateway="gw-1") == []
    assert bench.state.values == {}, "and it costs no state"


def test_the_edges_verdict_is_carried() -> None:
    verdict = Score(value=4.5, metric="temperature", reason="level", expected=20.5)
    found = Bench().judge(reading(START_MS, metrics={"temperature": 31.0, "n": 7}, gateway="gw-1", score=verdict))
    assert len(found) == 1
    anomaly = found[0].anomaly
    assert (anomaly.score, anomaly.reason, anomaly.expected) == (4.5, "level", 20.5)
    assert (anomaly.metric, anomaly.value) == ("temperature", 31.0)
    assert anomaly.source is Judge.EDGE
    assert anomaly.severity is Severity.WARNING


def test_an_edge_verdict_in_the_replay_lane_is_an_anomaly_of_its_own_time() -> None:
    bench = Bench()
    verdict = Score(value=4.5, metric="temperature", reason="level")
    late = reading(START_MS, metrics={"temperature": 31.0}, gateway="gw-1", score=verdict, lane=Lane.REPLAY)
    found = bench.judge(late)
    assert [item.anomaly.ts for item in found] == [rfc3339(START_MS)]
    assert bench.judge(late) == [], "never twice"


def test_a_very_unlikely_edge_verdict_is_critical() -> None:
    verdict = Score(value=20.0, metric="temperature", reason="jump")
    found = Bench().judge(reading(START_MS, metrics={"temperature": 31.0}, gateway="gw-1", score=verdict))
    assert found[0].anomaly.severity is Severity.CRITICAL


def test_a_verdict_on_a_metric_that_is_no_number_is_nothing() -> None:
    verdict = Score(value=4.5, metric="mode", reason="level")
    assert Bench().judge(reading(START_MS, metrics={"mode": "on"}, gateway="gw-1", score=verdict)) == []


@pytest.mark.parametrize("gateway", [None, "gw-1"])
def test_limits_hold_for_everyone(gateway: str | None) -> None:
    bench = Bench({"temperature": Limit(-20.0, 60.0)})
    found = bench.feed([20.0, 60.0, 61.0, 62.0, 63.0], gateway=gateway)
    assert len(found) == 1
    anomaly = found[0].anomaly
    assert (anomaly.value, anomaly.reason, anomaly.expected) == (61.0, "above_max", 60.0)
    assert anomaly.severity is Severity.CRITICAL
    assert anomaly.score == pytest.approx(1.0 + 1 / 80)
    assert anomaly.source is Judge.HUB


def test_a_device_of_no_known_type_has_no_limits() -> None:
    bench = Bench({"temperature": Limit(-20.0, 60.0)})
    assert bench.judge(reading(START_MS, metrics={"temperature": 99.0}, gateway="gw-1", device_type=None)) == []


def test_below_the_least() -> None:
    found = Bench({"temperature": Limit(5.0, None)}).feed([4.0], gateway="gw-1")
    assert [(item.anomaly.reason, item.anomaly.expected) for item in found] == [("below_min", 5.0)]


def test_a_value_that_flutters_at_its_limit_alarms_once() -> None:
    bench = Bench({"temperature": Limit(0.0, 100.0)})
    slowly = [100.5 if index % 2 else 99.5 for index in range(50)]
    found = []
    for index, value in enumerate(slowly):
        found += bench.judge(reading(START_MS + index * 600_000, metrics={"temperature": value}, gateway="gw-1"))
    assert len(found) == 1


def test_a_return_well_within_the_limits_ends_the_excursion() -> None:
    bench = Bench({"temperature": Limit(0.0, 100.0)})
    hot_cold = [101.0, 90.0, 101.0, 90.0]
    found = []
    for index, value in enumerate(hot_cold):
        found += bench.judge(reading(START_MS + index * 600_000, metrics={"temperature": value}, gateway="gw-1"))
    assert len(found) == 2


def test_limits_and_score_of_one_reading_are_one_alarm() -> None:
    bench = Bench({"temperature": Limit(None, 60.0)})
    found = bench.feed([*quiet(100), 90.0])
    assert [item.anomaly.reason for item in found] == ["above_max"]


def test_a_late_reading_is_neither_judged_nor_learned_by_the_score() -> None:
    bench = Bench()
    bench.feed(quiet(100))
    before = dict(bench.state.values)
    late = [
        reading(START_MS + index, metrics={"temperature": 90.0}, received_ms=bench.at_ms + index)
        for index in range(50)
    ]
    replayed = [reading(bench.at_ms + 10, metrics={"temperature": 90.0}, lane=Lane.REPLAY) for _ in range(50)]
    assert [bench.judge(item) for item in late + replayed] == [[]] * 100
    assert bench.state.values == before


def test_late_readings_beyond_a_limit_alarm_once() -> None:
    bench = Bench({"temperature": Limit(None, 60.0)})
    bench.judge(reading(START_MS, metrics={"temperature": 70.0}, gateway="gw-1"))
    backlog = [
        reading(START_MS - 400_000 + step * 60_000, metrics={"temperature": 70.0}, gateway="gw-1", lane=Lane.REPLAY)
        for step in range(6)
    ]
    assert [bench.judge(item) for item in backlog] == [[]] * 6


def test_a_late_return_does_not_end_a_live_excursion() -> None:
    bench = Bench({"temperature": Limit(None, 60.0)})
    assert len(bench.feed([20.0, 70.0])) == 1
    assert bench.judge(reading(bench.at_ms - 1, metrics={"temperature": 20.0})) == []
    bench.at_ms += 3_600_000
    assert bench.feed([70.0]) == []


def test_a_replayed_reading_opens_no_channel() -> None:
    bench = Bench()
    bench.judge(reading(START_MS, metrics={"temperature": 20.0}, lane=Lane.REPLAY))
    assert bench.state.values == {}


def test_an_alarm_of_the_score_makes_the_channel_slower() -> None:
    bench = Bench({"voltage": Limit(None, 5.0)})
    bench.feed([*quiet(100), 90.0])
    for index in range(40):
        bench.judge(reading(START_MS + index, metrics={"voltage": 5.5}))
    habits = {
        name: msgspec.msgpack.decode(value, type=Head).habit
        for name, value in bench.state.values.items()
        if name.startswith(b"h:")
    }
    assert habits == {b"h:temperature": HABIT, b"h:voltage": 0.0}


def test_an_episode_makes_it_slower_once_however_often_it_speaks() -> None:
    bench = Bench()
    assert len(bench.feed([*quiet(100), 30.0, 60.0, 120.0])) == 3
    assert msgspec.msgpack.decode(bench.state.values[b"h:temperature"], type=Head).habit == HABIT


def test_the_same_reading_again_changes_nothing() -> None:
    bench = Bench()
    bench.feed(quiet(100))
    spike = reading(bench.at_ms + STEP_MS, metrics={"temperature": 70.0})
    assert len(bench.judge(spike)) == 1
    before = dict(bench.state.values)
    assert bench.judge(spike) == []
    assert bench.state.values == before


def test_a_time_from_a_wrong_clock_does_not_deafen_the_channel() -> None:
    bench = Bench()
    bench.feed(quiet(100))
    future = bench.at_ms + 10_000
    bench.judge(reading(future, metrics={"temperature": 20.0}, received_ms=bench.at_ms + 100))
    found = bench.feed([*quiet(60, seed=2), 70.0])
    assert len(found) == 1


def test_an_old_reading_with_its_old_receipt_is_late_and_neither_judged_nor_learnt() -> None:
    bench = Bench()
    spike = reading(bench.at_ms + STEP_MS, metrics={"temperature": 20.0}, received_ms=bench.at_ms + STEP_MS + 5)
    bench.judge(spike)
    bench.feed(quiet(100))
    before = dict(bench.state.values)
    assert bench.judge(msgspec.structs.replace(spike, metrics={"temperature": 70.0})) == []
    assert bench.state.values == before


def test_repeating_a_whole_stream_gives_the_same_events() -> None:
    values = quiet(300)
    values[150] += 8.0
    values[250] -= 9.0
    first, second = Bench().feed(values), Bench().feed(values)
    assert len(first) == 2
    assert first == second


def test_booleans_and_strings_are_not_scored() -> None:
    bench = Bench({"door": Limit(None, 0.5)})
    for index in range(60):
        item = reading(START_MS + index * STEP_MS, metrics={"door": index % 50 == 49, "mode": "x" * (index % 3)})
        assert bench.judge(item) == []
    assert bench.state.values == {}


def test_metrics_per_device_are_bounded() -> None:
    bench = Bench()
    for index in range(3 * CHANNELS):
        bench.judge(reading(START_MS + index, metrics={f"m{index}": 1.0}))
    assert sum(name.startswith(b"h:") for name in bench.state.values) == CHANNELS


def test_state_per_channel_is_small() -> None:
    bench = Bench()
    bench.feed(quiet(500))
    sizes = {name[:1]: len(value) for name, value in bench.state.values.items()}
    assert sizes[b"h"] < 300
    assert sizes[b"r"] < 800


def test_the_reading_is_not_changed() -> None:
    bench = Bench()
    item = reading(START_MS, metrics={"temperature": 20})
    before = msgspec.json.encode(item)
    bench.judge(item)
    assert msgspec.json.encode(item) == before


def test_limits_of_a_type() -> None:
    assert limits_of_type(
        {
            "temperature": {"unit": "°C", "min": -20, "max": 60.5},
            "voltage": {"min": 3},
            "humidity": {"unit": "%"},
            "odd": {"min": "cold", "max": True},
            "worse": 7,
        }
    ) == {"temperature": Limit(-20.0, 60.5), "voltage": Limit(3.0, None)}


def temperatures() -> list[float]:
    """Hourly temperatures of San Francisco, a year of them."""
    from vega_datasets import data

    lines = Path(data.sf_temps.filepath).read_text(encoding="utf-8").splitlines()
    return [float(line.split(",")[0]) for line in lines[1:]]


def injected(source: random.Random, series: list[float], warm: int) -> tuple[list[float], list[tuple[int, int, str]]]:
    """The series with one to three episodes of 5 to 8 robust sigmas of its warm-up, and where they are."""
    median = sorted(series[:warm])[warm // 2]
    sigma = 1.4826 * sorted(abs(value - median) for value in series[:warm])[warm // 2]
    values, episodes = list(series), []
    for place in range(source.randint(1, 3)):
        start = warm + 5 + place * 75 + source.randrange(10)
        size = source.uniform(5.0, 8.0) * sigma * source.choice([-1, 1])
        kind, length = source.choice([("spike", 1), ("spike", 3), ("shift", 30), ("noise", 25)])
        for index in range(start, start + length):
            values[index] += source.gauss(0.0, size / 2) if kind == "noise" else size
        episodes.append((start, start + length, kind))
    return values, episodes


def test_it_finds_the_demos_faults_in_real_temperatures() -> None:
    year = temperatures()
    grace, warm, length = 50, 75, 300  # ten seconds; fifteen; a minute, at five readings a second
    injected_count = found_count = false_count = readings = 0
    for seed in range(120):
        source = random.Random(seed)
        start = source.randrange(len(year) - length)
        wobble = 0.3 * (seed % 2)  # every other sensor is noisy
        series = [value + source.gauss(0.0, wobble) for value in year[start : start + length]]
        values, episodes = injected(source, series, warm)
        at = [(item.at_ms - START_MS) // STEP_MS - 1 for item in Bench().feed(values)]
        injected_count += len(episodes)
        found_count += sum(any(first <= index < last + grace for index in at) for first, last, _ in episodes)
        false_count += sum(not any(first <= index < last + grace for first, last, _ in episodes) for index in at)
        readings += length
    assert found_count >= 0.97 * injected_count, (found_count, injected_count)
    assert false_count <= readings / 1_000
