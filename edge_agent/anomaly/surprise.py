"""How unlikely a residual is, in decades, from the largest residuals seen before. PURE.

One `Tail` follows one stream of non-negative residuals by peaks over threshold: it keeps the largest of them and
fits a power law above the smallest that it keeps (Hill's estimator, shrunk towards a light tail), so

    surprise(r) = log10(n / k) + log10(r / gate) / slope        n residuals seen, k peaks kept above the gate

estimates -log10 P(a residual reaches r). Neighbouring peaks count as one (runs declustering), because a slow
excursion is one event however often it was sampled. Peaks older than a window are forgotten.

What a residual means is decided in `residuals`, which surprise deserves an alarm in `streams` and `episodes`.
"""

from array import array
from bisect import bisect_left
from math import exp, inf, log

KEPT = 32
"""Peaks kept."""

CLUSTER = 12
"""Samples: a peak this close after the last one belongs to the same event..."""

CLUSTER_LONGEST = 48
"""...as long as that event is younger than this many samples."""

CEILING = 30.0
"""Decades: no surprise is larger, so that sums of cubes stay finite and comparable."""

SLOPE_PRIOR = 0.1
SLOPE_WEIGHT = 16.0
"""The slope of a light tail (a normal one, at these depths), and how many peaks' evidence that prior is worth."""

EBB = 0.9
"""Factor on the gate at each sweep while fewer than half of the peaks are left and nothing reaches the gate."""

BORN_UNIT = 64
"""Samples: the grain in which a peak's age is kept, so that four bytes last for ever."""

LN10 = log(10.0)


class Tail:
    """The largest residuals of one stream, and what they say about the next one."""

    __slots__ = ("born", "floor", "gate", "log_sum", "opened", "peak", "peaked", "since", "values")

    def __init__(self, floor: float = 0.0) -> None:
        self.floor = floor  # the gate is never lower; above 0 the prior slope holds before any peak was seen
        self.gate = floor  # residuals up to here are ordinary: no surprise, nothing to learn
        self.values = array("d")  # ascending
        self.born = array("I")  # when each came, in BORN_UNITs, in the same order
        self.log_sum = 0.0  # sum of log(values)
        self.since = 0  # sample number at which the stream began to speak
        self.peak = 0.0  # the open event's largest residual, and its first and latest sample
        self.opened = -CLUSTER_LONGEST
        self.peaked = -CLUSTER_LONGEST

    def surprise(self, residual: float, seen: int, window: int) -> float:
        """Decades of unlikelihood of a residual at sample number `seen`; 0 at or below the gate."""
        gate = self.gate
        if residual <= gate:
            return 0.0
        count = min(seen - self.since, window) + 1
        kept = len(self.values)
        if gate <= 0.0:  # too few positive residuals so far for a tail: the rule of succession, no extrapolation
            above = kept - bisect_left(self.values, residual)
            return log((count + 1) / (above + 1)) / LN10
        return min(CEILING, (_rarity(count, kept) + (log(residual) - log(gate)) / self.slope()) / LN10)

    def reach(self, decades: float, seen: int, window: int) -> float:
        """The residual whose surprise is `decades`; infinite while there is no tail to extrapolate."""
        if self.gate <= 0.0:
            return inf
        rarity = _rarity(min(seen - self.since, window) + 1, len(self.values))
        return self.gate * exp(min(max((decades * LN10 - rarity) * self.slope(), 0.0), 200.0))

    def slope(self) -> float:
        """The tail's index by Hill, shrunk; larger is heavier. Only meaningful once the gate is above 0."""
        kept = len(self.values)
        excess = max(0.0, self.log_sum - kept * log(self.gate))
        return (excess + SLOPE_WEIGHT * SLOPE_PRIOR) / (kept + SLOPE_WEIGHT)

    def learn(self, residual: float, seen: int) -> None:
        """Take a residual above the gate into account; one at or below it needs no call."""
        longest = self._longest(seen)
        if self.gate > 0.0 and seen - self.peaked <= min(CLUSTER, longest) and seen - self.opened < longest:
            self.peaked = seen
            if residual <= self.peak:
                return
            at = bisect_left(self.values, self.peak)
            if at < len(self.values) and self.values[at] == self.peak:
                self._drop(at)
        else:
            self.opened = self.peaked = seen
        self.peak = residual
        if len(self.values) == KEPT:
            self._drop(0)
        at = bisect_left(self.values, residual)
        self.values.insert(at, residual)
        self.born.insert(at, self.opened // BORN_UNIT)
        self.log_sum += log(residual)
        if len(self.values) == KEPT and self.values[0] > self.gate:
            self.gate = self.values[0]

    def sweep(self, seen: int, window: int) -> None:
        """Forget peaks older than `window` samples; let the gate sink where too few are left and none come."""
        oldest = (seen - window) // BORN_UNIT
        if self.born and min(self.born) < oldest:
            kept = [(value, born) for value, born in zip(self.values, self.born, strict=True) if born >= oldest]
            self.values = array("d", [value for value, _ in kept])
            self.born = array("I", [born for _, born in kept])
            self.log_sum = sum(map(log, self.values))
        elif len(self.values) == KEPT:
            self.values, self.born = self.values[:], self.born[:]  # gives back what growing took in reserve
        if self.gate > 0.0 and len(self.values) < KEPT // 2 and seen - self.peaked > CLUSTER_LONGEST:
            self.gate = max(self.floor, self.gate * EBB)

    def _longest(self, seen: int) -> int:
        """Samples that one event may last: less while the stream is young, or its first low peaks would stay."""
        return min(CLUSTER_LONGEST, (seen - self.since) // (2 * KEPT))

    def _drop(self, at: int) -> None:
        self.log_sum -= log(self.values.pop(at))
        del self.born[at]


def _rarity(count: int, kept: int) -> float:
    """Natural log of samples per peak. After forgetting, fewer than half of the peaks prove nothing yet."""
    kept = max(kept, KEPT // 2)
    return log(max(count, kept) / kept)
