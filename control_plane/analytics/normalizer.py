"""The TelemetryNormalizer: what one raw record means. PURE, but for what it asks its registry.

Promises: no bytes make it raise; every reading of a message leads to one output at least, in order; a message that
was seen before leads to none. The same record, state and registry lead to the same outputs.

State, per sender: the batch window (`batch_window`), a memory of its latest messages (`recent_messages`), under `c`
how far a direct device's clock was off, under `l…` the allowances of devices with limits (`device_rates`), under
`r…` which dead letters came back.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum

import msgspec

from control_plane.analytics import batch_window, event_time, recent_ids, speakers
from control_plane.analytics.batch_window import Judged, Lost, Verdict
from control_plane.analytics.device_rates import DeviceRates
from control_plane.analytics.event_time import Rules, Sample
from control_plane.analytics.job import Incoming, Output, State, output
from control_plane.analytics.number_ranges import count
from control_plane.analytics.outlet import Outlet, Stage, Tally
from control_plane.analytics.raw_message import BATCHES, RawMessage, Replay, read
from control_plane.analytics.recent_messages import Recent
from control_plane.analytics.records import EventType, Gap
from control_plane.analytics.refusal import MESSAGE, READING, SOURCE, BatchPlace, Part
from control_plane.analytics.speakers import Registry
from control_plane.analytics.unpacking import judge_batch, judge_part
from shared import batch
from shared.batch import ClockQuality, Header, Lane
from shared.device import DeviceView
from shared.envelope import rfc3339
from shared.errors import Reason, Rejected
from shared.reading import Reading, parse_payload
from shared.topics import Kafka

REMEMBERED_REPLAYS = 1_024
"""Dead letters that came back, in each of 256 parts of a sender's state."""

_CLOCK, _REPLAYS = b"c", b"r"
_TOO_LARGE = Rejected(Reason.TOO_LARGE, "the message is over the size limit; only its beginning was kept")
_THROTTLED = Rejected(Reason.THROTTLED, "the device sent more than its limit")
_EMPTY = Rejected(Reason.MALFORMED, "an array without readings")
_UNJUDGED = Rejected(Reason.UNJUDGED, "the hub failed to judge it; replay it when that is mended")


class Fate(StrEnum):
    """What became of one raw record; each has exactly one."""

    NORMALIZED = "normalized"  # something of it is in `normalized`
    REJECTED = "rejected"  # all of it is in `rejected`
    REPEAT = "repeat"  # seen before: nothing is written


@dataclass(slots=True)
class Outcome:
    """All that one raw record leads to."""

    fate: Fate
    outputs: list[Output] = field(default_factory=list)
    tally: Tally = field(default_factory=Tally)
    lane: Lane = Lane.LIVE
    lost: tuple[Lost, ...] = ()
    header: Header | None = None
    sender: str = ""
    is_replay: bool = False


_ENCODE = msgspec.msgpack.Encoder().encode
_DECODE_SAMPLES = msgspec.msgpack.Decoder(tuple[Sample, ...]).decode


