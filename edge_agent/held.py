"""Rows of devices that the hub has not approved: kept in the outbox's file, out of the uplink's sight.

Promises: held rows are as durable as others, in no batch, never thinned, and within `limit_bytes`: beyond it a row is
given up and counted, so that strangers cannot take the outbox's room. Once a device is approved its rows are moved in
order of acceptance, each chunk in one transaction, and newer rows of it follow behind them; a crash in between moves
none twice and loses none. The ledger's `accepted` counts a row when it is moved.
"""

from collections import deque
from collections.abc import Callable, Sequence

from edge_agent.dispatch import Dispatcher, HeldRow, Submission
from edge_agent.held_events import HeldDropped, HeldKept, HeldMoved, HeldRefused
from edge_agent.outbox import Outbox
from edge_agent.row import Row

SHARE = 0.1
"""Of the outbox's budget."""
_CHUNK = 1_000
_LAST = 2**63 - 1

Mend = Callable[[Row], Row]


class Held:
    """One open outbox's; the writer's thread calls it between commits."""

    def __init__(self, outbox: Outbox, dispatcher: Dispatcher, limit_bytes: int) -> None:
        self._outbox = outbox
        self._dispatcher = dispatcher
        self._limit_bytes = limit_bytes
        self._releasing: deque[str] = deque()
        self._dropping: deque[str] = deque()
        self.refused = 0
        """Rows that were given up because too much was held, since the start."""
        self.dropped = 0
        """Rows that were given up because their device was refused, since the start."""

    def settle(self, passes: Callable[[str], bool]) -> None:
        """Move what is held of the devices that wait for nothing any more."""
        for device in self._outbox.held:
            if device not in self._releasing and passes(device):
                self._releasing.append(device)

    def drop(self, device: str) -> None:
        """The device is refused: give up what is held of it."""
        if device in self._outbox.held and device not in self._dropping:
            self._dropping.append(device)

    def sort(self, submissions: Sequence[Submission]) -> Sequence[Submission]:
        """What is to be stored: a held row whose device waits for nothing any more goes with the others."""
        if not any(one.held for one in submissions):
            return submissions
        room = self._limit_bytes - sum(size for _, size in self._outbox.held.values())
        behind = set(self._outbox.held)
        found = []
        kept = refused = 0
        for one in submissions:
            rows, held = list(one.rows), []
            for item in one.held:
                if not item.waits and item.device not in behind:
                    rows.append(item.row)
                elif (size := len(item.row.record)) <= room:
                    room -= size
                    behind.add(item.device)
                    held.append(item)
                    kept += 1
                else:
                    refused += 1
            found.append(Submission(rows, one.identities, held, one.unheld))
        if kept:
            HeldKept(kept).emit()
        if refused:
            self.refused += refused
            HeldRefused(refused).emit()
        return found

    def step(self, mend: Mend) -> bool:
        """Move or give up a chunk; True if more is to be done. Raises as a cycle does; then nothing has happened."""
        if self._dropping:
            with self._outbox.transaction():
                count = self._outbox.unhold(self._dropping[0], _LAST)
            self._dropping.popleft()
            self.dropped += count
            HeldDropped(count).emit()
        elif self._releasing:
            device = self._releasing[0]
            rows = self._outbox.held_rows(device, _CHUNK)
            if not rows:
                self._releasing.popleft()
            else:
                moved = Submission([mend(row) for _, row in rows], [], unheld=(device, rows[-1][0]))
                self._dispatcher.cycle([moved], most=0)  # nothing is formed or sent here: that is the next turn's
                HeldMoved(len(rows)).emit()
        return bool(self._dropping or self._releasing)


def as_held(device: str, rows: Sequence[Row], *, waits: bool) -> list[HeldRow]:
    """A message's rows."""
    return [HeldRow(device, row, waits) for row in rows]
