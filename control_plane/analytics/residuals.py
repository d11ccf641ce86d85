"""What is unusual in one metric of one device: a robust z-score over two residual streams, with bounded memory. PURE.

    jump    distance from the previous value, in robust sigmas of such distances
    level   distance from the median of the last `RING` values, in robust sigmas of theirs

A robust sigma is 1.4826 times the median absolute deviation, which is the standard deviation of a normal sample and
does not move when a few values are wild. A stream is over its line when its residual exceeds both so many sigmas and
half as much again as what the last `RING` reached three times: what a signal does now and then is not unusual for it.

Each value is scored before it is learned. A jump over the line is learned as one on it, once an episode, so an
outlier counts as one modest peak; a kind of jump that keeps coming back raises the line by half for every three and
falls silent. A level that shifted for good is the new normal when it fills half of the ring.

Two values hold a channel: a `Head`, small and changed by every value, and the `Rings`, read and written only at
every `FOLD`-th. Nothing here knows of time: the caller feeds values in order.
"""

import sys
from array import array
from itertools import pairwise
from typing import NamedTuple

import msgspec

RING = 96
"""Values, and distances between values, that a channel remembers."""

FOLD = 8
"""Values after which the rings are brought up to date and the scales computed again."""

WARM_UP = 32
"""Values learned before anything is over the line."""

JUMP_LINE = 8.0
LEVEL_LINE = 5.0
"""Robust sigmas. Distances between neighbours have heavier tails than distances from the level."""

YOUNG = 16.0
"""The lines of a channel that learned n values are higher by the factor 1 + YOUNG / n."""

HABIT = 0.15
HABIT_MOST = 3.0
HABIT_KEPT = 0.998
"""Every alarm raises the lines by this share of themselves, up to that; a fold keeps this much of it (half is
forgotten in some 2,800 values)."""

RARE = 1.5
"""How much larger a residual must be than what the ring reached three times: its third largest jump; its third
largest distance from the median, as far as that is no unusual one itself, and the third largest peak of its stretches
of EPISODE values."""

EPISODE = 24
"""So many jumps below the line end an episode of jumps over it, and after so many over it the rest is learned, too:
it is how the signal is now. The others are not, so that one burst does not deafen the channel for what comes next."""

SIGMA = 1.4826
FLAT = 1e-4
"""The least sigma, as a share of the value's own size: below it a difference is a matter of representation."""

CEILING = 1e6
"""No score is larger: it would only tell how little a flat signal moved before."""

HUGE = 1e30
"""Values are cut to this magnitude, so that they fit the rings' single precision with room for differences."""


class Head(msgspec.Struct, array_like=True):
    """A channel between two folds. `fresh`: values since the last fold; `jumps`: their distances, cut at the line.

    `quiet` and `loud` count jumps below and over the line in the present episode.
    `at_ms` is the newest value's time, `heard_ms` when the hub received it, and `interval_ms` a running mean of the
    times between; all three are the caller's.
    `jump_line` and `level_line` are in the metric's unit, infinite while nothing can be told.
    """

    at_ms: int
    value: float
    learned: int = 0
    interval_ms: float = 0.0
    median: float = 0.0
    level_sigma: float = 0.0
    jump_sigma: float = 0.0
    level_line: float | None = None
    jump_line: float | None = None
    quiet: int = EPISODE
    loud: int = 0
    counter: bool = False
    habit: float = 0.0
    fresh: list[float] = []
    jumps: list[float] = []
    heard_ms: int = -1


class Rings(NamedTuple):
    """The latest values and distances, oldest first, at most `RING` of each."""

    values: "array[float]"
    jumps: "array[float]"


class Finding(NamedTuple):
    """A value's loudest stream. `strength` is the residual over the line (1.0: on it), `score` the robust z."""

    strength: float
    score: float
    reason: str
    expected: float