class Normalizer:
    """`stage`, if given, records the trace stage of whatever has a traceparent."""

    def __init__(self, registry: Registry, rules: Rules, stage: Stage | None = None) -> None:
        self._registry = registry
        self._rules = rules
        self._stage = stage

    def judge(self, record: Incoming, state: State) -> Outcome:
        """What this record leads to; `state` is its sender's and is changed."""
        message = read(record)
        if message.replay is not None:
            return self._replayed(message, message.replay, state)
        if message.kind == BATCHES:
            return self._batch(message, state)
        return self._direct(message, state)

    def _direct(self, message: RawMessage, state: State) -> Outcome:
        """A message of a directly attached device."""
        recent = Recent(state, message.ce_id)
        if recent.known:
            return Outcome(Fate.REPEAT, sender=message.sender)
        outlet = Outlet(message, Lane.LIVE, self._rules, self._stage)
        before = _load_samples(state)
        samples = self._open_message(outlet, before, learn=True)
        if samples is not before:
            state.set(_CLOCK, _ENCODE(samples))
        recent.remember(message.received_ms)
        return _outcome(outlet)

    def _open_message(self, outlet: Outlet, samples: tuple[Sample, ...], *, learn: bool) -> tuple[Sample, ...]:
        """Judge a device's own message; the samples of its clock, if `learn` with what this one adds."""
        message = outlet.message
        view = self._speaker(message)
        if isinstance(view, Rejected):
            outlet.refuse(view, message.value, message.ce_id, cut=message.cut)
            return samples
        parsed = list(parse_payload(message.value))
        readings = [item for item in parsed if isinstance(item, Reading)]
        if readings and learn:
            newest = max(reading.ts_ms for reading in readings)
            samples = event_time.with_sample(samples, message.received_ms, newest) or samples
        skew_ms = event_time.skew_of(samples, self._rules)
        if not parsed:
            outlet.refuse(_EMPTY, message.value, message.ce_id)
        is_array = message.value.lstrip(b" \t\r\n")[:1] == b"["
        for index, item in enumerate(parsed):
            own_id = f"{message.ce_id}:{index}" if is_array else message.ce_id
            if isinstance(item, Reading):
                outlet.reading(view, item, own_id, ClockQuality.SYNCED, skew_ms)
            elif item.raw == message.value:
                outlet.refuse(item.why, item.raw, message.ce_id)
            else:
                outlet.refuse(item.why, item.raw, own_id, part=Part(READING, view.id, index=index))
        return samples

    def _speaker(self, message: RawMessage) -> DeviceView | Rejected:
        if message.cut is not None:
            return _TOO_LARGE
        return _THROTTLED if message.throttled else speakers.direct(self._registry, message.sender)

    def _batch(self, message: RawMessage, state: State) -> Outcome:
        """A batch of a gateway. Whatever its content: a number that came is no gap."""
        header = batch.decode_header(message.properties)
        if isinstance(header, Rejected):
            return self._unnumbered(message, header, state)
        view = speakers.gateway(self._registry, message.sender)
        if isinstance(view, Rejected) and view.reason is Reason.PROTOCOL:
            return self._unnumbered(message, view, state)
        judged = batch_window.judge(header, message.received_ms, state)
        if isinstance(judged.verdict, Rejected):
            return self._unnumbered(message, judged.verdict, state)
        rates = DeviceRates(state, header.lane, self._registry.defaults)
        return self._numbered(message, header, judged, lambda outlet: self._open_batch(outlet, header, view, rates))

    def _numbered(
        self, message: RawMessage, header: Header, judged: Judged, fill: Callable[[Outlet], None]
    ) -> Outcome:
        """A batch whose number has its verdict: what it settled of others, and by `fill` its content if it is new."""
        message = message._replace(ce_id=f"{message.sender}:{header.epoch}:{header.number}")
        outlet = Outlet(message, header.lane, self._rules, self._stage, BatchPlace(header.epoch, header.number))
        outlet.outputs.extend(_gap(message, lost) for lost in judged.lost)
        if judged.verdict is Verdict.REPEAT:
            outcome = Outcome(Fate.REPEAT, outlet.outputs, lane=header.lane, sender=message.sender)
        else:
            fill(outlet)
            outcome = _outcome(outlet)
        outcome.lost, outcome.header = judged.lost, header
        return outcome

    def _open_batch(
        self, outlet: Outlet, header: Header, view: DeviceView | Rejected, rates: DeviceRates | None = None
    ) -> None:
        message = outlet.message
        why = _TOO_LARGE if message.cut is not None else _THROTTLED if message.throttled else None
        if why is None and isinstance(view, Rejected):
            why = view
        if why is None:
            judge_batch(outlet, header, self._registry, rates)
        else:
            outlet.refuse(why, message.value, message.ce_id, cut=message.cut)

    def _unnumbered(self, message: RawMessage, why: Rejected, state: State) -> Outcome:
        """A batch that has no place in the protocol: refused, and known again only by its bytes."""
        digest = hashlib.sha256(message.value).hexdigest() if message.cut is None else message.cut.sha256
        recent = Recent(state, f"{message.ce_id}:{digest}")
        if recent.known:
            return Outcome(Fate.REPEAT, sender=message.sender)
        outlet = Outlet(message, Lane.LIVE, self._rules, self._stage)
        outlet.refuse(why, message.value, message.ce_id, cut=message.cut)
        recent.remember(message.received_ms)
        return _outcome(outlet)

    def _replayed(self, message: RawMessage, replay: Replay, state: State) -> Outcome:
        """A dead letter that comes back: judged as if it came from its sender again, but for the batch check."""
        identity = recent_ids.short(replay.of)
        bucket = _REPLAYS + identity[:1]
        known = state.get(bucket) or b""
        if recent_ids.contains(known, identity):
            return Outcome(Fate.REPEAT, lane=Lane.REPLAY, sender=message.sender, is_replay=True)
        outlet = Outlet(message._replace(ce_id=replay.of), Lane.REPLAY, self._rules, self._stage)
        if replay.origin.record != MESSAGE and message.kind == BATCHES:
            judge_part(outlet, replay.origin, self._registry)
        elif message.kind == BATCHES:
            self._open_replayed_batch(outlet)
        else:
            self._open_message(outlet, _load_samples(state), learn=False)
        if outlet.outputs:  # else it was refused as before, and may come back once more
            state.set(bucket, recent_ids.add(known, identity, REMEMBERED_REPLAYS))
        outcome = _outcome(outlet)
        outcome.is_replay = True
        return outcome

    def _open_replayed_batch(self, outlet: Outlet) -> None:
        message = outlet.message
        header = batch.decode_header(message.properties)
        if isinstance(header, Rejected):
            outlet.refuse(header, message.value, message.ce_id)
        else:
            self._open_batch(outlet, header, speakers.gateway(self._registry, message.sender))

    def give_up(self, record: Incoming, state: State) -> Outcome:
        """The whole record refused because judging it failed: our own fault, and no reason to stand still.

        `state` must be as it was before the record. A batch's number is taken in all the same: it came, and what its
        header says of others is told now or never.
        """
        message = read(record)
        if message.kind == BATCHES and message.replay is None:
            header = batch.decode_header(message.properties)
            if not isinstance(header, Rejected):
                judged = batch_window.judge(header, message.received_ms, state)
                if not isinstance(judged.verdict, Rejected):
                    return self._numbered(message, header, judged, _refuse_unjudged)
        return unjudged(record)


