"""Which batch is formed, sent, sent again and freed: the gateway's half of the batch protocol. PURE.

`step(state, happening) -> state` is here, `demand(state) -> effect | None` in `edge_agent.uplink_demand`; the shell
does what is demanded, saves it first where it must outlive a crash (`Form`, `Free`), and answers with the happening
that the effect names. Until it has answered, the same is demanded again.

Promises (docs/specs/batch-protocol.md): a row leaves only by the hub's acknowledgement of its batch; `floor` and
`closed` say only what is true for ever; within a lane what must be sent again goes before what is new, and new
batches take rows in order of acceptance; while nobody is known to listen at the hub one batch flies alone.
Leaves reading, packing, publishing and time to the shell.
"""

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

from edge_agent.pace import Bucket, probe_delay_s, resend_delay_s
from edge_agent.uplink_demand import demand
from edge_agent.uplink_state import (
    Acked,
    Appended,
    Batch,
    Connected,
    Disconnected,
    Expired,
    Flight,
    Formed,
    FoundEmpty,
    Freed,
    Happening,
    Hinted,
    Key,
    Limited,
    Link,
    Listed,
    Refused,
    Send,
    Sent,
    Span,
    State,
    Thinned,
    Tick,
    Unheard,
)
from shared import limits
from shared.batch import Lane

__all__ = ["demand", "step"]

_SMALLEST_WINDOW = 4
_PROMPT_S = 0.5
"""An acknowledgement within this time, or twice the shortest seen, lets the window grow; a later one shrinks it."""
_COMMON_CAUSE = 2
"""So many refusals without an acknowledgement between them have one cause, which an acknowledgement shows mended."""
_LONGEST_HINT_S = 3_600.0


def step(state: State, happening: Happening) -> State:
    """The state after this happened. An answer to an effect that was not demanded is a bug: AssertionError."""
    return _STEPS[type(happening)](state, happening)


def _tick(state: State, tick: Tick) -> State:
    state = replace(state, now=max(state.now, tick.now))
    if state.hint is not None and state.now >= state.hint.until:
        state = replace(state, hint=None)
    return state


def _appended(state: State, appended: Appended) -> State:
    assert appended.last > state.tail
    first = state.tail + 1
    waiting = state.waiting
    at_boundary = state.link is not None and state.link.boundary == state.tail
    if waiting and waiting[-1][1] == state.tail and not at_boundary:
        waiting = (*waiting[:-1], (waiting[-1][0], appended.last))
    else:
        waiting = (*waiting, (first, appended.last))
    return replace(
        state,
        tail=appended.last,
        waiting=waiting,
        ledger=state.ledger.append(appended.counts),
        alarm_live=max(state.alarm_live, appended.alarm),
    )


def _connected(state: State, connected: Connected) -> State:
    state = _tick(state, Tick(connected.now))
    per_s = state.limits.replay_per_s
    link = Link(
        boundary=state.tail,
        window=state.limits.first_window,
        replay_from=state.now + connected.chance * state.limits.replay_start_s,
        replay=Bucket.full(per_s, max(per_s, limits.BATCH_RECORDS), state.now),
        backstop_at=0.0,
        chance=connected.chance,
    )
    return replace(
        state,
        link=link,
        waiting=_merged(state, state.waiting, state.tail),
        alarm_live=0,
        alarm_replay=max(state.alarm_live, state.alarm_replay),
    )


def _disconnected(state: State, _: Disconnected) -> State:
    return replace(state, link=None)


def _merged(state: State, spans: Iterable[Span], boundary: int) -> tuple[Span, ...]:
    """Spans with no batch between them become one, but for the two sides of the boundary: keeps them few."""
    walls = sorted(batch.span[0] for batch in (*state.batches.values(), *state.freeing))
    merged: list[Span] = []
    place = 0
    for span in spans:
        while place < len(walls) and merged and walls[place] <= merged[-1][1]:
            place += 1
        walled = place < len(walls) and walls[place] < span[0]
        if merged and not walled and not merged[-1][1] <= boundary < span[0]:
            merged[-1] = (merged[-1][0], span[1])
        else:
            merged.append(span)
    return tuple(merged)


