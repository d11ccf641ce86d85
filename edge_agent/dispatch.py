"""The uplink's core at work on a store: one cycle takes what came and does what is demanded.

Promises: in a cycle everything that must outlive a crash is committed in one transaction, and what is to be
published leaves the cycle only after that commit. If the transaction fails, the cycle has not happened.
Leaves threads, waiting and publishing to `edge_agent.outbox_writer`.
"""

from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, replace
from typing import Protocol

from edge_agent.outbox import OutboxDamaged
from edge_agent.row import CLASSES, Counts, Row, RowClass, count
from edge_agent.uplink import demand, step
from edge_agent.uplink_state import (
    Appended,
    Batch,
    Disconnected,
    Form,
    Formed,
    FoundEmpty,
    Free,
    Freed,
    Happening,
    Key,
    Send,
    Sent,
    Span,
    State,
)
from shared import batch as wire
from shared import limits
from shared.batch import ClockQuality, Header

_ALARM = CLASSES.index(RowClass.ALARM)


class Store(Protocol):
    """What the dispatcher needs of an outbox; `edge_agent.outbox.Outbox` says what each promises."""

    def transaction(self) -> AbstractContextManager[None]: ...

    def append(self, after: int, rows: Sequence[Row], identities: Sequence[bytes], accepted: Counts) -> None: ...

    def read(self, span: Span, most: int) -> Iterable[tuple[int, int, bytes]]: ...

    def save_batch(self, batch: Batch) -> None: ...

    def free(self, free: Free, tail: int) -> None: ...

    def hold(self, items: Sequence[tuple[str, Row]]) -> None: ...

    def unhold(self, device: str, last: int) -> int: ...


@dataclass(frozen=True, slots=True)
class HeldRow:
    """A row of a device. `waits`: the device is not approved; else it must only not overtake what is held."""

    device: str
    row: Row
    waits: bool


@dataclass(frozen=True, slots=True)
class Submission:
    """Rows of one or more messages, and the messages' identities.

    `held`: rows of devices that wait for approval, or follow such rows (`edge_agent.held`). `unheld`: its rows were
    the held ones of this device up to this id.
    """

    rows: Sequence[Row]
    identities: Sequence[bytes]
    held: Sequence[HeldRow] = ()
    unheld: tuple[str, int] | None = None

    @property
    def size(self) -> int:
        """Bytes of its records."""
        return sum(len(row.record) for row in self.rows) + sum(len(one.row.record) for one in self.held)


@dataclass(frozen=True, slots=True)
class Outgoing:
    """One batch, ready to publish."""

    key: Key
    header: Header
    payload: bytes


@dataclass(frozen=True, slots=True)
class Cycle:
    """What a cycle made. `more`: it stopped at its limit of effects; call again."""

    outgoing: list[Outgoing]
    more: bool


_Packed = tuple[bytes, str | None]
"""A payload, and the traceparent of the first sampled record in it."""


