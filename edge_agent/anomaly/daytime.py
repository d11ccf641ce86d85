"""What a channel was like at this hour on the last three days. PURE.

Hours are those of UTC. A place in the table is overwritten after three days; an hour speaks once all of its three
days are known.
"""

from array import array
from math import nan

SLOTS = 24
DAYS = 3
DAY_S = 86_400.0


class Daytime:
    """Means per hour of day of two quantities (the value and its mean of 48), over the last DAYS days."""

    __slots__ = ("day", "means", "slot", "slot_mean", "slot_n", "slot_value", "values")

    def __init__(self) -> None:
        self.values = array("f")  # SLOTS x DAYS, NaN where unknown; empty before the first hour is over
        self.means = array("f")
        self.slot = -1  # the hour being gathered, its day's number, and its sums
        self.day = 0
        self.slot_n = 0
        self.slot_value = 0.0
        self.slot_mean = 0.0

    def distances(self, at_s: float, value: float, mean: float) -> tuple[float, float] | None:
        """How far value and mean are from the nearest of the three days at this hour; None where it cannot say."""
        values = self.values
        if not values:
            return None
        at = int(at_s % DAY_S * (SLOTS / DAY_S)) * DAYS
        one, two, three = values[at], values[at + 1], values[at + 2]
        if not (one == one and two == two and three == three):  # noqa: PLR0124 - false for NaN, faster than isnan
            return None
        means = self.means
        return (
            min(abs(one - value), abs(two - value), abs(three - value)),
            min(abs(means[at] - mean), abs(means[at + 1] - mean), abs(means[at + 2] - mean)),
        )

    def nearest(self, at_s: float, value: float) -> float:
        """The value of the three days at this hour that is nearest; call only where `distances` speaks."""
        at = int(at_s % DAY_S * (SLOTS / DAY_S)) * DAYS
        return min(self.values[at : at + DAYS], key=lambda known: abs(known - value))

    def gather(self, at_s: float, value: float, mean: float) -> None:
        """Take in one sample."""
        slot = int(at_s % DAY_S * (SLOTS / DAY_S))
        if slot != self.slot:
            if self.slot_n:
                if not self.values:
                    self.values = array("f", [nan]) * (SLOTS * DAYS)
                    self.means = array("f", [nan]) * (SLOTS * DAYS)
                at = self.slot * DAYS + self.day % DAYS
                self.values[at] = _single(self.slot_value / self.slot_n)
                self.means[at] = _single(self.slot_mean / self.slot_n)
            self.slot, self.day, self.slot_n = slot, int(at_s // DAY_S), 0
            self.slot_value = self.slot_mean = 0.0
        self.slot_n += 1
        self.slot_value += value
        self.slot_mean += mean

    def move(self, by: float) -> None:
        """The channel's normal moved by so much: so did every day before, as far as this channel is concerned."""
        for table in (self.values, self.means):
            for index, known in enumerate(table):
                table[index] = _single(known + by)
        self.slot_value += by * self.slot_n
        self.slot_mean += by * self.slot_n


def _single(value: float) -> float:
    """Cut to what single precision can hold (NaN stays)."""
    return -3e38 if value < -3e38 else min(value, 3e38) if value > 0.0 else value