def _formed(state: State, formed: Formed) -> State:
    batch = formed.batch
    link = state.link
    assert link is not None
    assert (batch.epoch, batch.number) == (state.epoch, state.next_number)
    state = replace(
        state,
        next_number=state.next_number + 1,
        batches={**state.batches, batch.key: batch},
        listed={**state.listed, batch.key: None},
        waiting=_without(state.waiting, batch.span[1], batch.span[0]),
    )
    if state.hint is not None:
        bucket = state.hint.bucket.at(state.now).take(batch.records - formed.alarms)
        state = replace(state, hint=replace(state.hint, bucket=bucket))
    if batch.lane is Lane.LIVE:
        return replace(state, alarm_live=0) if state.alarm_live <= batch.span[1] else state
    if state.alarm_replay <= batch.span[1]:
        state = replace(state, alarm_replay=0)
    return replace(state, link=replace(link, replay=link.replay.at(state.now).take(batch.records)))


def _found_empty(state: State, empty: FoundEmpty) -> State:
    return replace(state, waiting=_without(state.waiting, empty.span[1], empty.span[0]))


def _without(waiting: tuple[Span, ...], last: int, within: int) -> tuple[Span, ...]:
    """The spans, that which holds `within` shortened to what comes after `last`."""
    shorter: list[Span] = []
    for span in waiting:
        if span[0] <= within <= span[1]:
            if last < span[1]:
                shorter.append((last + 1, span[1]))
        else:
            shorter.append(span)
    return tuple(shorter)


