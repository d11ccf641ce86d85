"""Which batch numbers of a gateway were seen: repeat, new, or never to come. PURE.

Kept per gateway, in the state of its key: which epochs are open; per open epoch the highest floor seen and the
numbers seen from there on; a tombstone per closed epoch. Floor and `closed` stay true for ever (an agent only lists
what the hub acknowledged), so stale, repeated or reordered headers do no harm, and silence closes nothing.

Bounded: 512 ranges an epoch, 1,024 open epochs a gateway, 4,096 tombstones kept for 90 days.
"""

from enum import Enum
from typing import NamedTuple

import msgspec

from control_plane.analytics import number_ranges as numbers
from control_plane.analytics.job import State
from control_plane.analytics.number_ranges import Ranges
from control_plane.analytics.records import GapKind
from shared import limits
from shared.batch import Header
from shared.errors import Reason, Rejected
from shared.ids import Epoch

OPEN_EPOCHS = 1_024
"""An agent keeps at most 256 batches unacknowledged, and lists 32 closed epochs a batch: no honest one comes near."""

_VOID_RANGES = 512
_TOMBSTONE_MS = limits.TOMBSTONE_DAYS * 86_400_000
_OPEN, _TOMBSTONES, _WINDOW = b"g", b"t", b"e"


class Verdict(Enum):
    """What a batch number is."""

    NEW = "new"
    REPEAT = "repeat"


class Lost(NamedTuple):
    """Numbers of one epoch that were never seen and never will be."""

    epoch: Epoch
    kind: GapKind
    ranges: Ranges


class Judged(NamedTuple):
    """What one header led to. After a refusal the state is as it was."""

    verdict: Verdict | Rejected
    lost: tuple[Lost, ...] = ()


class Window(msgspec.Struct, frozen=True, array_like=True):
    """One open epoch: `seen` and `void` hold numbers from `floor` on; below it all is settled."""

    floor: int
    seen: Ranges = ()
    void: Ranges = ()


class _Tombstone(msgspec.Struct, frozen=True, array_like=True):
    epoch: Epoch
    at_ms: int


_ENCODE = msgspec.msgpack.Encoder().encode
_DECODE_WINDOW = msgspec.msgpack.Decoder(Window).decode
_DECODE_OPEN = msgspec.msgpack.Decoder(list[Epoch]).decode
_DECODE_TOMBSTONES = msgspec.msgpack.Decoder(list[_Tombstone]).decode


def judge(header: Header, now_ms: int, state: State) -> Judged:
    """The verdict on this header's number, and what it settles about others. `now_ms`: when the hub received it."""
    if any(epoch == header.epoch for epoch, _ in header.closed):
        return Judged(Rejected(Reason.PROTOCOL, "a batch lists its own epoch as closed"))
    gateway = _Gateway(state, now_ms)
    window = gateway.window(header.epoch, first_floor=header.floor)
    if window is None and not gateway.is_closed(header.epoch):
        return Judged(Rejected(Reason.PROTOCOL, f"more than {OPEN_EPOCHS} open epochs"))
    lost: list[Lost] = []
    for epoch, first, last in header.void:
        if epoch != header.epoch:
            gateway.note_void(epoch, first, last)
        elif window is not None:
            window = with_void(window, first, last)
    for epoch, last in header.closed:
        lost += gateway.close(epoch, last)
    verdict = Verdict.REPEAT
    if window is not None:
        window, settled = raise_floor(window, header.floor)
        lost += _named(header.epoch, settled)
        if header.number >= window.floor and not numbers.contains(window.seen, header.number):
            verdict = Verdict.NEW
            window = Window(window.floor, numbers.add(window.seen, header.number, header.number), window.void)
        gateway.put(header.epoch, window)
    gateway.save()
    return Judged(verdict, tuple(lost))


class Settled(NamedTuple):
    """Numbers that a risen floor left behind unseen."""

    gap: Ranges
    damaged: Ranges


