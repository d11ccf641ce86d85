import gc
import math
import subprocess
import sys
from random import Random

import pytest

from edge_agent.anomaly import Scorer, Verdict
from edge_agent.anomaly.state import STATE_BYTES
from edge_agent.anomaly.watch import LATE_RUN
from shared.config import ConfigError

NOW_S = 1_790_000_000.0


def normal(count: int, seed: int = 1) -> list[float]:
    draw = Random(seed)
    return [20.0 + draw.gauss(0, 0.2) for _ in range(count)]


def scored(scorer: Scorer, values: list[float], start: int = 0, device: str = "d", interval_s: float = 1.0):
    return [
        scorer.score(device, "temperature", NOW_S + (start + number) * interval_s, value)
        for number, value in enumerate(values)
    ]


@pytest.fixture
def scorer() -> Scorer:
    scorer = Scorer()
    assert not any(scored(scorer, normal(1_000)))
    return scorer


def test_a_verdict_says_metric_reason_and_what_was_expected(scorer: Scorer) -> None:
    (verdict,) = scored(scorer, [30.0], 1_000)
    assert isinstance(verdict, Verdict)
    assert (verdict.metric, verdict.reason) == ("temperature", "jump")
    assert verdict.value > 6.0
    assert verdict.expected == pytest.approx(20.0, abs=1.0)


def test_one_verdict_an_episode(scorer: Scorer) -> None:
    found = scored(scorer, [value + 10.0 for value in normal(200, 2)], 1_000)
    assert [number for number, verdict in enumerate(found) if verdict] == [0]
    found = scored(scorer, normal(200, 3), 1_200)
    assert not any(found), "the return soon after is the episode's end"


def test_a_new_episode_soon_after_another_is_heard() -> None:
    """At five readings a second, two spikes ten seconds apart are two verdicts."""
    scorer = Scorer()
    scored(scorer, normal(1_000), interval_s=0.2)
    values = normal(200, 2)
    values[20] += 10.0
    values[70] -= 10.0
    found = scored(scorer, values, 1_000, interval_s=0.2)
    assert [number for number, verdict in enumerate(found) if verdict] == [20, 70]


def test_channels_are_apart(scorer: Scorer) -> None:
    scored(scorer, [value + 100.0 for value in normal(500)], device="other")
    assert not any(scored(scorer, normal(50, 4), 1_000))
    assert len(scorer) == 2


def test_late_samples_and_repeats_are_neither_scored_nor_learned(scorer: Scorer) -> None:
    before = scorer.snapshot()
    last = normal(1_000)[-1]
    assert scorer.score("d", "temperature", NOW_S + 500.0, 99.0) is None
    assert scorer.score("d", "temperature", NOW_S + 999.0, last) is None
    assert scorer.late == 2
    assert Scorer.restore(before)._channels[("d", "temperature")].detector.observe(NOW_S + 1_000, 20.0) == (
        scorer._channels[("d", "temperature")].detector.observe(NOW_S + 1_000, 20.0)
    )