def _sent(state: State, sent: Sent) -> State:
    link = state.link
    send = sent.send
    key = send.batch.key
    if link is None or key not in state.batches:
        return state
    before = link.flights.get(key)
    attempts = 0 if before is None else before.attempts
    delay = resend_delay_s(attempts, sent.chance)
    flight = Flight(
        first=link.sends if before is None else before.first,
        last=link.sends,
        attempts=attempts + 1,
        sent_at=state.now,
        resend_at=state.now + delay,
    )
    window, backstop_at, backstops = link.window, link.backstop_at, link.backstops
    if all(other.refused for other in link.flights.values()):
        backstop_at, backstops = state.now + delay, 0  # the first in flight starts the back-stop timer
    elif before is not None and not before.refused:
        if before.last < link.acked_high:
            window = max(_SMALLEST_WINDOW, window // 2)
        else:
            backstops += 1
            backstop_at = state.now + resend_delay_s(backstops, sent.chance)
    link = replace(
        link,
        sends=link.sends + 1,
        flights={**link.flights, key: flight},
        window=window,
        backstop_at=backstop_at,
        backstops=backstops,
    )
    return replace(state, link=link, listed=_listed(state, send))


def _listed(state: State, send: Send) -> dict[Key, Listed | None]:
    """An acknowledgement does not say of which copy it is, so only what every copy lists counts as told."""
    listed = dict(state.listed)
    key = send.batch.key
    if key in listed:  # else a copy may have left before this start, and what that one listed is not known
        told: Listed = frozenset(send.closed)
        earlier = listed[key]
        listed[key] = told if earlier is None else earlier & told
    return listed


def _refused(state: State, refused: Refused) -> State:
    link = state.link
    flight = None if link is None else link.flights.get(refused.key)
    if link is None or flight is None:
        return state
    flight = replace(
        flight,
        refused=True,
        resend_at=state.now + resend_delay_s(flight.attempts - 1, refused.chance),
    )
    link = replace(
        link,
        flights={**link.flights, refused.key: flight},
        window=max(_SMALLEST_WINDOW, link.window // 2),
        refusals=link.refusals + 1,
    )
    if not link.heard or link.refusals >= _COMMON_CAUSE:
        link = _doubted(state, link, refused.chance)
    return replace(state, link=link)


def _unheard(state: State, unheard: Unheard) -> State:
    """Whatever else is in flight is as good as never sent: it goes again in its order when somebody listens."""
    link = state.link
    if link is None or unheard.key not in link.flights:
        return state
    link = replace(link, flights={}, window=state.limits.first_window)
    return replace(state, link=_doubted(state, link, unheard.chance))


def _doubted(state: State, link: Link, chance: float) -> Link:
    return replace(link, heard=False, probes=link.probes + 1, probe_at=state.now + probe_delay_s(link.probes, chance))


def _acked(state: State, acked: Acked) -> State:
    batches = dict(state.batches)
    listed = dict(state.listed)
    told: set[Any] = set()
    done: list[Batch] = []
    for key in acked.keys:
        batch = batches.pop(key, None)
        if batch is not None:
            done.append(batch)
            told |= listed.pop(key, None) or frozenset()
    if not done:
        return state
    ledger = state.ledger
    for batch in done:
        ledger = ledger.ack(batch.counts)
    left = {batch.epoch for batch in batches.values()}
    old = tuple(
        epoch for epoch in state.old
        if (epoch.epoch, epoch.last) not in told and (epoch.last is not None or epoch.epoch in left)
    )  # fmt: skip
    kept = {epoch.epoch for epoch in old}
    return replace(
        state,
        batches=batches,
        listed=listed,
        ledger=ledger,
        old=old,
        voids=tuple(void for void in state.voids if void[0] in kept),
        forgotten=(*state.forgotten, *(epoch.epoch for epoch in state.old if epoch.epoch not in kept)),
        freeing=(*state.freeing, *done),
        free_at=state.now + state.limits.free_every_s if state.free_at is None else state.free_at,
        link=None if state.link is None else _landed(state, state.link, done),
    )


def _landed(state: State, link: Link, done: list[Batch]) -> Link:
    flights = dict(link.flights)
    window, round_trip, acked_high, heard = link.window, link.round_trip, link.acked_high, link.heard
    for batch in done:
        flight = flights.pop(batch.key, None)
        if flight is None:
            continue  # acknowledged by a copy of an earlier connection before it was sent in this one
        acked_high = max(acked_high, flight.first)
        heard = heard or not flight.refused
        if flight.attempts == 1:
            took = state.now - flight.sent_at
            round_trip = min(round_trip, took)
            prompt = took <= max(_PROMPT_S, 2 * round_trip)
            window = min(state.limits.window, window + 1) if prompt else max(_SMALLEST_WINDOW, window - 1)
    if link.refusals >= _COMMON_CAUSE:
        flights = {
            key: replace(flight, resend_at=state.now) if flight.refused else flight for key, flight in flights.items()
        }
    return replace(
        link,
        flights=flights,
        window=window,
        round_trip=round_trip,
        acked_high=acked_high,
        refusals=0,
        heard=heard,
        probes=0 if heard else link.probes,
        probe_at=0.0 if heard else link.probe_at,
        backstops=0,
        backstop_at=state.now + resend_delay_s(0, link.chance),
    )


def _hinted(state: State, hinted: Hinted) -> State:
    hint = hinted.hint
    per_s = max(1.0, hint.readings_per_s)
    burst = max(2.0, per_s)  # one second's worth
    until = state.now + min(max(0.0, hint.for_s), _LONGEST_HINT_S)
    level = burst if state.hint is None else min(burst, state.hint.bucket.at(state.now).level)
    return replace(state, hint=Limited(hint.id, until, Bucket(per_s, burst, level, state.now)))


def _freed(state: State, freed: Freed) -> State:
    count = len(freed.free.batches)
    assert state.freeing[:count] == freed.free.batches
    state = replace(
        state,
        freeing=state.freeing[count:],
        forgotten=tuple(epoch for epoch in state.forgotten if epoch not in freed.free.epochs),
    )
    boundary = state.tail if state.link is None else state.link.boundary
    free_at = state.free_at if state.freeing or state.forgotten else None
    return replace(state, free_at=free_at, waiting=_merged(state, state.waiting, boundary))


def _thinned(state: State, thinned: Thinned) -> State:
    return replace(state, ledger=state.ledger.thin(thinned.taken, thinned.made))


def _expired(state: State, expired: Expired) -> State:
    return replace(state, ledger=state.ledger.expire(expired.rows))


_STEPS: dict[type, Callable[[State, Any], State]] = {
    Tick: _tick,
    Appended: _appended,
    Connected: _connected,
    Disconnected: _disconnected,
    Formed: _formed,
    FoundEmpty: _found_empty,
    Sent: _sent,
    Refused: _refused,
    Unheard: _unheard,
    Acked: _acked,
    Hinted: _hinted,
    Freed: _freed,
    Thinned: _thinned,
    Expired: _expired,
}
