"""Following one channel robustly: what it was like lately, and how far a new sample is from that. PURE.

`residuals` says how a sample differs, in eight ways (`NAMES`); `follow` takes it in. A sample that its caller calls a
suspect is not followed at once. When several suspects in a row agree with one another and lie outside the usual
range, they are the new normal, and the whole memory moves there in one step; if the old level comes back soon, it
moves back in one step, and that return counts as no jump. So one glitch value leaves no trace, and a level shift is
one event.
"""

from array import array
from itertools import pairwise
from math import log
from statistics import median

from edge_agent.anomaly.daytime import Daytime

NAMES = ("jump", "level", "mean12", "mean48", "noise", "stuck", "clock", "clock48")
JUMP, LEVEL, MEAN12, MEAN48, NOISE, STUCK, CLOCK, CLOCK48 = range(8)
"""Distance from the last accepted value; from the slow level; means of 12 and of 48 against the slow level; log of
the mean step of 48 against the slow one; repeats of one value; distance from this hour of the last days; the same for
the mean of 48."""

BOOT = 32
"""Samples that `start` takes."""

BOOT_SPREAD = 8.0
"""Robust sigmas to which the first samples are cut."""

SLOW = 1 / 200
NOISE_SLOW = 1 / 800
"""Weights of one sample in the slow level and in the slow step."""

RING = 48
SHORT = 12
SETTLED = 6
"""Suspects in a row that agree with one another..."""

SUSPECTS_LONGEST = 48
"""...or in a row at all, after which the present is accepted."""

RETURN_SAMPLES = 288
RETURN_LEAST, RETURN_MOST = 0.6, 1.4
"""A step back by this part of the latest shift, within so many samples of it, is a return."""

GAP = 8.0
"""After a pause of more intervals than this, the last value says nothing about the next."""

STUCK_OFFSET = 8.0
"""Added to a run's length, so that a run of two is no wonder beside a run of one."""

QUANTA = 2.0
"""Quanta (smallest steps ever seen) added to each distance, so that one step of a coarse sensor is no wonder beside
none."""

HUGE = 1e100
"""Values are cut to this magnitude, so that sums and differences of any finite values stay finite."""


