"""What is done to rows that wait in no batch: thinning for want of space, expiry, correction of stamps.

Promises: each is done in chunks of a few thousand rows, each chunk in one transaction with the ledger, between other
work; rows of a batch are never touched. Thinning goes over the backlog from its oldest row to its newest, then again
with a longer window, until there is space. Expiry is suspended while the wall clock is not synchronised, and spares
rows whose time of acceptance is not known.
Leaves when there is too little space to the writer.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from edge_agent.correction import Fix, corrected
from edge_agent.dispatch import Dispatcher, HeldRow, Submission
from edge_agent.held import SHARE, Held
from edge_agent.outbox import Outbox
from edge_agent.outbox_room import Room
from edge_agent.outbox_settings import Settings
from edge_agent.row import CLASSES, Row
from edge_agent.thinning import WINDOWS_MS, thin
from edge_agent.uplink_demand import on_disk
from edge_agent.uplink_events import ClockCorrected, OutboxThinned, RowsExpired
from edge_agent.uplink_state import Expired, Span, Thinned
from shared.batch import ClockQuality
from shared.clock import Clock
from shared.limits import MIB

_CHUNK = 5_000
_THIN_FROM = 0.9  # of the budget
_THIN_CHUNKS = 8  # a commit
_REST_S = 60.0  # after all windows were tried on all of it
_UNUSED_BYTES = 4 * MIB  # more than a commit takes
_EXPIRE_EVERY_S = 60.0


@dataclass(slots=True)
class _Correction:
    fix: Fix
    last: int
    place: int = 0  # everything up to here is mended
    rows: int = 0


class Chores:
    """One open outbox's; the writer's thread calls it between commits."""

    def __init__(self, outbox: Outbox, dispatcher: Dispatcher, room: Room, settings: Settings, clock: Clock) -> None:
        self._outbox = outbox
        self._room = room
        self._dispatcher = dispatcher
        self._settings = settings
        self._clock = clock
        self._place = 0  # thinned up to here in this pass
        self._window = 0
        self._rest_until = 0.0
        self._fix: Fix | None = None
        self._correction: _Correction | None = None
        self._next_expiry = 0.0
        self.held = Held(outbox, dispatcher, int(settings.budget_bytes * SHARE))

    def correct(self, fix: Fix) -> None:
        """Mend the stamps of what waits now; a fix that is not yet through is superseded."""
        self._fix = fix
        self._correction = _Correction(fix, self._dispatcher.state.tail)

    def mended(self, submissions: Sequence[Submission]) -> Sequence[Submission]:
        """What is to be stored, with the stamps mended that were made before the clock was set and come only now."""
        if self._fix is not None:
            submissions = [
                Submission(
                    [self._mend(row) for row in one.rows],
                    one.identities,
                    [HeldRow(item.device, self._mend(item.row), item.waits) for item in one.held],
                )
                for one in submissions
            ]
        return self.held.sort(submissions)

    def _mend(self, row: Row) -> Row:
        fix = self._fix
        return row if fix is None or row.clock is not ClockQuality.UNSYNCED else corrected(row, fix) or row

    def step(self, now_s: float) -> bool:
        """Do a chunk of what is due; True if more is."""
        more = self.held.step(self._mend)
        if self._correction is not None:
            if self._correct_chunk(self._correction):
                more = True
            else:
                self._correction = None
        if self._settings.expire_after_s and now_s >= self._next_expiry and self._clock.synced():
            expired = self._expire()
            self._next_expiry = now_s if expired else now_s + _EXPIRE_EVERY_S
            more = more or expired
        return more

    def lacking(self, now_s: float) -> str | None:
        """Why rows cannot be accepted now, or None; thins where that may help, a little of it beforehand."""
        for _ in range(_THIN_CHUNKS):
            why = self._lacking(1.0)
            if why is None:
                if self._lacking(_THIN_FROM) is not None:
                    self._thin_chunk(now_s)
                return None
            if not self._thin_chunk(now_s):
                return why
        return self._lacking(1.0)

    def _lacking(self, share: float) -> str | None:
        budget = self._settings.budget_bytes
        if self._outbox.used_bytes() > share * budget:
            return f"the outbox holds its {budget} bytes"
        # Rows may still fill what is free within the file.
        return None if self._outbox.unused_bytes() > _UNUSED_BYTES else self._room.lacking()

    def _thin_chunk(self, now_s: float) -> bool:
        """Look at the next chunk of the backlog, and thin it if that halves it; False if nothing is left to try."""
        if now_s < self._rest_until:
            return False
        span = self._next_span(self._place)
        if span is None:
            self._place = 0
            self._window += 1
            if self._window == len(WINDOWS_MS):
                self._window = 0
                self._rest_until = now_s + _REST_S
                return False
            span = self._next_span(0)
            if span is None:
                return False
        rows = self._outbox.rows(span, _CHUNK)
        self._place = rows[-1].seq if len(rows) == _CHUNK else span[1]
        plan = thin(rows, WINDOWS_MS[self._window])
        if plan is not None:
            state = self._dispatcher.state
            ledger = on_disk(state.ledger.thin(plan.counts, len(plan.made)), state.freeing)
            with self._outbox.transaction():
                self._outbox.replace_rows(plan.taken, plan.made)
                self._outbox.save_ledger(ledger)
            self._dispatcher.happened(Thinned(plan.counts, len(plan.made)))
            OutboxThinned(sum(plan.counts), len(plan.made), WINDOWS_MS[self._window]).emit()
        return True

    def _next_span(self, after: int) -> Span | None:
        for first, last in self._dispatcher.state.waiting:
            if last > after:
                return max(first, after + 1), last
        return None

    def _correct_chunk(self, correction: _Correction) -> bool:
        span = self._next_span(correction.place)
        if span is None or span[0] > correction.last:
            if correction.rows:
                ClockCorrected(correction.rows).emit()
            return False
        end = min(span[1], correction.last, span[0] + _CHUNK - 1)
        mended = []
        for row in self._outbox.unsynced((span[0], end), correction.fix.boot_id):
            better = corrected(row.row(), correction.fix)
            if better is not None:
                mended.append((row.seq, better))
        if mended:
            with self._outbox.transaction():
                self._outbox.replace_rows([seq for seq, _ in mended], mended)
            correction.rows += len(mended)
        correction.place = end  # not before the commit: a chunk that failed is done again
        return True

    def _expire(self) -> bool:
        wall_ms = self._clock.wall_ms()
        state = self._dispatcher.state
        for cls, after_s in self._settings.expire_after_s.items():
            before_ms = wall_ms - int(after_s * 1_000)
            for span in state.waiting:
                with self._outbox.transaction():
                    count = self._outbox.expire(span, cls, before_ms, _CHUNK)
                    rows = tuple(count if one is cls else 0 for one in CLASSES)
                    if count:
                        self._outbox.save_ledger(on_disk(state.ledger.expire(rows), state.freeing))
                if count:
                    self._dispatcher.happened(Expired(rows))
                    RowsExpired(cls.value, count).emit()
                    return True
        return False
