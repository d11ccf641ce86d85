"""One metric against another of the same device and moment, where the two go together. PURE.

A battery's voltage follows the temperature; a value that is ordinary for each metric alone may be wrong beside the
other. A `Pair` keeps slow means, variances and the covariance of the accepted values of both; where they correlate
well, the distance of the one from what the other lets expect becomes a surprise like any residual.

It speaks only after days: over a shorter time any two slow metrics seem to go together.
"""

from math import sqrt

from edge_agent.anomaly.surprise import Tail

MEMORY_S = 3 * 86_400.0
"""Time over which means and covariance forget."""

SILENT_S = 2 * 86_400.0
MATURE_S = 4 * 86_400.0
"""Observed time before a pair says anything, and from which its word counts in full."""

CORRELATED = 0.7
"""A pair of weaker correlation is none."""

SLOW = 1 / 200
"""Weight of one sample in the slow offset, which follows what the other metric does not explain (a discharge)."""

LASTING = 96
"""Samples in a row that would raise an alarm, after which the relation has changed and is learned anew."""

GROWTH = 1.1
"""Until then such a distance is learned as this much more than the largest known, at most."""


class Pair:
    """How `y` (this channel) goes with `x` (the channel named `other`)."""

    __slots__ = (
        "alarming", "cross", "mean_x", "mean_y", "offset", "other", "samples", "tail", "var_x", "var_y",
    )  # fmt: skip

    def __init__(self, other: str = "") -> None:
        self.other = other
        self.samples = 0
        self.mean_x = self.mean_y = 0.0
        self.var_x = self.var_y = self.cross = 0.0
        self.offset = 0.0
        self.alarming = 0  # samples in a row
        self.tail: Tail | None = None  # made when the two have been seen to go together

    def expected(self, x: float) -> float:
        """The value of `y` that `x` lets expect."""
        slope = self.cross / self.var_x if self.var_x > 0.0 else 0.0
        return self.mean_y + slope * (x - self.mean_x) + self.offset

    def observe(
        self, x: float, y: float, *, floor: float, interval_s: float, lived_s: float, line: float, window: int
    ) -> float:
        """Score, then learn: decades. `floor`: distance that is none; `lived_s`: time observed; the rest: streams."""
        decades = 0.0
        seen = self.samples = self.samples + 1
        if lived_s > SILENT_S and self._correlate():
            tail = self.tail
            if tail is None:
                tail = self.tail = Tail()
                tail.since = seen
            distance = abs(y - self.expected(x)) + floor
            if distance > tail.gate:
                weight = min(1.0, (lived_s - SILENT_S) / (MATURE_S - SILENT_S))
                decades = weight * tail.surprise(distance, seen, window)
                self.alarming = self.alarming + 1 if decades > line else 0
                if 0 < self.alarming <= LASTING and tail.values:
                    distance = min(distance, tail.values[-1] * GROWTH)
                tail.learn(distance, seen)
            else:
                self.alarming = 0
            if seen % 64 == 0:
                tail.sweep(seen, window)
        if not 0 < self.alarming <= LASTING:
            self._learn(x, y, interval_s)
        return decades

    def move(self, by_x: float, by_y: float) -> None:
        """The normal of either metric has moved, and the relation with it."""
        self.mean_x += by_x
        self.mean_y += by_y

    def _correlate(self) -> bool:
        spread = sqrt(self.var_x) * sqrt(self.var_y)
        return spread > 0.0 and abs(self.cross) >= CORRELATED * spread

    def _learn(self, x: float, y: float, interval_s: float) -> None:
        self.offset += SLOW * (y - self.expected(x))
        weight = min(1.0, max(1 / self.samples, interval_s / MEMORY_S))
        dx, dy = x - self.mean_x, y - self.mean_y
        self.mean_x += weight * dx
        self.mean_y += weight * dy
        rest = 1.0 - weight
        self.var_x = rest * (self.var_x + weight * dx * dx)
        self.var_y = rest * (self.var_y + weight * dy * dy)
        self.cross = rest * (self.cross + weight * dx * dy)
