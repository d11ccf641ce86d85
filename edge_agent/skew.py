"""How far each device's clock is from the gateway's: an estimate attached to readings, never applied here. PURE.

Per device, the offset is the median of `device time - receive time` over the latest fresh messages. A message is no
evidence if it is not newer than the newest heard (a resend, a late part of a backlog) or came when the gateway was
catching up. A clock that jumps contradicts its own estimate: then the offset is in doubt (None) for what contradicts
it, until `CONFIRMATIONS` messages over at least `CONFIRM_MS` agree with one another, both clocks advancing alike. A
backlog that a device sends after an outage contradicts the estimate too, but its time runs faster than ours, so it
never confirms itself. What is stamped before `NEVER_SET_MS` comes from a clock that was never set: a reset, counted
at once.

Raw times are kept by others; nothing is restamped at the edge.
"""

from bisect import bisect_left, insort
from collections import OrderedDict, deque
from dataclasses import dataclass

WINDOW = 31
"""Messages in a median."""

LEAST = 3
"""Messages before there is an estimate."""

JUMP_MS = 5_000
"""A message further than this from the estimate contradicts it: more than networks and schedulers explain."""

CONFIRMATIONS = 5
CONFIRM_MS = 3_000
AGREE_MS = 500
"""Contradicting messages agree with their first if their offsets are within this plus a fifth of the time between."""

NEVER_SET_MS = 1_420_070_400_000
"""2015-01-01: no device of ours was built before, so an earlier time is a clock that counts from its own epoch."""

MAX_DEVICES = 10_000


@dataclass(slots=True)
class _Rival:
    """Contradicting messages in a row that agree with the first."""

    first_offset_ms: int
    first_receive_ms: int
    offsets: list[int]


class _Device:
    __slots__ = ("estimate_ms", "newest_ms", "offsets", "ordered", "reset", "rival")

    def __init__(self) -> None:
        self.offsets: deque[int] = deque()  # in order of receipt
        self.ordered: list[int] = []  # the same, sorted
        self.newest_ms = -1
        self.estimate_ms: int | None = None
        self.rival: _Rival | None = None
        self.reset = False

    def learn(self, offset: int) -> None:
        if len(self.offsets) == WINDOW:
            del self.ordered[bisect_left(self.ordered, self.offsets.popleft())]
        self.offsets.append(offset)
        insort(self.ordered, offset)
        if len(self.ordered) >= LEAST:
            self.estimate_ms = self.ordered[len(self.ordered) // 2]

    def begin_again(self, offsets: list[int], newest_ms: int) -> None:
        self.offsets.clear()
        self.ordered.clear()
        self.estimate_ms = None
        self.rival = None
        self.newest_ms = newest_ms
        for offset in offsets:
            self.learn(offset)


class SkewBook:
    """The offsets of at most `max_devices` devices, the longest silent forgotten first."""

    def __init__(self, max_devices: int = MAX_DEVICES) -> None:
        assert max_devices > 0
        self._max_devices = max_devices
        self._devices: OrderedDict[str, _Device] = OrderedDict()
        self.jumps = 0
        """Estimates replaced because the device's clock had moved."""
        self.resets = 0
        """Times a device began to stamp before `NEVER_SET_MS`."""

    def __len__(self) -> int:
        return len(self._devices)

    def observe(self, device: str, device_ms: int, receive_ms: int, *, fresh: bool = True) -> int | None:
        """Take a message's newest time stamp in; the device's clock minus ours in ms, None while unknown or in doubt.

        `receive_ms` is the gateway's wall clock at receipt. Not `fresh`: the message had waited, so it is judged
        against the estimate but adds nothing to it.
        """
        known = self._devices.get(device)
        if known is None:
            known = self._open(device)
        else:
            self._devices.move_to_end(device)
        offset = device_ms - receive_ms
        self._note_reset(known, device_ms)
        estimate = known.estimate_ms
        if estimate is not None and not -JUMP_MS <= offset - estimate <= JUMP_MS:
            return self._contradicted(known, offset, device_ms, receive_ms) if fresh else None
        if fresh and device_ms > known.newest_ms:
            known.newest_ms = device_ms
            known.rival = None
            known.learn(offset)
        return known.estimate_ms

    def shift(self, step_ms: int) -> None:
        """The gateway's wall clock was set `step_ms` forward: every offset moves back by as much."""
        for known in self._devices.values():
            known.offsets = deque(offset - step_ms for offset in known.offsets)
            known.ordered = [offset - step_ms for offset in known.ordered]
            known.rival = None
            if known.estimate_ms is not None:
                known.estimate_ms -= step_ms

    def worst_ms(self) -> int:
        """The largest known offset, either way; 0 if none is known."""
        return max((abs(known.estimate_ms) for known in self._devices.values() if known.estimate_ms), default=0)

    def in_doubt(self) -> int:
        """Devices whose latest message contradicted their estimate."""
        return sum(1 for known in self._devices.values() if known.rival is not None)

    def _open(self, device: str) -> _Device:
        if len(self._devices) >= self._max_devices:
            self._devices.popitem(last=False)
        known = self._devices[device] = _Device()
        return known

    def _note_reset(self, known: _Device, device_ms: int) -> None:
        reset = device_ms < NEVER_SET_MS
        if reset and not known.reset:
            self.resets += 1
        known.reset = reset

    def _contradicted(self, known: _Device, offset: int, device_ms: int, receive_ms: int) -> int | None:
        rival = known.rival
        if rival is not None:
            elapsed = receive_ms - rival.first_receive_ms
            if elapsed < 0 or abs(offset - rival.first_offset_ms) > AGREE_MS + elapsed // 5:
                rival = None
        if rival is None:
            known.rival = _Rival(offset, receive_ms, [offset])
            return None
        del rival.offsets[: len(rival.offsets) - WINDOW + 1]
        rival.offsets.append(offset)
        if len(rival.offsets) < CONFIRMATIONS or receive_ms - rival.first_receive_ms < CONFIRM_MS:
            return None
        self.jumps += 1
        known.begin_again(rival.offsets, device_ms)
        return known.estimate_ms