def judge(head: Head, value: float) -> Finding | None:
    """How unusual `value` is for the channel; None while it warms up and for a counter. Changes nothing."""
    if head.jump_line is None or head.level_line is None or head.counter:
        return None
    value = _cut(value)
    jump = abs(value - head.value)
    level = abs(value - head.median)
    if jump * head.level_line >= level * head.jump_line:
        return Finding(jump / head.jump_line, min(CEILING, jump / head.jump_sigma), "jump", head.value)
    return Finding(level / head.level_line, min(CEILING, level / head.level_sigma), "level", head.median)


def learn(head: Head, value: float) -> bool:
    """Take `value` in; True if the channel is now due for `fold`, which must come before the next `learn`."""
    assert len(head.fresh) < FOLD
    value = _cut(value)
    if head.learned:
        jump = abs(value - head.value)
        if head.jump_line is None or jump <= head.jump_line:
            head.quiet += 1
            head.jumps.append(jump)
        else:
            _learn_loud(head)
    head.fresh.append(value)
    head.value = value
    head.learned += 1
    return len(head.fresh) >= FOLD


def _learn_loud(head: Head) -> None:
    """A jump over the line: the first of an episode counts as one on the line, some after it not at all."""
    assert head.jump_line is not None
    head.loud = 1 if head.quiet >= EPISODE else head.loud + 1
    head.quiet = 0
    if head.loud == 1 or head.loud > EPISODE:
        head.jumps.append(head.jump_line)


def alarmed(head: Head) -> None:
    """An episode was reported: the next one takes a little more."""
    head.habit = min(HABIT_MOST, head.habit + HABIT)


def fold(head: Head, rings: Rings) -> Rings:
    """The rings with the fresh values in them; the head's scales and lines are computed anew."""
    values = (rings.values + array("f", head.fresh))[-RING:]
    jumps = (rings.jumps + array("f", head.jumps))[-RING:]
    head.fresh, head.jumps = [], []
    head.counter = _counts(values)
    head.habit *= HABIT_KEPT
    ordered = sorted(values)
    head.median = _middle(ordered)
    distances = sorted(abs(value - head.median) for value in values)
    steps = sorted(jumps)
    quantum = next((step for step in steps if step > 0.0), 0.0)
    least = max(FLAT * abs(head.median), quantum, 1e-12)
    head.level_sigma = max(SIGMA * _middle(distances), least)
    head.jump_sigma = max(SIGMA * _middle(steps), least)
    if head.learned >= WARM_UP:
        young = (1.0 + YOUNG / head.learned) * (1.0 + head.habit)
        level = LEVEL_LINE * young * head.level_sigma
        head.jump_line = max(JUMP_LINE * young * head.jump_sigma, RARE * steps[-3])
        head.level_line = max(level, RARE * min(level, distances[-3]), RARE * _recurring(values, head.median))
    return Rings(values, jumps)


def pack(rings: Rings) -> bytes:
    """The rings as bytes: a count, then single-precision floats in little-endian order."""
    return bytes([len(rings.values)]) + _little(rings.values + rings.jumps)


def unpack(data: bytes | None) -> Rings:
    """The rings that `pack` wrote; empty ones for None."""
    if data is None:
        return Rings(array("f"), array("f"))
    both = array("f")
    both.frombytes(data[1:])
    if _BIG_ENDIAN:
        both.byteswap()
    return Rings(both[: data[0]], both[data[0] :])


_BIG_ENDIAN = sys.byteorder == "big"


def _little(values: "array[float]") -> bytes:
    if _BIG_ENDIAN:
        values = array("f", values)
        values.byteswap()
    return values.tobytes()


def _cut(value: float) -> float:
    return min(HUGE, max(-HUGE, value))


def _middle(ordered: list[float]) -> float:
    return ordered[len(ordered) // 2] if ordered else 0.0


def _recurring(values: "array[float]", median: float) -> float:
    """The distance from the median that the ring reaches again and again: in three of its stretches of EPISODE."""
    peaks = sorted(
        max(abs(value - median) for value in values[start : start + EPISODE])
        for start in range(0, len(values), EPISODE)
    )
    return peaks[-min(3, len(peaks))]


def _counts(values: "array[float]") -> bool:
    """A counter says how often or how long, not what it is like: whole numbers that only ever rise."""
    return all(later > earlier and later.is_integer() for earlier, later in pairwise(values))
