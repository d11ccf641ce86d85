"""What the uplink demands next: form, send, send again, or free. PURE; `edge_agent.uplink` tells the whole."""

from collections.abc import Iterable
from dataclasses import dataclass, field

from edge_agent.ledger import Ledger, add
from edge_agent.row import NONE
from edge_agent.uplink_state import Batch, ClosedEpoch, Effect, Form, Free, Link, Send, Span, State, Void
from shared import limits
from shared.batch import Lane, listed_closed, listed_void
from shared.ids import Epoch

_ALARM_REACH = limits.BATCH_RECORDS
"""An alarm is exempt from a hint when so few rows stand before it that its batch is the next."""


def demand(state: State) -> Effect | None:
    """The next thing to do, or None until something happens. The clock is the state's: `Tick` moves it."""
    link = state.link
    if link is not None:
        survey = _survey(state, link)
        for lane in (Lane.LIVE, Lane.REPLAY):  # live first
            if lane is Lane.REPLAY and state.now < link.replay_from:
                break
            due, unsent = survey.due[lane], survey.unsent[lane]
            if due is not None:  # in flight already: it needs no place, or nothing would ever free the places lost
                return _send(state, due)
            if unsent is not None:
                if _may_fly(state, link, survey, lane):
                    return _send(state, unsent)
                continue
            form = _form(state, link, survey, lane)
            if form is not None:
                return form
    return _free(state)


@dataclass(slots=True)
class _Survey:
    """One look over the unacknowledged batches, by lane.

    `due`: the first in flight that is to go again; `unsent`: the first that is not in flight and may go.
    """

    due: dict[Lane, Batch | None] = field(default_factory=lambda: dict.fromkeys(Lane))
    unsent: dict[Lane, Batch | None] = field(default_factory=lambda: dict.fromkeys(Lane))
    flying: dict[Lane, int] = field(default_factory=lambda: dict.fromkeys(Lane, 0))
    unacked: dict[Lane, int] = field(default_factory=lambda: dict.fromkeys(Lane, 0))
    packed_bytes: dict[Lane, int] = field(default_factory=lambda: dict.fromkeys(Lane, 0))


def _survey(state: State, link: Link) -> _Survey:
    survey = _Survey()
    oldest: tuple[int, Batch] | None = None
    for key, batch in state.batches.items():
        lane = batch.lane
        survey.unacked[lane] += 1
        survey.packed_bytes[lane] += batch.packed_bytes
        flight = link.flights.get(key)
        if flight is None or flight.refused:
            if survey.unsent[lane] is None and (flight is None or state.now >= flight.resend_at):
                survey.unsent[lane] = batch
            continue
        survey.flying[lane] += 1
        if oldest is None or flight.last < oldest[0]:
            oldest = (flight.last, batch)
        overtaken = flight.last < link.acked_high
        if survey.due[lane] is None and overtaken and state.now >= flight.resend_at:
            survey.due[lane] = batch
    if oldest is not None and state.now >= link.backstop_at and survey.due[oldest[1].lane] is None:
        survey.due[oldest[1].lane] = oldest[1]
    return survey


