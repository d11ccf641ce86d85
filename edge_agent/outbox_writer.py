"""The outbox's one thread: it alone owns the SQLite connection and the uplink's state.

Promises: what `submit`'s future resolved for is on disk (`synchronous=FULL`). Rows of many submissions share one
commit (`commit_every_s` after the first of them, or at `commit_rows`), and batches are formed in that same commit.
What the connection brings (acknowledgements, refusals) never waits for the disk's owner elsewhere: it is queued here,
and nothing here waits for the network. A full disk or budget refuses rows, never loses them, and mends by itself; a
damaged file is salvaged while running.
Leaves decisions to the core, and publishing to `edge_agent.hub_link`.
"""

import asyncio
import random
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress

from edge_agent.chores import Chores
from edge_agent.correction import Fix
from edge_agent.dispatch import Dispatcher, HeldRow, Outgoing, Submission
from edge_agent.ledger import Ledger
from edge_agent.notes import Say, emit
from edge_agent.outbox import Outbox, OutboxDamaged
from edge_agent.outbox_group import Group
from edge_agent.outbox_measure import measure
from edge_agent.outbox_room import Room
from edge_agent.outbox_settings import Settings
from edge_agent.outbox_start import open_outbox
from edge_agent.row import Row
from edge_agent.uplink_events import (
    BatchAcked,
    BatchRefused,
    BatchSent,
    HintTaken,
    OutboxFull,
    OutboxResumed,
)
from edge_agent.uplink_state import Acked, Connected, Disconnected, Hinted, Key, Refused, Tick, Unheard
from shared.batch import ClockQuality, Hint
from shared.clock import Clock
from shared.errors import Transient
from shared.health import Beat

__all__ = ["Deliver", "OutboxWriter", "Settings"]

Deliver = Callable[[list[Outgoing] | None], None]
"""Takes what is to be published over one connection, in order, or None: end this connection, the outbox was replaced.
Called in the writer's thread; must not block."""

_chance = random.random  # jitter, not secrecy
_TICK_S = 0.25  # resends, budgets and hints are due at the second; events need no tick
_AGAIN_S = 1.0  # after a failed commit
_MEASURE_S = 5.0
_HUNG_S = 60.0  # a salvage may take as long, and then nothing is accepted either
_SHRINK_PAGES = 512