def unjudged(record: Incoming) -> Outcome:
    """The same without the state, where that is what cannot be judged."""
    message = read(record)
    outlet = Outlet(message, Lane.LIVE, Rules(), None)
    _refuse_unjudged(outlet)
    outcome = _outcome(outlet)
    outcome.is_replay = message.replay is not None
    return outcome


def _refuse_unjudged(outlet: Outlet) -> None:
    message = outlet.message
    outlet.refuse(_UNJUDGED, message.value, message.ce_id, cut=message.cut)


def _load_samples(state: State) -> tuple[Sample, ...]:
    kept = state.get(_CLOCK)
    return () if kept is None else _DECODE_SAMPLES(kept)


def _outcome(outlet: Outlet) -> Outcome:
    outlet.conduct()
    tally = outlet.tally
    taken = tally.readings + tally.aggregates + tally.events
    fate = Fate.NORMALIZED if taken else Fate.REJECTED
    return Outcome(fate, outlet.outputs, tally, outlet.lane, sender=outlet.message.sender)


def _gap(message: RawMessage, lost: Lost) -> Output:
    """One event for all that one header settled of one epoch. Numbers are told once, so its first names it."""
    gateway = message.sender
    noticed_at = rfc3339(message.received_ms)
    record = Gap(
        gateway_id=gateway,
        epoch=lost.epoch,
        kind=lost.kind,
        ranges=lost.ranges,
        count=count(lost.ranges),
        noticed_at=noticed_at,
    )
    return output(
        Kafka.GAP,
        EventType.GAP,
        source=SOURCE,
        ce_id=f"{gateway}:{lost.epoch}:{lost.kind}:{lost.ranges[0][0]}-{lost.ranges[-1][1]}",
        subject=gateway,
        time=noticed_at,
        record=record,
    )