class Past:
    """The recent past of one channel. Call `start` once, then `residuals` and `follow` in order of time."""

    __slots__ = (
        "at_s", "daytime", "diff_sum", "diffs", "interval_s", "last", "level", "lived_s", "moved", "noise", "quantum",
        "raw", "ring", "ring_at", "run", "settled", "settled_sum", "shift", "shift_age", "stamps", "sum12", "sum48",
        "suspects",
    )  # fmt: skip

    def __init__(self) -> None:
        self.at_s = 0.0  # time of the latest sample
        self.stamps = 0  # samples whose time was taken
        self.interval_s = 0.0  # robust mean of the time between samples
        self.lived_s = 0.0  # time observed, pauses left out
        self.raw = 0.0  # latest value as it came
        self.last = 0.0  # latest value that was accepted
        self.level = 0.0
        self.noise = 0.0  # slow mean step
        self.quantum = 0.0
        self.ring = array("d")  # accepted values, RING of them, the oldest at ring_at
        self.diffs = array("d")  # steps, each cut at what makes a suspect
        self.ring_at = 0
        self.sum12 = self.sum48 = self.diff_sum = 0.0
        self.run = 1  # repeats of the latest value
        self.suspects = 0
        self.settled = 0  # suspects in a row that agree, and their sum
        self.settled_sum = 0.0
        self.shift = 0.0  # the latest move of the normal, and the samples since
        self.shift_age = 0
        self.moved = 0.0  # by how much the latest sample moved the normal; 0 for nearly all
        self.daytime = Daytime()

    def stamp(self, at_s: float) -> None:
        """Take in a sample's time, in seconds; to be called before `start` or `follow` takes its value."""
        if self.stamps:
            step = at_s - self.at_s
            if self.stamps < 3 or self.interval_s <= 0.0:
                self.interval_s += (max(step, 0.0) - self.interval_s) / self.stamps
            elif step >= 0.0:
                step = min(step, GAP * self.interval_s)
                self.interval_s += (step - self.interval_s) / min(self.stamps, 256)
                self.lived_s += step
        self.stamps += 1
        self.at_s = at_s

    def start(self, values: "array[float]") -> list[list[float]]:
        """Begin with BOOT values, cut to a robust range; returns the residuals of each, oldest first."""
        middle = median(values)
        steps = [abs(after - before) for before, after in pairwise(values)]
        spread = BOOT_SPREAD * 1.4826 * max(median(abs(value - middle) for value in values), median(steps))
        if spread == 0.0:
            spread = HUGE
        kept = [min(max(value, middle - spread), middle + spread) for value in values]
        self.quantum = min((step for step in steps if step > 0.0), default=0.0)
        self.level = self.last = self.raw = middle
        self.ring = array("d", (kept + kept)[-RING:])
        cut = [abs(after - before) for before, after in pairwise(kept)]
        self.diffs = array("d", (cut + cut)[-RING:])
        self._sum()
        self.noise = self.diff_sum / RING
        found = []
        for value in kept:
            found.append(self._residuals(0.0, value, pause=False))
            self.last = self.raw = value
        return found

    def residuals(self, at_s: float, value: float) -> list[float]:
        """How far a sample is from what was: one non-negative number per stream, 0 where a stream has no say."""
        if self.returning(value):
            value += self.shift
        pause = at_s - self.at_s > GAP * self.interval_s > 0.0 and not self.suspects
        return self._residuals(at_s, value, pause=pause)

    def _residuals(self, at_s: float, x: float, *, pause: bool) -> list[float]:
        level = self.level
        floor = QUANTA * self.quantum
        noise = self.noise + floor
        step = self.diff_sum / RING + floor
        mean48 = self.sum48 / RING
        found = [
            0.0 if pause else abs(x - self.last) + floor,
            abs(x - level) + floor,
            abs(self.sum12 / SHORT - level) + floor,
            abs(mean48 - level) + floor,
            abs(log(step) - log(noise)) if step > 0.0 < noise else 0.0,
            self.run + 1 + STUCK_OFFSET if x == self.raw else 0.0,
            0.0,
            0.0,
        ]
        distances = self.daytime.distances(at_s, x, mean48)
        if distances is not None:
            found[CLOCK] = distances[0] + floor
            found[CLOCK48] = distances[1] + floor
        return found

    def returning(self, value: float) -> bool:
        """Is the value back at the level before the latest shift?"""
        shift = self.shift
        if shift == 0.0 or self.shift_age > RETURN_SAMPLES:
            return False
        return RETURN_LEAST <= (self.last - value) / shift <= RETURN_MOST

    def expected(self, stream: int, at_s: float, value: float) -> float | None:
        """What the stream expected instead of `value`; None where that is no value."""
        back = self.shift if self.returning(value) else 0.0
        if stream == JUMP:
            return self.last - back
        if stream in (LEVEL, MEAN12, MEAN48):
            return self.level - back
        if stream == CLOCK:
            return self.daytime.nearest(at_s, value + back) - back
        return None

    def follow(self, value: float, *, suspect: bool, reach: float, usual: float) -> None:
        """Take the sample in.

        `reach`: jump from which one is a suspect; `usual`: distance from the slow level that is not unusual.
        """
        step = abs(value - self.raw)
        if step == 0.0:
            self.run += 1
        else:
            self.run = 1
            if (step < self.quantum or self.quantum == 0.0) and step > 1e-9 * abs(value):
                self.quantum = step
        self.shift_age += 1
        self.moved = 0.0
        if self.returning(value):
            self._move(-self.shift)
            self.shift = 0.0
        if suspect:
            self._suspect(value, step, reach, usual)
        else:
            self.suspects = self.settled = 0
            self.last = value
        self.raw = value
        self._roll(min(step, reach))
        self.daytime.gather(self.at_s, self.last, self.sum48 / RING)

    def _suspect(self, value: float, step: float, reach: float, usual: float) -> None:
        self.suspects += 1
        if self.suspects > 1 and step <= reach:
            self.settled += 1
            self.settled_sum += value
        else:
            self.settled, self.settled_sum = 1, value
        if self.settled < SETTLED and self.suspects < SUSPECTS_LONGEST:
            return
        normal = self.settled_sum / self.settled if self.settled >= SETTLED else value
        if abs(normal - self.level) > usual:
            self.shift, self.shift_age = normal - self.last, 0
            self._move(self.shift)
        self.last = value
        self.suspects = self.settled = 0

    def _move(self, by: float) -> None:
        """The normal has moved: take the whole memory there."""
        self.moved = by
        self.last += by
        self.level += by
        for index, value in enumerate(self.ring):
            self.ring[index] = value + by
        self.daytime.move(by)
        self._sum()

    def _roll(self, step: float) -> None:
        at, ring, diffs, last = self.ring_at, self.ring, self.diffs, self.last
        self.sum12 += last - ring[at - SHORT]
        self.sum48 += last - ring[at]
        self.diff_sum += step - diffs[at]
        ring[at] = last
        diffs[at] = step
        if at == RING - 1:
            self.ring_at = 0
            self._sum()
        else:
            self.ring_at = at + 1
        weight = 1 / self.stamps
        self.level += max(weight, SLOW) * (last - self.level)
        self.noise += max(weight, NOISE_SLOW) * (step - self.noise)

    def _sum(self) -> None:
        """The sums anew, so that rounding does not add up."""
        self.sum12 = sum(self.ring[index - SHORT] for index in range(self.ring_at, self.ring_at + SHORT))
        self.sum48 = sum(self.ring)
        self.diff_sum = max(0.0, sum(self.diffs))
