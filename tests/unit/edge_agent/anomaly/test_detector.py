"""The detector under River's own laws (`river.checks`), on a data set of ours: River's is a download."""

import sys
from random import Random
from types import ModuleType

import pytest
from river import base, checks

from edge_agent.anomaly.detector import VALUE, ChannelDetector


def rows(count: int) -> list[tuple[dict[str, float], bool]]:
    """Eight correlated features; one row in fifty is an anomaly in one of them."""
    draw = Random(7)
    made = []
    for _ in range(count):
        common = draw.gauss(0, 1)
        x = {f"f{number}": common * number / 8 + draw.gauss(0, 1) for number in range(8)}
        wrong = draw.random() < 0.02
        if wrong:
            x[f"f{draw.randrange(8)}"] += draw.choice((-12.0, 12.0))
        made.append((x, wrong))
    return made


class Rows:
    def __init__(self, count: int) -> None:
        self._rows = rows(count)

    def __iter__(self):
        return iter(self._rows)


def roc_auc(labels: list[bool], scores: list[float]) -> float:
    """The share of pairs of an anomaly and a normal row that are ranked rightly; ties count half."""
    wrong = [score for label, score in zip(labels, scores, strict=True) if label]
    right = [score for label, score in zip(labels, scores, strict=True) if not label]
    return sum((a > b) + 0.5 * (a == b) for a in wrong for b in right) / (len(wrong) * len(right))


@pytest.fixture
def our_data(monkeypatch: pytest.MonkeyPatch) -> None:
    metrics = ModuleType("sklearn.metrics")
    metrics.roc_auc_score = roc_auc  # type: ignore[attr-defined]
    package = ModuleType("sklearn")
    package.metrics = metrics  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "sklearn", package)
    monkeypatch.setitem(sys.modules, "sklearn.metrics", metrics)
    monkeypatch.setattr(checks, "_yield_datasets", lambda model, scale=1: iter([Rows(300 * scale)]))


def names() -> list[str]:
    return [check.__name__ for check in checks.yield_checks(ChannelDetector())]


@pytest.mark.usefixtures("our_data")
def test_it_keeps_river_s_laws() -> None:
    done = []
    for check in checks.yield_checks(ChannelDetector()):
        check(ChannelDetector())
        done.append(check.__name__)
    assert {"check_bounded_memory_growth", "check_pickling", "check_roc_auc", "check_emerging_features"} <= set(done)
    assert "check_clone_is_independent" in done


def test_it_is_an_anomaly_detector_that_ranks_well() -> None:
    detector = ChannelDetector()
    assert isinstance(detector, base.AnomalyDetector)
    labels, scores = [], []
    for x, wrong in rows(3_000):
        scores.append(detector.score_one(x))
        assert detector.learn_one(x) is None
        labels.append(wrong)
    assert roc_auc(labels[500:], scores[500:]) > 0.95


def test_scoring_learns_nothing_and_learning_does() -> None:
    detector = ChannelDetector()
    for x, _ in rows(500):
        detector.learn_one(x)
    x = {"f1": 40.0}
    assert detector.score_one(x) == detector.score_one(x) > 5.0


def test_features_are_bounded_and_text_is_ignored() -> None:
    detector = ChannelDetector(max_features=3)
    detector.learn_one({"text": "hello", "nan": float("nan"), "a": 1, "b": 2.0, "c": True, "d": 4.0})
    assert len(detector.channels) == 3
    assert detector.score_one({}) == 0.0
    assert detector.score_one({"unseen": 1e9}) == 0.0


def test_time_comes_from_the_time_feature_or_the_interval() -> None:
    steady = ChannelDetector(interval_s=5.0)
    stamped = ChannelDetector()
    for number in range(200):
        steady.learn_one({"a": 1.0})
        stamped.learn_one({"a": 1.0, "at_s": number * 60.0})
    assert steady.channels["a"].past.interval_s == pytest.approx(5.0)
    assert stamped.channels["a"].past.interval_s == pytest.approx(60.0)
    assert "at_s" not in stamped.channels
    assert stamped.line < steady.line < float("inf")
    assert ChannelDetector().line == float("inf")


def test_observe_is_score_then_learn() -> None:
    one, two = ChannelDetector(), ChannelDetector()
    draw = Random(1)
    for number in range(600):
        value = draw.gauss(0, 1) + (15.0 if number == 500 else 0.0)
        expected = one.score_one({VALUE: value, "at_s": number * 300.0})
        one.learn_one({VALUE: value, "at_s": number * 300.0})
        assert two.observe(number * 300.0, value)[0] == expected
    assert one.line == two.line
