"""Faults on request: what goes wrong, when, how much, and how it changes readings and messages. PURE.

Value faults change one metric's values; the others change clocks, messages or the link. Each fault is an `Episode`
with its span in seconds from the start, so that detection can be judged.
"""

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum


class Fault(StrEnum):
    """What can go wrong."""

    SPIKE = "spike"  # one reading far off
    LEVEL_SHIFT = "level_shift"  # another level, and back at the end
    NOISE_BURST = "noise_burst"  # readings scatter
    DRIFT = "drift"  # away, a little more each reading
    STUCK = "stuck"  # the same value again and again
    GLITCH = "glitch"  # the values that broken sensors send
    CLOCK_SKEW = "clock_skew"  # the device's clock is off by `size` seconds
    CLOCK_RESET = "clock_reset"  # the device's clock starts at 1970
    DUPLICATES = "duplicates"  # each message is sent twice
    MALFORMED = "malformed"  # each message is followed by one that cannot be read
    FLOOD = "flood"  # `size` times as many messages
    OFFLINE = "offline"  # no connection; readings wait in the device


VALUE_FAULTS = frozenset({Fault.SPIKE, Fault.LEVEL_SHIFT, Fault.NOISE_BURST, Fault.DRIFT, Fault.STUCK, Fault.GLITCH})
SIZED_IN_SIGMAS = VALUE_FAULTS - {Fault.STUCK, Fault.GLITCH}

MIN_SIGMAS = 5.0
MAX_SIGMAS = 8.0
GLITCHES = (-127.0, 85.0)
"""What a DS18B20 reports when it is disconnected, and at power-up before its first conversion."""


@dataclass(frozen=True, slots=True)
class Episode:
    """One fault of one device, from `start_s` (inclusive) to `end_s` (exclusive).

    `size`: robust sigmas for value faults, seconds for skew, times the rate for a flood; signed where it has a
    direction.
    """

    device: str
    fault: Fault
    metric: str
    start_s: float
    end_s: float
    size: float

    def covers(self, at_s: float) -> bool:
        """Whether the fault is on at this moment."""
        return self.start_s <= at_s < self.end_s


def happened(episodes: Sequence[Episode], last_s: float, ended_s: float) -> list[Episode]:
    """The episodes of a device that came before its last reading, each cut off where the run ended."""
    return [replace(e, end_s=min(e.end_s, ended_s)) for e in episodes if e.start_s <= last_s]


def schedule(
    devices: Sequence[str],
    faults: Sequence[Fault],
    metric: str,
    episodes: int,
    *,
    first_s: float,
    last_s: float,
    interval_s: float,
    seed: int,
) -> list[Episode]:
    """`episodes` faults, kinds in turn, spread over the devices and over [first_s, last_s].

    Each device has its own stretch of time for each of its episodes, so that two never touch: they start at
    random within the first third of their stretch and last a third at most.
    """
    draw = random.Random(seed)  # noqa: S311 - a plan that can be made again
    rounds = math.ceil(episodes / len(devices))
    stretch_s = (last_s - first_s) / rounds
    made = []
    for number in range(episodes):
        fault = faults[(number + number // len(devices)) % len(faults)]
        begins = first_s + (number // len(devices)) * stretch_s
        start_s = begins + draw.random() * stretch_s / 3
        end_s = start_s + min(_lasts_s(fault, interval_s, draw), stretch_s / 3)
        made.append(Episode(devices[number % len(devices)], fault, metric, start_s, end_s, _size(fault, draw)))
    return made


def _lasts_s(fault: Fault, interval_s: float, draw: random.Random) -> float:
    if fault is Fault.SPIKE:
        return interval_s  # one reading falls into it, whenever it begins
    if fault in (Fault.LEVEL_SHIFT, Fault.NOISE_BURST, Fault.GLITCH):
        return interval_s * draw.randint(12, 20)
    return interval_s * draw.randint(25, 40)


def _size(fault: Fault, draw: random.Random) -> float:
    sign = draw.choice((-1.0, 1.0))
    if fault in SIZED_IN_SIGMAS:
        return sign * draw.uniform(MIN_SIGMAS, MAX_SIGMAS)
    if fault is Fault.CLOCK_SKEW:
        return sign * draw.uniform(30.0, 600.0)
    return 20.0 if fault is Fault.FLOOD else 0.0


class Distortion:
    """What value faults do to one metric of one device. Call `apply` once a reading, in order."""

    def __init__(self, episodes: Sequence[Episode], sigma: float, seed: int) -> None:
        self._episodes = [episode for episode in episodes if episode.fault in VALUE_FAULTS]
        self._sigma = sigma
        self._random = random.Random(seed)  # noqa: S311 - a model, no secret
        self._held: float | None = None

    def apply(self, value: float, at_s: float) -> float:
        """The value that the broken sensor reports instead of `value`; `value` itself while it is whole."""
        episode = next((episode for episode in self._episodes if episode.covers(at_s)), None)
        if episode is None:
            self._held = None
            return value
        step = episode.size * self._sigma
        if episode.fault in (Fault.SPIKE, Fault.LEVEL_SHIFT):
            return round(value + step, 4)
        if episode.fault is Fault.NOISE_BURST:
            # Of this spread every way; its first reading is far off, so that the span is the burst's.
            scatter = 1.0 if self._held is None else self._random.gauss(0, 1)
            self._held = value
            return round(value + step * scatter, 4)
        if episode.fault is Fault.DRIFT:
            return round(value + step * (at_s - episode.start_s) / (episode.end_s - episode.start_s), 4)
        if episode.fault is Fault.GLITCH:
            return self._random.choice(GLITCHES)
        self._held = value if self._held is None else self._held
        return self._held
