"""A channel's state as bytes and back: versioned msgpack, bounded, checked, never a pickle. PURE.

`unpack` answers None for anything that is not a whole state of this version and model: the caller starts that
channel cold. Arrays are little-endian bytes; scalars keep the order of the `_Shape` of their class.
"""

import sys
from array import array
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from math import isfinite
from typing import Any, Generic, TypeVar

import msgspec

from edge_agent.anomaly.daytime import DAYS, SLOTS, Daytime
from edge_agent.anomaly.detector import VALUE, ChannelDetector
from edge_agent.anomaly.episodes import REMEMBERED, Episodes
from edge_agent.anomaly.models import EDGE, RESERVOIR, RiverChannel
from edge_agent.anomaly.pair import Pair
from edge_agent.anomaly.residuals import BOOT, NAMES, RING, Past
from edge_agent.anomaly.streams import Channel
from edge_agent.anomaly.surprise import KEPT, Tail
from edge_agent.anomaly.watch import Watch

VERSION = 1
STATE_BYTES = 12_288
"""No channel's state is larger."""

T = TypeVar("T")


class _UnreadableError(ValueError):
    """Not a state of ours."""


class Part(msgspec.Struct, array_like=True, frozen=True):
    """One object: its whole numbers, its floats, its arrays."""

    ints: list[int]
    floats: list[float]
    arrays: list[bytes]


class ChannelState(msgspec.Struct, array_like=True, frozen=True):
    channel: Part
    past: Part
    daytime: Part
    tails: list[Part]


class PairState(msgspec.Struct, array_like=True, frozen=True):
    other: str
    pair: Part
    tail: Part | None


class WatchState(msgspec.Struct, array_like=True, frozen=True):
    version: int
    model: str
    at_s: float
    value: float
    late: int
    episodes: Part
    channel: ChannelState | None
    reservoir: Part | None
    pair: PairState | None


@dataclass(frozen=True, slots=True)
class _Shape(Generic[T]):
    """How the attributes of a class are stored. Arrays: name, type code, length at most; floats are finite."""

    make: Callable[[], T]
    ints: tuple[str, ...]
    floats: tuple[str, ...]
    arrays: tuple[tuple[str, str, int], ...]

    def take(self, item: T) -> Part:
        return Part(
            [getattr(item, name) for name in self.ints],
            [getattr(item, name) for name in self.floats],
            [_bytes(getattr(item, name)) for name, _, _ in self.arrays],
        )

    def give(self, part: Part) -> T:
        if (len(part.ints), len(part.floats), len(part.arrays)) != (
            len(self.ints),
            len(self.floats),
            len(self.arrays),
        ):
            raise _UnreadableError
        if not all(map(isfinite, part.floats)):
            raise _UnreadableError
        item = self.make()
        for name, number in zip(self.ints, part.ints, strict=True):
            if not -(2**62) < number < 2**62:
                raise _UnreadableError
            setattr(item, name, number)
        for name, value in zip(self.floats, part.floats, strict=True):
            setattr(item, name, value)
        for (name, kind, longest), data in zip(self.arrays, part.arrays, strict=True):
            setattr(item, name, _array(kind, data, longest))
        return item


TAIL = _Shape(
    Tail,
    ("since", "opened", "peaked"),
    ("floor", "gate", "log_sum", "peak"),
    (("values", "d", KEPT), ("born", "I", KEPT)),
)
DAYTIME = _Shape(
    Daytime,
    ("slot", "day", "slot_n"),
    ("slot_value", "slot_mean"),
    (("values", "f", SLOTS * DAYS), ("means", "f", SLOTS * DAYS)),
)
PAST = _Shape(
    Past,
    ("stamps", "ring_at", "run", "suspects", "settled", "shift_age"),
    (
        "at_s", "interval_s", "lived_s", "raw", "last", "level", "noise", "quantum", "sum12", "sum48", "diff_sum",
        "settled_sum", "shift", "moved",
    ),
    (("ring", "d", RING), ("diffs", "d", RING)),
)  # fmt: skip
CHANNEL = _Shape(
    Channel,
    ("seen", "window"),
    ("line", "clock_lived_s", "reach"),
    (
        ("boot", "d", BOOT),
        ("weights", "d", len(NAMES)),
        ("cut_peak", "d", len(NAMES)),
        ("cut_begun", "q", len(NAMES)),
        ("cut_first", "q", len(NAMES)),
        ("cut_last", "q", len(NAMES)),
    ),
)
PAIR = _Shape(Pair, ("samples", "alarming"), ("mean_x", "mean_y", "var_x", "var_y", "cross", "offset"), ())
EPISODES = _Shape(Episodes, ("held_samples",), ("held_until_s", "peak"), (("earlier", "d", REMEMBERED),))

_DECODER = msgspec.msgpack.Decoder(WatchState)
_ENCODER = msgspec.msgpack.Encoder()