def _may_fly(state: State, link: Link, survey: _Survey, lane: Lane) -> bool:
    """Whether one more batch of this lane fits the window, of which a quarter is live's alone.

    Before somebody was heard to listen one flies alone: of several a listener who comes in their midst would take
    the later ones only.
    """
    if not link.heard:
        return state.now >= link.probe_at and not any(survey.flying.values())
    if sum(survey.flying.values()) >= link.window:
        return False
    return lane is Lane.LIVE or survey.flying[lane] < max(1, link.window - max(1, link.window // 4))


def _form(state: State, link: Link, survey: _Survey, lane: Lane) -> Form | None:
    span = _waiting(state, link, lane)
    if span is None or not _may_fly(state, link, survey, lane):
        return None
    if state.next_number >= _floor(state, state.epoch, state.next_number) + limits.WINDOW_NUMBERS:
        return None
    share = 1.0 if lane is Lane.LIVE else 0.75
    if sum(survey.unacked.values()) >= state.limits.window or survey.unacked[lane] >= share * state.limits.window:
        return None
    free_bytes = state.limits.window_bytes - sum(survey.packed_bytes.values())
    if lane is Lane.REPLAY:
        free_bytes = min(free_bytes, int(share * state.limits.window_bytes) - survey.packed_bytes[lane])
    if free_bytes < limits.BATCH_PACKED_BYTES and survey.unacked[lane] > 0:
        return None
    records = _allowance(state, link, lane, span)
    if records < 1:
        return None
    return Form(state.epoch, state.next_number, lane, span, records, limits.BATCH_PACKED_BYTES)


def _waiting(state: State, link: Link, lane: Lane) -> Span | None:
    """The lane's first rows that are in no batch."""
    for span in state.waiting:
        if (span[0] > link.boundary) == (lane is Lane.LIVE):
            return span
    return None


def _allowance(state: State, link: Link, lane: Lane, span: Span) -> int:
    """How many records the next new batch may hold by the hint and, for the backlog, by its budget."""
    most = limits.BATCH_RECORDS
    if lane is Lane.REPLAY:
        most = min(most, int(link.replay.at(state.now).level))
    if state.hint is None:
        return most
    bucket = state.hint.bucket.at(state.now)
    alarm = state.alarm_live if lane is Lane.LIVE else state.alarm_replay
    if span[0] <= alarm < span[0] + _ALARM_REACH:
        return min(most, alarm - span[0] + 1)
    # The backlog leaves half of what has gathered to live, which would else wait for it.
    kept = 0.0 if lane is Lane.LIVE else bucket.burst / 2
    return min(most, int(bucket.level - kept))


def _send(state: State, batch: Batch) -> Send:
    closed, void = _lists(state)
    # Only a wide void lies further below. What does was acknowledged before this number was formed.
    lowest = batch.number - limits.WINDOW_NUMBERS + 1
    return Send(
        batch=batch,
        floor=max(lowest, _floor(state, batch.epoch, batch.number)),
        resent=state.listed.get(batch.key, batch) is not None,
        closed=closed,
        void=void,
        hint=None if state.hint is None else state.hint.id,
    )


def _floor(state: State, epoch: Epoch, number: int) -> int:
    """The lowest number of the epoch that is not acknowledged, `number` if there is none below.

    No floor passes a void number: only the closing of its epoch does, which tells of it in the same header.
    """
    lowest = number
    for batch in state.batches.values():
        if batch.epoch == epoch:
            lowest = min(lowest, batch.number)
            break  # in order of number within an epoch
    for void_epoch, first, _ in state.voids:
        if void_epoch == epoch:
            lowest = min(lowest, first)
    return lowest


def _lists(state: State) -> tuple[tuple[ClosedEpoch, ...], tuple[Void, ...]]:
    """What a header lists: closed epochs, oldest first, each beside all of its voids.

    An epoch is closed when nothing of it is left to acknowledge. Its voids are told with it, not before: a range may
    cover numbers that were still to come, and whoever reads that the epoch is closed reads there what never comes.
    """
    if not state.old:
        return (), ()
    pending = {batch.epoch for batch in state.batches.values()}
    closed: list[ClosedEpoch] = []
    void: list[Void] = []
    for old in state.old:
        if old.last is None or old.epoch in pending:
            continue
        more = [entry for entry in state.voids if entry[0] == old.epoch]
        if listed_void([*void, *more]) < len(void) + len(more):
            continue
        if listed_closed([*closed, (old.epoch, old.last)]) == len(closed):
            break
        closed.append((old.epoch, old.last))
        void += more
    return tuple(closed), tuple(void)


def _free(state: State) -> Free | None:
    if state.free_at is None:
        return None
    rows = sum(batch.records for batch in state.freeing)
    if rows < state.limits.free_rows and state.now < state.free_at:
        return None
    chunk: list[Batch] = []
    rows = 0
    for batch in state.freeing:
        if chunk and rows + batch.records > state.limits.free_rows:
            break
        chunk.append(batch)
        rows += batch.records
    rest = state.freeing[len(chunk) :]
    held = {batch.epoch for batch in rest}
    epochs = tuple(epoch for epoch in state.forgotten if epoch not in held)
    return Free(tuple(chunk), epochs, state.voids, on_disk(state.ledger, rest))


def on_disk(ledger: Ledger, still_there: Iterable[Batch]) -> Ledger:
    """The ledger as it must be saved while the rows of these acknowledged batches are still in the file."""
    rows = NONE
    for batch in still_there:
        rows = add(rows, batch.counts)
    return ledger.unack(rows)