class OutboxWriter:
    """Start with `start()`, end with `stop()`; both block shortly. All else belongs to one event loop."""

    def __init__(self, settings: Settings, clock: Clock, say: Say = emit) -> None:
        self._settings = settings
        self._clock = clock
        self._say = say
        self._awake = threading.Condition()
        self._pending = Group()
        self._taken = self._pending  # answered by the turn that took it, or when the thread dies
        self._events: list[Callable[[], None]] = []
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="outbox", daemon=True)
        self._opened = threading.Event()
        self._error: BaseException | None = None
        self._died: asyncio.Event | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._deliver: Deliver | None = None
        self._room = Room(settings.path, settings.free_floor_bytes, settings.reserve_bytes)
        self._outbox: Outbox
        self._dispatcher: Dispatcher
        self._chores: Chores
        self._identities: list[bytes] = []
        self.held_at_start: tuple[str, ...] = ()  # devices
        self._fix: Fix | None = None  # the latest: a salvage brings back what was not yet mended
        self._lost = False  # damaged, and not yet salvaged
        self._more = False
        self._again = 0.0  # nothing is written before
        self._next_tick = 0.0
        self._next_measure = 0.0
        self.trouble: str | None = None
        """Why rows are refused now."""
        self.beat = Beat(_HUNG_S, begins_later=True)
        """Of the thread: a disk that answers no more holds it in a commit."""

    # The agent's side.

    def start(self) -> None:
        """Open (salvaging a damaged file) and start the thread. Raises Transient or Permanent."""
        self._thread.start()
        self._opened.wait()
        if self._error is not None:
            raise self._error

    def stop(self) -> None:
        """Commit what was submitted, free what was acknowledged, and end the thread."""
        with self._awake:
            self._stopping = True
            self._awake.notify()
        if self._thread.ident is not None:
            self._thread.join()

    async def watch(self, stopping: asyncio.Event) -> None:
        """Until `stopping`: raise what ended the thread, if anything does."""
        self._loop = asyncio.get_running_loop()
        self._died = asyncio.Event()
        waits = [asyncio.ensure_future(stopping.wait()), asyncio.ensure_future(self._died.wait())]
        try:
            if self._error is None:
                await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()
            await asyncio.gather(*waits, return_exceptions=True)
        if self._error is not None:
            raise self._error

    def submit(
        self, rows: Sequence[Row], identities: Sequence[bytes], held: Sequence[HeldRow] = ()
    ) -> asyncio.Future[None]:
        """Store rows, in order, and the 16-byte identities of the messages that they came in, in one commit.

        The future resolves when all of it is durable: acknowledge then. It fails with Transient if nothing of it was
        stored (disk or budget full, too much waits): keep the messages unacknowledged and submit them again later.
        Order of submission is order of acceptance, among what was stored.
        """
        loop = asyncio.get_running_loop()
        future: asyncio.Future[None] = loop.create_future()
        submission = Submission(rows, identities, held)
        with self._awake:
            pending = self._pending
            if self._error is not None or self._stopping:
                future.set_exception(Transient("the outbox is closed"))
                return future
            if pending.size + submission.size > self._settings.pending_bytes and pending.submissions:
                future.set_exception(Transient("too much waits to be written"))
                return future
            self._loop = loop
            if not pending.submissions:
                pending.due = self._clock.monotonic_s() + self._settings.commit_every_s
            pending.add(submission, future)
            if len(pending.submissions) == 1 or pending.rows >= self._settings.commit_rows:
                self._awake.notify()
        return future

    def recent_identities(self) -> list[bytes]:
        """The newest identities that were stored before this start, oldest first (at most 20,000)."""
        return self._identities

    def correct_clock(self, fix: Fix) -> None:
        """The clock was set: mend the stamps of rows in no batch, also of those that were stamped and come later."""

        def act() -> None:
            self._fix = fix
            self._chores.correct(fix)

        self._tell(act)

    def chore(self, act: Callable[[Chores], None]) -> None:
        """Have the thread that owns the outbox do this soon."""
        self._tell(lambda: act(self._chores))

    def ledger(self) -> Ledger:
        """The ledger now."""
        return self._dispatcher.state.ledger

    def unacknowledged(self) -> int:
        """Batches that the hub has not acknowledged."""
        return len(self._dispatcher.state.batches)

    # The connection's side.

    def connected(self, deliver: Deliver) -> None:
        """A connection stands, and its acknowledgements are subscribed to: `deliver` gets what to publish."""

        def act() -> None:
            self._deliver = deliver
            self._dispatcher.happened(Connected(self._clock.monotonic_s(), _chance()))

        self._tell(act)

    def disconnected(self) -> None:
        """The connection ended; nothing is delivered after this has been seen."""

        def act() -> None:
            self._deliver = None
            self._dispatcher.happened(Disconnected())

        self._tell(act)

    def refused(self, key: Key, reason: int) -> None:
        """A PUBACK that says that the batch was not taken: 0x80 and above."""

        def act() -> None:
            BatchRefused(f"{reason:#04x}").emit()
            self._dispatcher.happened(Refused(key, _chance()))

        self._tell(act)

    def unheard(self, key: Key) -> None:
        """A PUBACK that says that nobody listens: 0x10."""

        def act() -> None:
            BatchRefused("0x10").emit()
            self._dispatcher.happened(Unheard(key, _chance()))

        self._tell(act)

    def acked(self, keys: tuple[Key, ...]) -> None:
        """The hub has these batches."""
        self._tell(lambda: self._acked(keys))

    def hinted(self, hint: Hint) -> None:
        """The hub asks for less."""

        def act() -> None:
            known = self._dispatcher.state.hint
            if known is None or known.id != hint.id:
                HintTaken(hint.id, hint.readings_per_s, hint.for_s).emit()
            self._dispatcher.happened(Hinted(hint))

        self._tell(act)

    def _tell(self, act: Callable[[], None]) -> None:
        with self._awake:
            self._events.append(act)
            self._awake.notify()

    # The thread.

    def _run(self) -> None:
        try:
            self._open()
            self._opened.set()
            while self._turn():
                pass
            self._close()
        except BaseException as error:  # noqa: BLE001 - whatever ends the thread must be seen where it is watched
            self._error = error
            self._opened.set()
            for pending in (self._taken, self._take_pending()):
                self._answer(pending, error)
            loop, died = self._loop, self._died
            if loop is not None and died is not None:
                with suppress(RuntimeError):  # the loop has ended too
                    loop.call_soon_threadsafe(died.set)

    def _open(self) -> None:
        now_s = self._clock.monotonic_s()
        settings = self._settings
        self._outbox, state = open_outbox(
            settings.path, settings.uplink, now_s=now_s, wall_ms=self._clock.wall_ms(), say=self._say
        )
        self._identities = self._outbox.recent_identities()
        self.held_at_start = tuple(self._outbox.held)
        self._dispatcher = Dispatcher(self._outbox, state, chance=_chance, quality=self._quality)
        self._chores = Chores(self._outbox, self._dispatcher, self._room, settings, self._clock)
        if self._fix is not None:
            self._chores.correct(self._fix)
        self._lost = False
        if self._deliver is not None:  # connected anew before the salvage was done
            self._dispatcher.happened(Connected(now_s, _chance()))
        self._room.keep_reserve()

    def _close(self) -> None:
        if self._lost:
            return
        self._dispatcher.retire()
        with suppress(Transient, OutboxDamaged):  # what is not freed now is sent again, and known by its number
            while self._dispatcher.cycle().more:
                pass
        self._outbox.close()

    def _quality(self) -> ClockQuality:
        return ClockQuality.SYNCED if self._clock.synced() else ClockQuality.UNSYNCED

    def _turn(self) -> bool:
        """Wait for something to do and do it; False when stopped and nothing is left."""
        self.beat.stamp()
        events, pending, stopping = self._wait()
        self._taken = pending
        for act in events:
            act()
        now_s = self._clock.monotonic_s()
        self._next_tick = now_s + _TICK_S
        self._dispatcher.happened(Tick(now_s))
        lingering = bool(self._pending.submissions) and not pending.submissions
        if now_s < self._again:
            self._answer(pending, Transient(self.trouble or "the outbox could not be written a moment ago"))
        elif not lingering:  # what is to be formed waits for the group's commit
            try:
                self._work(pending, now_s)
                pending = Group()  # answered: what fails from here on takes nothing of it back
                self._more = self._chores.step(now_s) or self._more
            except Transient as error:
                self._failed(pending, error)
            except OutboxDamaged as damage:
                self._damaged(pending, damage)
        return not (stopping and not self._pending.submissions)

    def _work(self, pending: Group, now_s: float) -> None:
        if self._lost:
            self._open()
        if now_s >= self._next_measure:
            self._next_measure = now_s + _MEASURE_S
            measure(self._outbox, self._dispatcher.state, self._clock).emit()
            self._outbox.shrink(_SHRINK_PAGES)
            if self.trouble is None:
                self._room.keep_reserve()
            elif not pending.submissions:
                self._try(now_s)
        if pending.submissions and (why := self._chores.lacking(now_s)) is not None:
            self._refuse(pending, Transient(why, hint="free disk space or reconnect to the hub"))
            pending = Group()
        made = self._dispatcher.cycle(self._chores.mended(pending.submissions))
        self._more = made.more
        if pending.submissions:
            self._resume()
        self._answer(pending, None)
        self._send(made.outgoing)

    def _try(self, now_s: float) -> None:
        """Nobody submits anything: find out whether rows would be accepted again, by writing something."""
        if self._chores.lacking(now_s) is None:
            with self._outbox.transaction():
                self._outbox.set_meta("tried", str(self._clock.wall_ms()))
            self._resume()

    def _resume(self) -> None:
        if self.trouble is not None:
            self.trouble = None
            self._say(OutboxResumed())
            self._dispatcher.thrifty(on=False)

    def _failed(self, pending: Group, error: Transient) -> None:
        self._more = False
        self._again = self._clock.monotonic_s() + _AGAIN_S
        self._refuse(pending, error)
        # Forming and freeing empty a full disk: give them the reserve and the log's space, and little steps.
        self._room.drop_reserve()
        if self._lost:
            return  # the salvage found no space: it is tried again, and the file is as it was
        self._dispatcher.thrifty(on=True)
        with suppress(Transient, OutboxDamaged):  # said by the next turn, if it lasts
            self._outbox.checkpoint()

    def _damaged(self, pending: Group, damage: OutboxDamaged) -> None:
        """Salvage with the next turn and go on with what was saved; the connection begins anew, as the epoch does."""
        self._answer(pending, Transient(f"the outbox is being salvaged: {damage}"))
        self._outbox.close()
        self._lost = True
        self._more = True
        if self._deliver is not None:
            self._deliver(None)
            self._deliver = None

    def _wait(self) -> tuple[list[Callable[[], None]], Group, bool]:
        with self._awake:
            while not (self._stopping or self._events or (self._more and not self._pending.submissions)):
                now_s = self._clock.monotonic_s()
                until_s = self._next_tick
                if self._pending.submissions:
                    if now_s >= self._pending.due or self._pending.rows >= self._settings.commit_rows:
                        break
                    until_s = min(until_s, self._pending.due)
                if now_s >= until_s:
                    break
                self._awake.wait(until_s - now_s)
            events, self._events = self._events, []
            pending = Group()
            waited = self._pending
            if waited.submissions and (
                self._stopping or waited.rows >= self._settings.commit_rows or self._clock.monotonic_s() >= waited.due
            ):
                pending, self._pending = waited, Group()
            return events, pending, self._stopping

    def _send(self, outgoing: list[Outgoing]) -> None:
        for one in outgoing:
            BatchSent(one.header.lane.value, one.header.resent, one.header.records, len(one.payload)).emit()
        if outgoing and self._deliver is not None:
            self._deliver(outgoing)

    def _acked(self, keys: tuple[Key, ...]) -> None:
        state = self._dispatcher.state
        now_s = self._clock.monotonic_s()
        for key in keys:
            batch = state.batches.get(key)
            if batch is not None:
                flight = None if state.link is None else state.link.flights.get(key)
                once = flight is not None and flight.attempts == 1 and state.listed.get(key) is not None
                took = now_s - flight.sent_at if once and flight is not None else None
                BatchAcked(batch.lane.value, batch.records, took).emit()
        self._dispatcher.happened(Tick(now_s))
        self._dispatcher.happened(Acked(keys))

    def _refuse(self, pending: Group, error: Transient) -> None:
        self._report_full(str(error))
        self._answer(pending, error)

    def _report_full(self, why: str) -> None:
        if self.trouble is None:
            self._say(OutboxFull(why))
        self.trouble = why

    # Answers and figures.

    def _take_pending(self) -> Group:
        with self._awake:
            pending, self._pending = self._pending, Group()
        return pending

    def _answer(self, group: Group, error: BaseException | None) -> None:
        group.answer(self._loop, error)
