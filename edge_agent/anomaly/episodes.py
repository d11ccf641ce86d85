"""From scores to alarms: hold-down and habituation. PURE.

One alarm per episode. After an alarm the channel is held until its score has stayed below the line for `HOLD_SAMPLES`
samples and `HOLD_S` seconds, so a fault that goes on, or its aftermath, is one alarm. Meanwhile only a score `BREAK`
times the episode's peak speaks again; while the score lingers above the line the peak fades, so that a fresh fault
during a long aftermath is not lost.

Habituation: a score is divided by 1 + `HABIT` x the number of earlier alarms of like strength, so that what keeps
happening must be ever stronger to be reported.
"""

from array import array

HOLD_SAMPLES = 24
HOLD_S = 5.0

BREAK = 1.5
FADE = 0.97
"""Factor on the remembered peak at each sample above the line: half after 23."""

HABIT = 0.1
LIKE = 1.5
"""Two scores are alike if neither is this much larger than the other."""

REMEMBERED = 10
"""Earlier alarms remembered per channel."""

LONG_AGO_S = -1e300


class Episodes:
    """The event layer of one channel."""

    __slots__ = ("earlier", "held_samples", "held_until_s", "peak")

    def __init__(self) -> None:
        self.earlier = array("d")  # scores of the latest alarms, oldest first
        self.held_samples = 0
        self.held_until_s = LONG_AGO_S
        self.peak = 0.0

    def alarm(self, at_s: float, score: float, line: float) -> bool:
        """Does this sample begin an episode that must be reported? Call once per sample, in order of time."""
        held = self.held_samples > 0 or at_s < self.held_until_s
        if self.held_samples > 0:
            self.held_samples -= 1
        if score < line:
            return False
        self.peak *= FADE
        like = sum(1 for earlier in self.earlier if score < earlier * LIKE and earlier < score * LIKE)
        if score / (1.0 + HABIT * like) < line:
            return False
        speaks = not held or score > BREAK * self.peak
        self.peak = max(score, self.peak) if held else score
        self.held_until_s = at_s + HOLD_S
        self.held_samples = HOLD_SAMPLES
        if speaks:
            if len(self.earlier) >= REMEMBERED:
                del self.earlier[0]
            self.earlier.append(score)
        return speaks

    def rewind(self) -> None:
        """The clock was set back: what was held by its time is held by samples alone."""
        self.held_until_s = LONG_AGO_S
