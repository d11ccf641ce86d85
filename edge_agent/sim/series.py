"""What a sensor measures: measured values replayed, or a model of temperature and battery. PURE.

A `Series` is a function of a reading's number alone (beside its seed), so a run can be told again.
"""

import math
import random
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

DAY_S = 86_400.0


class Series(Protocol):
    """The value of reading number `n` (from 0), measured `at_s` seconds after the start."""

    def value(self, n: int, at_s: float) -> float: ...


@dataclass(frozen=True, slots=True)
class Replay:
    """Measured values from `offset` on, one a reading; at the end it turns round, so that nothing jumps."""

    values: Sequence[float]
    offset: int = 0

    def value(self, n: int, at_s: float) -> float:
        del at_s
        period = 2 * len(self.values) - 2
        place = (self.offset + n) % period if period > 0 else 0
        return self.values[place if place < len(self.values) else period - place]


class Temperature:
    """Degrees Celsius of a room: a daily swing, a slow autoregressive wander (AR(1)), and the sensor's noise."""

    def __init__(self, seed: int, mean: float = 21.0, swing: float = 3.0, noise: float = 0.05) -> None:
        self._random = random.Random(seed)  # noqa: S311 - a model, no secret
        self._mean = mean + self._random.gauss(0, 1.5)
        self._swing = swing
        self._noise = noise
        self._phase = self._random.random()
        self._wander = 0.0

    def value(self, n: int, at_s: float) -> float:
        del n
        self._wander = 0.995 * self._wander + self._random.gauss(0, 0.03)
        day = math.sin(2 * math.pi * (at_s / DAY_S + self._phase))
        return round(self._mean + self._swing * day + self._wander + self._random.gauss(0, self._noise), 3)


class Battery:
    """Volts of one lithium cell: flat in the middle, steep near empty, recharged when it is nearly empty.

    `life_s` is the time from full to empty. The curve is the usual one of a lithium-ion cell: 4.2 V full, some
    3.7 V over most of its charge, below 3.4 V in its last tenth.
    """

    def __init__(self, seed: int, life_s: float = 30 * DAY_S, noise: float = 0.004) -> None:
        self._random = random.Random(seed)  # noqa: S311 - a model, no secret
        self._life_s = life_s
        self._noise = noise
        self._charge = 0.4 + 0.6 * self._random.random()
        self._charging = False
        self._at_s = 0.0

    def value(self, n: int, at_s: float) -> float:
        del n
        spent = (at_s - self._at_s) / self._life_s
        self._at_s = at_s
        self._charge += 12 * spent if self._charging else -spent
        if self._charge <= 0.08:
            self._charging = True
        elif self._charge >= 1.0:
            self._charging = False
        charge = min(1.0, max(0.0, self._charge))
        volts = 3.4 + 0.45 * charge + 0.35 * charge**8 - 0.4 * math.exp(-charge / 0.04)
        return round(volts + self._random.gauss(0, self._noise), 4)


def robust_sigma(values: Sequence[float]) -> float:
    """1.4826 times the median absolute deviation: the standard deviation, where values are normal."""
    middle = statistics.median(values)
    return 1.4826 * statistics.median(abs(value - middle) for value in values)
