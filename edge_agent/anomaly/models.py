"""River's own anomaly models behind the same event layer, by name. `river.anomaly` is loaded only when one is made.

A River model's score has a scale of its own (some are bounded, one is upside down), so what counts is how unlikely
its excess over its usual score is among those before: the excess goes through a `surprise.Tail` like any residual,
and the line is that of `streams`. Each model sees the value and its step, standardised robustly and cut to +-`CUT`,
so that no glitch poisons it.

State: River's models cannot be stored safely (their pickles break between versions), so a reservoir of the latest
values is kept, and a restored model learns from it anew.
"""

from array import array
from collections.abc import Callable, Mapping
from math import log10
from typing import Any

from edge_agent.anomaly.streams import NO_LINE, ORDINARY, Judged, alarm_line, bounded
from edge_agent.anomaly.surprise import Tail
from shared.config import ConfigError

EDGE = "edge"
"""The detector of this package, the default."""

RESERVOIR = 512
"""Values kept to learn from anew."""

CUT = 16.0
"""Spreads (mean absolute deviations x 1.25) to which value and step are cut."""

GRACE = 256
"""Samples learned before a River model is scored."""

SLOW = 1 / 200
WINDOW = 4_096
SWEEP = 64
GAP = 8.0


class _Features:
    """A River `AnomalyDetector` on two features. `sign` is -1 where a low score means an anomaly."""

    def __init__(self, model: Any, *, sign: float = 1.0, centre: float = 0.0, scale: float = 1.0) -> None:
        self._model, self._sign, self._centre, self._scale = model, sign, centre, scale

    def score(self, value: float, step: float) -> float:
        return self._sign * float(self._model.score_one(self._features(value, step)))

    def learn(self, value: float, step: float) -> None:
        self._model.learn_one(self._features(value, step))

    def _features(self, value: float, step: float) -> dict[str, float]:
        return {"value": self._centre + value * self._scale, "step": self._centre + step * self._scale}


class _Target:
    """A River `SupervisedAnomalyDetector`, which judges the target alone. `bounded`: its score lies in 0 to 1."""

    def __init__(self, model: Any, *, bounded: bool) -> None:
        self._model, self._bounded = model, bounded

    def score(self, value: float, step: float) -> float:  # noqa: ARG002 - the signature of its sibling
        score = float(self._model.score_one(None, value))
        return -log10(max(1.0 - score, 1e-16)) if self._bounded else score

    def learn(self, value: float, step: float) -> None:  # noqa: ARG002 - the signature of its sibling
        self._model.learn_one(None, value)


def _gaussian() -> _Target:
    from river.anomaly import GaussianScorer  # noqa: PLC0415 - 110 MB, only for who chose it

    # No window: with one, a glitch that leaves it makes a quiet channel's variance negative, and scoring raises.
    make: Any = GaussianScorer  # has no types
    return _Target(make(grace_period=GRACE), bounded=True)


def _hst() -> _Features:
    from river.anomaly import HalfSpaceTrees  # noqa: PLC0415 - 110 MB, only for who chose it

    # Half-space trees want features in 0 to 1: one half is the centre.
    return _Features(HalfSpaceTrees(seed=1), centre=0.5, scale=0.5 / CUT)


def _loda() -> _Features:
    from river.anomaly import LODA  # noqa: PLC0415 - 110 MB, only for who chose it

    return _Features(LODA(seed=1))


def _sad() -> _Target:
    from river.anomaly import StandardAbsoluteDeviation  # noqa: PLC0415 - 110 MB, only for who chose it

    return _Target(StandardAbsoluteDeviation(), bounded=False)


def _svm() -> _Features:
    from river.anomaly import OneClassSVM  # noqa: PLC0415 - 110 MB, only for who chose it

    return _Features(OneClassSVM(), sign=-1.0)  # its score is larger for normal points


FACTORIES: Mapping[str, Callable[[], _Features | _Target]] = {
    "gaussian": _gaussian,
    "hst": _hst,
    "loda": _loda,
    "sad": _sad,
    "svm": _svm,
}
"""River's models by the name that configuration uses."""


def check_model(name: str) -> None:
    """Raises ConfigError, listing the choices, if no model has this name."""
    if name != EDGE and name not in FACTORIES:
        choices = ", ".join((EDGE, *FACTORIES))
        raise ConfigError([f"anomaly model {name!r} is unknown; the choices are {choices}"])


class RiverChannel:
    """One channel scored by one of River's models: the same `observe` and `line` as the edge detector."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.reservoir = array("d")  # the latest RESERVOIR values, oldest first
        self.interval_s = 0.0
        self.line = NO_LINE
        self._model = FACTORIES[name]()
        self._tail = Tail()
        self._seen = 0
        self._at_s = 0.0
        self._level = self._spread = self._last = 0.0
        self._usual = 0.0  # slow mean of the model's score

    def observe(self, at_s: float, value: float) -> Judged:
        """Score, then learn: decades, the model's name, and the slow level."""
        value = bounded(value)
        level = self._level if self._seen else value
        spread = self._spread or 1.0
        scaled = min(max((value - level) / spread, -CUT), CUT)
        step = min(max((value - (self._last if self._seen else value)) / spread, -CUT), CUT)
        judged = ORDINARY
        if self._seen >= GRACE:
            score = self._model.score(scaled, step)
            excess = score - self._usual
            if excess > self._tail.gate:
                judged = (self._tail.surprise(excess, self._seen, WINDOW), self.name, level)
                self._tail.learn(excess, self._seen)
            self._usual += max(1 / (self._seen - GRACE + 1), SLOW) * excess
        self._model.learn(scaled, step)
        self._follow(at_s, value, level)
        return judged

    def _follow(self, at_s: float, value: float, level: float) -> None:
        seen = self._seen = self._seen + 1
        if seen > 1:
            gap_s = at_s - self._at_s
            if self.interval_s > 0.0:
                gap_s = min(gap_s, GAP * self.interval_s)
            self.interval_s += (max(gap_s, 0.0) - self.interval_s) / min(seen - 1, 256)
        away = value - level
        reach = CUT * self._spread if seen > GRACE and self._spread > 0.0 else abs(away)
        weight = max(1 / seen, SLOW)
        self._level = level + weight * min(max(away, -reach), reach)
        self._spread += weight * (1.25 * min(abs(away), reach) - self._spread)
        self._last, self._at_s = value, at_s
        if len(self.reservoir) >= RESERVOIR:
            del self.reservoir[0]
        self.reservoir.append(value)
        if seen % SWEEP == 0:
            self._tail.sweep(seen, WINDOW)
            self.line = alarm_line(self.interval_s, seen)

    def relearn(self, values: "array[float]", interval_s: float, at_s: float) -> None:
        """Learn a reservoir whose latest value was taken at `at_s`."""
        for number, value in enumerate(values):
            self.observe(at_s - (len(values) - 1 - number) * interval_s, value)
