"""Which messages of one sender came lately: the second net below ingest's own. PURE.

Promises: of a sender, a message is known again while at most WINDOW_S went by, by the hub's times of receipt, since
it came, whatever came between, up to some AT_MOST * PARTS messages; and of what is older, the newest AT_LEAST * PARTS
or so. It is never taken for another one (see `recent_ids`).

State: the messages in PARTS values, chosen by the identity itself, so that a message reads and writes one sixteenth
of what is remembered: at five messages a second some 450 bytes, 7 KB for the sender. Never more than 100 KB.
"""

from control_plane.analytics import recent_ids
from control_plane.analytics.job import State

WINDOW_S = 120
"""Longer than it takes until a stopped ingest's last messages are twice in `raw`: the lease (15 s) until another one
takes over, the broker's autosave interval (10 s), and a wide margin, since who is stopped may stay so."""

PARTS = 16
AT_LEAST, AT_MOST = 8, 512
"""Messages of a part, whatever their age."""

_NAME = b"m"
_TIME = 4
_ENTRY = recent_ids.SIZE + _TIME
_LAST_SECOND = 2 ** (8 * _TIME) - 1


class Recent:
    """One message held against what its sender sent before it."""

    def __init__(self, state: State, name: str) -> None:
        self._state = state
        self._id = recent_ids.short(name)
        self._place = _NAME + bytes((self._id[0] % PARTS,))
        self._part = state.get(self._place) or b""

    @property
    def known(self) -> bool:
        """True if it was remembered and not forgotten."""
        at = self._part.find(self._id)
        while at >= 0 and at % _ENTRY:  # a match across two neighbours is none
            at = self._part.find(self._id, at + 1)
        return at >= 0

    def remember(self, received_ms: int) -> None:
        """From now on it is known. It must not be already."""
        part = self._part
        second = min(received_ms // 1_000, _LAST_SECOND)
        first, spare = 0, len(part) - (AT_LEAST - 1) * _ENTRY
        while first < spare and _second(part, first) < second - WINDOW_S:
            first += _ENTRY
        first = max(first, len(part) - (AT_MOST - 1) * _ENTRY)
        self._part = part[first:] + self._id + second.to_bytes(_TIME)
        self._state.set(self._place, self._part)


def _second(part: bytes, at: int) -> int:
    return int.from_bytes(part[at + recent_ids.SIZE : at + _ENTRY])
