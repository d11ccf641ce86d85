"""One channel (one metric of one device): how surprising each sample is, and learning from it. PURE.

Each sample is scored before it is learned. The residuals of `residuals` become surprises (`surprise.Tail`), which are
joined by the cube root of the sum of their cubes, so that the loudest stream decides and agreement adds a little.

- The slow streams' word counts in proportion to the evidence (`MATURE_*`): a day or two must pass before they can
  tell a daily swing from a fault. Only the jump speaks from the beginning, against a line that starts higher.
- What a tail learns of a sample that would raise an alarm is cut (`_tamed`), so a few episodes do not blunt it; what
  lasts, or comes again after hours, is learned as a part of the channel's life.

The alarm line is here; what becomes of a score above it is decided in `episodes`.
"""

from array import array
from math import log10

from edge_agent.anomaly.residuals import BOOT, CLOCK, CLOCK48, HUGE, JUMP, LEVEL, NAMES, STUCK, STUCK_OFFSET, Past
from edge_agent.anomaly.surprise import CLUSTER, Tail

LINE = 4.6
"""Decades: the alarm line at one sample in five minutes or slower."""

LINE_INTERVAL_S = 300.0
LINE_RATE = 0.4
"""Decades added for each tenfold faster sampling: less than one, because fast samples depend on one another."""

DAY_ONE = 1.0
DAY_ONE_SAMPLES = 1_000
"""Decades added to the line at first, melting away over so many samples."""

MATURE_SAMPLES = 4_000
MATURE_S = 2 * 86_400.0
"""The slow streams count in full after so many samples or after so long, whichever comes first..."""

CLOCK_SILENT_S = 4 * 86_400.0
"""...and those of the time of day begin only after this."""

OF_THE_VALUE = (LEVEL, CLOCK)
"""Streams that look at the sample itself, beside the jump; the others look at what was accepted before it."""

STUCK_SHORTEST = 12
"""Repeats of one value before they may be a fault."""

STUCK_LEARN = 32
"""A run of repeats longer than this is learned only each time that it has grown by as many."""

ONE_DISTURBANCE_S = 600.0
"""Residuals this soon after an alarming one belong to the same disturbance: each is learned as an ordinary peak..."""

LASTING = 96
"""...unless they have come without a pause for so many samples: then the channel has changed."""

GROWTH = 1.1
"""Elsewhere an alarming residual is learned as this much more than the largest known, at most..."""

REPEAT_S = 6 * 3_600.0
REPEAT_LIKE = 1.5
"""...but in full once one of like size (neither this much larger than the other) came so long before."""

WINDOW_SAMPLES = 4_096
WINDOW_S = 7 * 86_400.0
"""The tails forget after the longer of the two."""

FASTEST_S = 1e-3
"""Shorter intervals count as this one."""

SWEEP = 64
"""Samples between two looks at line, window and old peaks."""

NO_LINE = 99.0
"""Decades that nothing reaches."""

Judged = tuple[float, str, float | None]
"""Joint surprise in decades, the loudest stream's name ("" if all were ordinary), and the value it expected."""

ORDINARY: Judged = (0.0, "", None)