def pack(watch: Watch, model: str) -> bytes:
    """The state of one channel; at most STATE_BYTES."""
    detector, channel, reservoir, pair = watch.detector, None, None, None
    if isinstance(detector, RiverChannel):
        reservoir = Part([], [detector.interval_s], [_bytes(detector.reservoir)])
    elif VALUE in detector.channels:
        one = detector.channels[VALUE]
        channel = ChannelState(
            CHANNEL.take(one), PAST.take(one.past), DAYTIME.take(one.past.daytime), [TAIL.take(t) for t in one.tails]
        )
    if watch.pair is not None:
        tail = None if watch.pair.tail is None else TAIL.take(watch.pair.tail)
        pair = PairState(watch.pair.other, PAIR.take(watch.pair), tail)
    episodes = EPISODES.take(watch.episodes)
    return _ENCODER.encode(
        WatchState(VERSION, model, watch.at_s, watch.value, watch.late, episodes, channel, reservoir, pair)
    )


def unpack(data: bytes, model: str) -> Watch | None:
    """The channel as it was packed; None if `data` is no whole state of this version and `model`."""
    if len(data) > STATE_BYTES:
        return None
    try:
        state = _DECODER.decode(data)
        if state.version != VERSION or state.model != model or not isfinite(state.at_s + state.value):
            return None
        watch = Watch(model)
        watch.at_s, watch.value, watch.late = state.at_s, state.value, state.late
        watch.episodes = EPISODES.give(state.episodes)
        watch.detector = _edge(state.channel) if model == EDGE else _river(model, state.reservoir, state.at_s)
        watch.pair = None if state.pair is None else _pair(state.pair)
    except ValueError:  # msgspec.DecodeError, UnicodeDecodeError and ours
        return None
    return watch


def _pair(state: PairState) -> Pair:
    pair = PAIR.give(state.pair)
    pair.other = state.other
    if state.tail is not None:
        pair.tail = TAIL.give(state.tail)
    if min(pair.samples, pair.alarming, pair.var_x, pair.var_y) < 0 or not (pair.tail is None or _sound(pair.tail)):
        raise _UnreadableError
    return pair


def _edge(state: ChannelState | None) -> ChannelDetector:
    detector = ChannelDetector()
    if state is not None:
        channel = CHANNEL.give(state.channel)
        channel.past = PAST.give(state.past)
        channel.past.daytime = DAYTIME.give(state.daytime)
        channel.tails = tuple(TAIL.give(part) for part in state.tails)
        _check(channel)
        detector.channels[VALUE] = channel
    return detector


def _river(model: str, state: Part | None, at_s: float) -> RiverChannel:
    channel = RiverChannel(model)
    if state is not None:
        if len(state.floats) != 1 or len(state.arrays) != 1 or not 0.0 <= state.floats[0] < 1e9:
            raise _UnreadableError
        channel.relearn(_array("d", state.arrays[0], RESERVOIR), state.floats[0], at_s)
    return channel


def _check(channel: Channel) -> None:
    """Everything that the arithmetic takes for granted: lengths, indexes, order and signs."""
    past, daytime = channel.past, channel.past.daytime
    booted = channel.seen >= BOOT
    streams = len(NAMES)
    sound = (
        len(channel.tails)
        == streams
        == len(channel.weights)
        == len(channel.cut_peak)
        == len(channel.cut_begun)
        == len(channel.cut_first)
        == len(channel.cut_last)
        and len(channel.boot) == (0 if booted else channel.seen)
        and len(past.ring) == len(past.diffs) == (RING if booted else 0)
        and past.stamps >= channel.seen >= 0
        and channel.window > 0
        and 0 <= past.ring_at < RING
        and past.diff_sum >= 0.0
        and past.noise >= 0.0
        and past.quantum >= 0.0
        and past.run > 0
        and -1 <= daytime.slot < SLOTS
        and daytime.slot_n >= 0
        and len(daytime.values) == len(daytime.means)
        and len(daytime.values) in {0, SLOTS * DAYS}
        and all(_sound(tail) for tail in channel.tails)
    )
    if not sound:
        raise _UnreadableError


def _sound(tail: Tail) -> bool:
    values = tail.values
    ascending = all(low <= high for low, high in pairwise(values))
    return ascending and len(values) == len(tail.born) and (not values or values[0] > 0.0) and tail.gate >= 0.0


def _bytes(values: "array[Any]") -> bytes:
    if sys.byteorder == "big":
        values = values[:]
        values.byteswap()
    return values.tobytes()


def _array(kind: str, data: bytes, longest: int) -> "array[Any]":
    values: array[Any] = array(kind)
    if len(data) % values.itemsize or len(data) > longest * values.itemsize:
        raise _UnreadableError
    values.frombytes(data)
    if sys.byteorder == "big":
        values.byteswap()
    if kind == "d" and not all(map(isfinite, values)):
        raise _UnreadableError
    return values