class Dispatcher:
    """The state and the store, moved together."""

    def __init__(
        self,
        store: Store,
        state: State,
        *,
        chance: Callable[[], float],
        quality: Callable[[], ClockQuality] = lambda: ClockQuality.SYNCED,
    ) -> None:
        """`chance`: random numbers in [0, 1); `quality`: of the wall clock now."""
        self.state = state
        self._store = store
        self._chance = chance
        self._quality = quality
        self._free_rows = state.limits.free_rows

    def happened(self, happening: Happening) -> None:
        """Tell the core; nothing is written."""
        self.state = step(self.state, happening)

    def retire(self) -> None:
        """Nothing more is formed or sent; the next cycles free what was acknowledged, however little it is."""
        state = step(self.state, Disconnected())
        self.state = replace(state, free_at=None if state.free_at is None else state.now)

    def thrifty(self, *, on: bool) -> None:
        """Free one batch at a time, so that a transaction needs little space; or as many as usual again."""
        bounds = self.state.limits
        self.state = replace(self.state, limits=replace(bounds, free_rows=1 if on else self._free_rows))

    def cycle(self, submissions: Sequence[Submission] = (), most: int = 16) -> Cycle:
        """Append, then do up to `most` demanded effects, in one transaction where there is something to write.

        Raises Transient or OutboxDamaged; then nothing of the cycle has happened.
        """
        state = self.state
        outgoing: list[Outgoing] = []
        formed: dict[Key, _Packed] = {}
        more = True
        with ExitStack() as stack:
            if submissions:
                stack.enter_context(self._store.transaction())
                state = self._append(state, submissions)
            writing = bool(submissions)
            for _ in range(most):
                effect = demand(state)
                if effect is None:
                    more = False
                    break
                if isinstance(effect, Send):
                    outgoing.append(self._outgoing(state, effect, formed.pop(effect.batch.key, None)))
                    state = step(state, Sent(effect, self._chance()))
                    continue
                if not writing:
                    stack.enter_context(self._store.transaction())
                    writing = True
                if isinstance(effect, Form):
                    state = self._form(state, effect, formed)
                else:
                    self._store.free(effect, state.tail)
                    state = step(state, Freed(effect))
        self.state = state
        return Cycle(outgoing, more)

    def _append(self, state: State, submissions: Sequence[Submission]) -> State:
        rows = [row for submission in submissions for row in submission.rows]
        identities = [item for submission in submissions for item in submission.identities]
        counts = count(row.cls for row in rows)
        if rows:
            alarms = [at for at, row in enumerate(rows, state.tail + 1) if row.cls is RowClass.ALARM]
            after = step(state, Appended(state.tail + len(rows), counts, alarms[-1] if alarms else 0))
        else:
            after = state
        self._store.append(state.tail, rows, identities, after.ledger.accepted)
        for one in submissions:
            if one.held:
                self._store.hold([(held.device, held.row) for held in one.held])
            if one.unheld is not None:
                self._store.unhold(*one.unheld)
        return after

    def _form(self, state: State, form: Form, formed: dict[Key, _Packed]) -> State:
        taken: list[tuple[int, int, bytes]] = []
        unpacked = 1
        for row in self._store.read(form.span, form.records):
            unpacked += len(row[2]) + 1
            if unpacked > limits.BATCH_UNPACKED_BYTES:
                break
            taken.append(row)
        if not taken:
            return step(state, FoundEmpty(form.span))
        payload = wire.pack([record for _, _, record in taken])
        while payload is None or len(payload) > form.packed_bytes:
            taken = taken[: len(taken) // 2]
            assert taken, "a record that fits no batch"
            payload = wire.pack([record for _, _, record in taken])
        trace = _trace(record for _, _, record in taken)
        counts = count(CLASSES[cls] for _, cls, _ in taken)
        span = (taken[0][0], taken[-1][0])
        batch = Batch(form.epoch, form.number, form.lane, span, counts, len(payload))
        self._store.save_batch(batch)
        formed[batch.key] = (payload, trace)
        return step(state, Formed(batch, counts[_ALARM]))

    def _outgoing(self, state: State, send: Send, packed: _Packed | None) -> Outgoing:
        batch = send.batch
        if packed is not None:
            payload, trace = packed
        else:
            records = [record for _, _, record in self._store.read(batch.span, limits.BATCH_RECORDS + 1)]
            if len(records) != batch.records:
                raise OutboxDamaged(f"a batch of {batch.records} rows has {len(records)}")
            again = wire.pack(records)
            assert again is not None, "what was packed once packs again"
            payload, trace = again, _trace(records)
        header = Header(
            epoch=batch.epoch,
            number=batch.number,
            floor=send.floor,
            lane=batch.lane,
            records=batch.records,
            resent=send.resent,
            closed=send.closed,
            void=send.void,
            ledger=state.ledger.to_json(),
            clock=self._quality(),
            hint=send.hint,
            traceparent=trace,
        )
        return Outgoing(batch.key, header, payload)


def _trace(records: Iterable[bytes]) -> str | None:
    """Where the hub hangs its stages of the batch: on the first reading that is followed, else on none."""
    return next(filter(None, map(wire.sampled_trace, records)), None)