def raise_floor(window: Window, floor: int) -> tuple[Window, Settled]:
    """The window from `floor` on (never lowered), and what was left behind."""
    if floor <= window.floor:
        return window, Settled((), ())
    unseen = numbers.missing(window.seen, window.floor, floor - 1)
    risen = Window(floor, numbers.since(window.seen, floor), numbers.since(window.void, floor))
    return risen, Settled(numbers.without(unseen, window.void), numbers.both(unseen, window.void))


def with_void(window: Window, first: int, last: int) -> Window:
    """Remembers that first..last may never come because their rows are lost; at most 512 such ranges."""
    first = max(first, window.floor)
    if first > last:
        return window
    return Window(window.floor, window.seen, numbers.add(window.void, first, last)[:_VOID_RANGES])


def _named(epoch: Epoch, settled: Settled) -> list[Lost]:
    both = ((GapKind.GAP, settled.gap), (GapKind.DAMAGED, settled.damaged))
    return [Lost(epoch, kind, ranges) for kind, ranges in both if ranges]


class _Gateway:
    """One gateway's state, read as far as needed and written as far as changed."""

    def __init__(self, state: State, now_ms: int) -> None:
        self._state = state
        self._now_ms = now_ms
        kept = state.get(_OPEN)
        self.known = kept is not None
        self._open = _DECODE_OPEN(kept) if kept is not None else []
        self._open_changed = not self.known
        self._tombstones: dict[Epoch, int] | None = None
        self._closed_any = False
        self._windows: dict[Epoch, Window | None] = {}

    def window(self, epoch: Epoch, *, first_floor: int) -> Window | None:
        """The epoch's window, a first one if the epoch is new; None if it is closed, or one too many.

        The first one of a gateway that was never heard of begins at `first_floor`, any other at 1.
        """
        if epoch in self._windows:
            return self._windows[epoch]
        if epoch in self._open:
            kept = self._state.get(_WINDOW + epoch.encode())
            assert kept is not None, "an open epoch has a window"
            return _DECODE_WINDOW(kept)
        if self.is_closed(epoch) or len(self._open) >= OPEN_EPOCHS:
            return None
        return Window(1 if self.known else first_floor)

    def put(self, epoch: Epoch, window: Window) -> None:
        self._windows[epoch] = window
        if epoch not in self._open:
            self._open.append(epoch)
            self._open_changed = True

    def note_void(self, epoch: Epoch, first: int, last: int) -> None:
        """For another epoch than the batch's own. Of a gateway never heard of, the past is not our business."""
        window = self.window(epoch, first_floor=1) if self.known else None
        if window is not None:
            self.put(epoch, with_void(window, first, last))

    def close(self, epoch: Epoch, last: int) -> list[Lost]:
        """Settle the epoch for ever; what of it was never seen."""
        if self.is_closed(epoch):
            return []
        window = self.window(epoch, first_floor=1) or Window(1)
        settled = raise_floor(window, last + 1)[1] if self.known else Settled((), ())
        if epoch in self._open:
            self._open.remove(epoch)
            self._open_changed = True
            self._windows[epoch] = None
        self._closed()[epoch] = self._now_ms
        self._closed_any = True
        return _named(epoch, settled)

    def is_closed(self, epoch: Epoch) -> bool:
        return epoch in self._closed()

    def _closed(self) -> dict[Epoch, int]:
        if self._tombstones is None:
            kept = self._state.get(_TOMBSTONES)
            found = _DECODE_TOMBSTONES(kept) if kept is not None else []
            self._tombstones = {stone.epoch: stone.at_ms for stone in found}
        return self._tombstones

    def save(self) -> None:
        for epoch, window in self._windows.items():
            name = _WINDOW + epoch.encode()
            if window is None:
                self._state.delete(name)
            else:
                self._state.set(name, _ENCODE(window))
        if self._open_changed:
            self._state.set(_OPEN, _ENCODE(self._open))
        if self._closed_any:
            since = self._now_ms - _TOMBSTONE_MS
            stones = [_Tombstone(epoch, at) for epoch, at in self._closed().items() if at >= since]
            self._state.set(_TOMBSTONES, _ENCODE(stones[-limits.TOMBSTONES :]))