def test_several_values_of_one_moment_are_taken(scorer: Scorer) -> None:
    for number in range(100):
        scorer.score("d", "temperature", NOW_S + 1_000 + number // 5, 20.0 + number / 1_000)
    assert scorer.late == 0


def test_a_clock_set_back_is_followed(scorer: Scorer) -> None:
    early = -86_400
    found = scored(scorer, normal(100, 5), early)
    assert scorer.late == LATE_RUN - 1
    assert not any(found)
    assert any(scored(scorer, [40.0], early + 100))


def test_a_clock_set_back_after_an_alarm_does_not_mute(scorer: Scorer) -> None:
    assert any(scored(scorer, [40.0], 1_000))
    assert not any(scored(scorer, normal(60, 5), -86_400))
    assert any(scored(scorer, [40.0], -86_400 + 60))


def test_a_clock_that_leapt_ahead_for_a_while_mutes_only_for_a_few_samples(scorer: Scorer) -> None:
    scored(scorer, [20.0], 2_000_000_000)
    scored(scorer, normal(LATE_RUN, 5), 1_000)
    assert any(scored(scorer, [40.0], 1_000 + LATE_RUN))


def test_the_number_of_channels_is_bounded_and_the_least_used_goes() -> None:
    scorer = Scorer(max_channels=3)
    for device in ("a", "b", "c"):
        scored(scorer, [1.0], device=device)
    scored(scorer, [1.1], 1, device="a")
    scored(scorer, [1.0], device="x")
    assert (len(scorer), scorer.evicted) == (3, 1)
    assert scorer.gone_channels() == [("b", "temperature")]
    assert scorer.gone_channels() == []
    assert {key[0] for key, _ in scorer.dirty_channels()} == {"a", "c", "x"}


def test_what_went_and_came_again_is_not_gone() -> None:
    scorer = Scorer(max_channels=1)
    for device in ("a", "b", "a"):
        scored(scorer, [1.0], device=device)
    assert scorer.gone_channels() == [("b", "temperature")]


def test_many_strangers_keep_memory_bounded() -> None:
    scorer = Scorer(max_channels=10)
    for number in range(1_000):
        scored(scorer, [1.0], device=f"d{number}")
    assert (len(scorer), scorer.evicted) == (10, 990)
    assert len(scorer.gone_channels()) == 10, "the list of the gone is bounded too"
    assert len(list(scorer.dirty_channels())) == 10


def test_a_snapshot_goes_on_with_identical_verdicts(scorer: Scorer) -> None:
    scored(scorer, [35.0, *normal(10, 8)], 1_000)
    restored = Scorer.restore(scorer.snapshot())
    assert restored.cold_start_reason is None
    values = normal(600, 6)
    values[300] += 5.0
    values[400:] = [value + 9.0 for value in values[400:]]
    assert scored(scorer, values, 1_011) == scored(restored, values, 1_011)
    assert scorer.snapshot() == restored.snapshot()


def test_channels_saved_one_by_one_go_on_too(scorer: Scorer) -> None:
    saved = dict(scorer.dirty_channels())
    assert list(scorer.dirty_channels()) == [], "clean until they learn again"
    scored(scorer, [20.0], 1_000)
    saved |= dict(scorer.dirty_channels())
    restored = Scorer()
    restored.load(saved.items())
    assert restored.cold_start_reason is None
    assert scored(scorer, [30.0], 1_001) == scored(restored, [30.0], 1_001)


def test_saving_may_be_done_in_parts_the_longest_waiting_first() -> None:
    scorer = Scorer()
    for device in ("a", "b", "c", "a"):
        scored(scorer, [float(ord(device))], device=device)
    assert [key[0] for key, _ in scorer.dirty_channels(limit=2)] == ["a", "b"]
    assert [key[0] for key, _ in scorer.dirty_channels(limit=2)] == ["c"]


@pytest.mark.parametrize("data", [b"", b"\xc1", b"junk" * 100, bytes(1_000)])
def test_an_unreadable_snapshot_is_a_cold_start_that_says_so(data: bytes) -> None:
    scorer = Scorer.restore(data)
    assert scorer.cold_start_reason == "unreadable snapshot"
    assert len(scorer) == 0
    assert not any(scored(scorer, normal(100)))


def test_a_snapshot_of_another_model_is_a_cold_start(scorer: Scorer) -> None:
    restored = Scorer.restore(scorer.snapshot(), model="sad")
    assert restored.cold_start_reason == "snapshot of model 'edge', this is 'sad'"


def test_one_damaged_channel_starts_cold_alone(scorer: Scorer) -> None:
    scored(scorer, normal(100), device="other")
    channels = dict(scorer.dirty_channels())
    channels[("other", "temperature")] = channels[("other", "temperature")][:-50]
    restored = Scorer()
    restored.load(channels.items())
    assert (len(restored), restored.cold_channels) == (1, 1)
    assert restored.cold_start_reason is not None


def test_learning_from_history_raises_and_remembers_no_alarm() -> None:
    scorer = Scorer()
    for number in range(2_000):
        spike = 30.0 if number % 400 == 399 else 0.0
        scorer.learn("d", "temperature", NOW_S + number, 20.0 + spike + 0.01 * (number % 7))
    episodes = scorer._channels[("d", "temperature")].episodes
    assert (len(episodes.earlier), episodes.held_samples) == (0, 0)


def test_values_that_are_no_numbers_are_the_caller_s_bug() -> None:
    for value in (math.nan, math.inf):
        with pytest.raises(AssertionError):
            Scorer().score("d", "m", NOW_S, value)


def test_extreme_values_and_times_are_borne(scorer: Scorer) -> None:
    draw = Random(9)
    for number in range(2_000):
        value = draw.choice((1.7e308, -1.7e308, 5e-324, 0.0, -127.0, 85.0, 20.0, 1e-300))
        scorer.score("d", "temperature", NOW_S + 1_000 + number + draw.choice((0, 0, 1e9, -1e9)), value)
    Scorer.restore(scorer.snapshot())


def test_another_model_goes_through_the_same_event_layer() -> None:
    scorer = Scorer(model="sad")
    assert not any(scored(scorer, normal(1_000)))
    found = scored(scorer, [60.0, 60.0, *normal(30, 2)], 1_000)
    assert [number for number, verdict in enumerate(found) if verdict] == [0]
    assert found[0].reason == "sad"
    restored = Scorer.restore(scorer.snapshot(), model="sad")
    assert restored.cold_start_reason is None
    assert len(restored) == 1


def test_an_unknown_model_is_a_configuration_error() -> None:
    with pytest.raises(ConfigError, match="the choices are edge"):
        Scorer(model="prophet")


def test_a_channel_costs_ten_kibibytes_at_most() -> None:
    scorer = Scorer()
    draw = Random(4)
    for number in range(7 * 288):
        value = 20 + 5 * math.sin(2 * math.pi * number / 288) + draw.gauss(0, 0.3)
        scorer.score("d", "temperature", NOW_S + number * 300.0, value)
    assert len(next(iter(scorer.dirty_channels()))[1]) < STATE_BYTES
    assert _deep_size(scorer._channels[("d", "temperature")]) <= 10 * 1024


def _deep_size(thing: object) -> int:
    seen: set[int] = set()
    size = 0
    pending = [thing]
    while pending:
        item = pending.pop()
        if id(item) in seen or isinstance(item, type):
            continue
        seen.add(id(item))
        size += sys.getsizeof(item)
        pending += gc.get_referents(item)
    return size


def test_importing_the_detector_loads_nothing_heavy() -> None:
    code = (
        "import sys; import edge_agent.anomaly, edge_agent.warm;"
        " s = edge_agent.anomaly.Scorer();"
        " [s.score('d', 'm', float(n), float(n % 7)) for n in range(200)]; s.snapshot();"
        " heavy = ('river.anomaly', 'river.stats', 'numpy', 'scipy', 'pandas', 'narwhals');"
        " print([name for name in heavy if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
