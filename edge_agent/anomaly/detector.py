"""The edge detector as a River anomaly detector: `learn_one`, `score_one` and River's laws.

`ChannelDetector` keeps one `streams.Channel` per numeric feature of `x` and scores a sample by the loudest of them,
in decades of unlikelihood (0 is ordinary; there is no upper scale to fit). The agent uses one detector per channel
with the single feature `VALUE`, by `observe`, which scores and then learns in one pass.

Alarms are not this module's business: compare the score with `line`, or use `scorer.Scorer`.
"""

import math
from collections.abc import Iterator
from typing import Any

from river.base import AnomalyDetector

from edge_agent.anomaly.streams import Channel

VALUE = "value"
"""The one feature's name when a detector follows a single channel."""


class ChannelDetector(AnomalyDetector):
    """A robust detector for slow sensor channels, by joint surprise of several residual streams.

    Parameters
    ----------
    interval_s
        Seconds between samples, for an `x` that bears no time of its own.
    time_feature
        The feature that is the sample's time in seconds since the epoch, if present; it is not scored.
    max_features
        Channels kept at most; further features are ignored.

    """

    def __init__(self, interval_s: float = 300.0, time_feature: str = "at_s", max_features: int = 64) -> None:
        self.interval_s = interval_s
        self.time_feature = time_feature
        self.max_features = max_features
        self.channels: dict[Any, Channel] = {}
        self.at_s = 0.0

    @property
    def line(self) -> float:
        """The score from which a sample deserves an alarm, in decades; it sinks as evidence grows."""
        channel = self.channels.get(VALUE)
        if channel is not None:
            return channel.line
        return max((channel.line for channel in self.channels.values()), default=math.inf)

    def learn_one(self, x: dict[Any, Any]) -> None:
        """Take the numeric, finite features of `x` into account."""
        at_s = self._time(x)
        for name, value in _numbers(x, self.time_feature):
            channel = self.channels.get(name)
            if channel is None:
                if len(self.channels) >= self.max_features:
                    continue
                channel = self.channels[name] = Channel()
            channel.learn(at_s, value)
        self.at_s = at_s

    def score_one(self, x: dict[Any, Any]) -> float:
        """Decades of unlikelihood of the least likely feature of `x`, which is not learned."""
        at_s = self._time(x)
        worst = 0.0
        for name, value in _numbers(x, self.time_feature):
            channel = self.channels.get(name)
            if channel is not None:
                worst = max(worst, channel.judge(at_s, value)[0])
        return worst

    def observe(self, at_s: float, value: float) -> tuple[float, str, float | None]:
        """Score, then learn, one value of the single channel `VALUE`: score, loudest stream, expected value."""
        channel = self.channels.get(VALUE)
        if channel is None:
            channel = self.channels[VALUE] = Channel()
        return channel.observe(at_s, value)

    def _time(self, x: dict[Any, Any]) -> float:
        at_s = x.get(self.time_feature)
        if isinstance(at_s, int | float) and math.isfinite(at_s):
            return float(at_s)
        return self.at_s + self.interval_s


def _numbers(x: dict[Any, Any], time_feature: str) -> Iterator[tuple[Any, float]]:
    for name, value in x.items():
        if name != time_feature and isinstance(value, int | float) and math.isfinite(value):
            yield name, float(value)