class Channel:
    """`judge` is pure, `learn` takes the sample in, `observe` is both in one pass. Times in seconds, rising."""

    __slots__ = (
        "boot", "clock_lived_s", "cut_begun", "cut_first", "cut_last", "cut_peak", "line", "past",
        "reach", "seen", "tails", "weights", "window",
    )  # fmt: skip

    def __init__(self) -> None:
        self.seen = 0  # samples learned
        self.boot = array("d")  # the first BOOT of them
        self.past = Past()
        self.tails = tuple(Tail(STUCK_OFFSET + 2 if name == NAMES[STUCK] else 0.0) for name in NAMES)
        self.line = NO_LINE
        self.window = WINDOW_SAMPLES
        self.weights = array("d", [1.0]) + array("d", [0.0]) * (len(NAMES) - 1)  # what each stream's word counts
        self.clock_lived_s = 0.0  # time observed when the latter began; 0 before
        self.reach = HUGE  # jump from which a sample is a suspect
        self.cut_peak = array("d", [0.0]) * len(NAMES)  # per stream, the latest residual of its kind that was cut,
        self.cut_first = array("q", [0]) * len(NAMES)  # the sample at which that kind first came,
        self.cut_begun = array("q", [0]) * len(NAMES)  # the sample at which the latest cuts in a row began,
        self.cut_last = array("q", [0]) * len(NAMES)  # and that of the latest cut

    def judge(self, at_s: float, value: float) -> Judged:
        """The sample against everything before it. Changes nothing."""
        if self.seen < BOOT:
            return ORDINARY
        value = bounded(value)
        residuals = self.past.residuals(at_s, value)
        return self._join(at_s, value, self._loud(residuals))

    def learn(self, at_s: float, value: float) -> None:
        self.observe(at_s, value)

    def observe(self, at_s: float, value: float) -> Judged:
        """`judge`, then `learn`."""
        value = bounded(value)
        past = self.past
        if self.seen < BOOT:
            past.stamp(at_s)
            self._boot(value)
            return ORDINARY
        residuals = past.residuals(at_s, value)
        loud = self._loud(residuals)
        judged = self._join(at_s, value, loud) if loud else ORDINARY
        past.stamp(at_s)
        self._learn(value, residuals, loud)
        return judged

    def _loud(self, residuals: list[float]) -> list[tuple[int, float]]:
        """The streams that have anything to say, with their surprise in decades."""
        tails, seen, window = self.tails, self.seen, self.window
        weights = self.weights
        return [
            (index, weights[index] * tails[index].surprise(residual, seen, window))
            for index, residual in enumerate(residuals)
            if residual > tails[index].gate
        ]

    def _join(self, at_s: float, value: float, loud: list[tuple[int, float]]) -> Judged:
        total = best = 0.0
        loudest = -1
        for index, decades in loud:
            if index == STUCK and self.past.run < STUCK_SHORTEST:
                continue
            total += decades * decades * decades
            if decades > best:
                best, loudest = decades, index
        if loudest < 0:
            return ORDINARY
        return total ** (1 / 3), NAMES[loudest], self.past.expected(loudest, at_s, value)

    def _boot(self, value: float) -> None:
        self.boot.append(value)
        self.seen += 1
        if self.seen < BOOT:
            return
        for number, residuals in enumerate(self.past.start(self.boot)):
            for index, _ in self._loud(residuals):
                self.tails[index].learn(residuals[index], number)
        self.boot = array("d")
        self._sweep()

    def _learn(self, value: float, residuals: list[float], loud: list[tuple[int, float]]) -> None:
        seen = self.seen = self.seen + 1
        if seen % SWEEP == 0:
            self._sweep()
        suspect = False
        for index, decades in loud:
            residual = residuals[index]
            if index == STUCK:
                if self.past.run < STUCK_LEARN or self.past.run % STUCK_LEARN == 0:
                    self.tails[STUCK].learn(residual, seen)
                continue
            if index == JUMP:
                self.reach = self.tails[JUMP].reach(self.line, seen, self.window)
                suspect = residual > self.reach
            # A suspect is no part of the channel's life yet, so its own distances are not learned as if it were.
            alarming = decades > self.line or (suspect and index in OF_THE_VALUE)
            self.tails[index].learn(self._tamed(index, residual, alarming=alarming), seen)
        usual = self.tails[LEVEL].values
        self.past.follow(value, suspect=suspect, reach=self.reach, usual=usual[-1] if usual else 0.0)

    def _tamed(self, index: int, residual: float, *, alarming: bool) -> float:
        """What a tail learns of a residual; `alarming`: it would raise an alarm by itself."""
        tail, seen, interval_s = self.tails[index], self.seen, self.past.interval_s
        if tail.gate <= 0.0:
            return residual  # too few peaks yet to cut by
        last = self.cut_last[index]
        recent = last > 0 and (seen - last) * interval_s < ONE_DISTURBANCE_S
        top = tail.values[-1] if tail.values else tail.gate
        if not alarming:
            return min(residual, top) if recent else residual
        if seen - last > CLUSTER:
            self.cut_begun[index] = seen
        self.cut_last[index] = seen
        peak = self.cut_peak[index]
        if peak < residual * REPEAT_LIKE and residual < peak * REPEAT_LIKE:
            if (seen - self.cut_first[index]) * interval_s > REPEAT_S:
                return residual
        else:
            self.cut_peak[index], self.cut_first[index] = residual, seen
        if recent and seen - self.cut_begun[index] < LASTING:
            return min(residual, tail.values[len(tail.values) // 2] if tail.values else top)
        return min(residual, top * GROWTH)

    def _sweep(self) -> None:
        """Line, window, maturity and old peaks, now and then."""
        past, seen = self.past, self.seen
        interval_s = past.interval_s
        self.window = int(max(WINDOW_SAMPLES, WINDOW_S / max(interval_s, FASTEST_S)))
        self.line = alarm_line(interval_s, seen)
        for index in range(LEVEL, CLOCK):
            self.weights[index] = min(1.0, max(seen / MATURE_SAMPLES, past.lived_s / MATURE_S))
        if self.clock_lived_s > 0.0:
            self.weights[CLOCK] = self.weights[CLOCK48] = min(1.0, (past.lived_s - self.clock_lived_s) / MATURE_S)
        elif past.lived_s > CLOCK_SILENT_S:
            self.clock_lived_s = past.lived_s
            for tail in self.tails[CLOCK:]:
                tail.since = seen
        for tail in self.tails:
            tail.sweep(seen, self.window)
        self.reach = self.tails[JUMP].reach(self.line, seen, self.window)


def alarm_line(interval_s: float, seen: int) -> float:
    """Decades from which a score deserves an alarm, for this interval between samples and so many of them."""
    faster = max(0.0, log10(LINE_INTERVAL_S / max(interval_s, FASTEST_S)))
    return LINE + LINE_RATE * faster + DAY_ONE * max(0.0, 1.0 - seen / DAY_ONE_SAMPLES)


def bounded(value: float) -> float:
    """The value, cut to a size that sums and differences can bear."""
    return value if -HUGE < value < HUGE else min(max(value, -HUGE), HUGE)
