"""What one message comes to: its outputs, and the count of them. PURE."""

from collections.abc import Callable
from dataclasses import dataclass, field

from control_plane.analytics import event_time
from control_plane.analytics.event_time import Rules
from control_plane.analytics.job import Output, Writer
from control_plane.analytics.raw_message import BATCHES, Cut, RawMessage
from control_plane.analytics.records import (
    Aggregate,
    Conduct,
    EventType,
    Flag,
    GatewayEvent,
    Misconduct,
    NormalizedReading,
    Quality,
    Score,
)
from control_plane.analytics.refusal import SOURCE, WHOLE, BatchPlace, Part, refuse
from shared.batch import AggregateRecord, ClockQuality, EventRecord, Lane, ReadingRecord
from shared.device import DeviceView
from shared.envelope import rfc3339
from shared.errors import Reason, Rejected
from shared.reading import Reading, Verdict
from shared.topics import Kafka

_READING = Writer(Kafka.NORMALIZED, EventType.READING, SOURCE)
_AGGREGATE = Writer(Kafka.NORMALIZED, EventType.AGGREGATE, SOURCE)
_CONDUCT = Writer(Kafka.CONDUCT, EventType.CONDUCT, SOURCE)
_EVENT = Writer(Kafka.NORMALIZED, EventType.GATEWAY_EVENT, SOURCE)

Stage = Callable[[str], str | None]
"""Records that a message with this traceparent was normalised; the traceparent for what follows."""


@dataclass(slots=True)
class Tally:
    """How many outputs of which kind; `refused` has a reason for each one, `skew_ms` is the last known offset."""

    readings: int = 0
    aggregates: int = 0
    events: int = 0
    drifting: int = 0
    refused: list[Reason] = field(default_factory=list)
    skew_ms: int | None = None


class Outlet:
    """Collects what a message comes to, in order."""

    def __init__(
        self,
        message: RawMessage,
        lane: Lane,
        rules: Rules,
        stage: Stage | None,
        batch: BatchPlace | None = None,
    ) -> None:
        self.message = message
        self.lane = lane
        self.outputs: list[Output] = []
        self.tally = Tally()
        self._rules = rules
        self._stage = stage
        self._batch = batch
        self._received_at = rfc3339(message.received_ms)
        self._impossible: dict[str, tuple[int, int]] = {}
        """Readings at impossible times by device, and when the last of them was accepted."""

    def reading(
        self,
        view: DeviceView,
        reading: Reading | ReadingRecord,
        ce_id: str,
        clock: ClockQuality,
        skew_ms: int | None,
        gateway: str | None = None,
        accepted_ms: int | None = None,
        score: Verdict | None = None,
        traceparent: str | None = None,
    ) -> None:
        """One reading for `normalized`. Without a gateway the hub's receipt is the acceptance."""
        received_ms = self.message.received_ms
        reference_ms = received_ms if accepted_ms is None else accepted_ms
        ts_ms, flags = event_time.normalise(reading.ts_ms, skew_ms, clock, reference_ms, received_ms, self._rules)
        tally = self.tally
        tally.readings += 1
        if skew_ms is not None:
            tally.skew_ms = skew_ms
            if flags:
                tally.drifting += Flag.DRIFT in flags
        if flags and Flag.TS_IMPLAUSIBLE in flags:
            self._impossible[view.id] = (self._impossible.get(view.id, (0, 0))[0] + 1, reference_ms)
        ts = rfc3339(ts_ms)
        record = NormalizedReading(
            device_id=view.id,
            device_type=view.type,
            gateway_id=gateway,
            ts=ts,
            ts_raw=reading.ts_raw,
            received_at=self._received_at,
            accepted_at=None if accepted_ms is None else rfc3339(accepted_ms),
            metrics=reading.metrics,
            status=reading.status,
            seq=reading.seq,
            lane=self.lane,
            quality=Quality(clock, skew_ms, flags),
            score=None if score is None else Score(score.value, score.metric, score.reason, score.expected),
        )
        if traceparent is None and gateway is None:  # a batch's trace is that of one of its records
            traceparent = self.message.traceparent
        if traceparent is not None and self._stage is not None:
            traceparent = self._stage(traceparent)
        self.outputs.append(_READING(ce_id, view.id, ts, record, traceparent))

    def aggregate(self, record: AggregateRecord, gateway: str, ce_id: str) -> None:
        """What thinning left, for `normalized`."""
        self.tally.aggregates += 1
        to_ts = rfc3339(record.to_ms)
        made = Aggregate(
            device_id=record.device,
            gateway_id=gateway,
            metric=record.metric,
            from_ts=rfc3339(record.from_ms),
            to_ts=to_ts,
            count=record.count,
            min=record.min,
            max=record.max,
            mean=record.mean,
            accepted_at=rfc3339(record.at_ms),
            received_at=self._received_at,
            lane=self.lane,
            clock=record.clock,
        )
        self.outputs.append(_AGGREGATE(ce_id, record.device, to_ts, made))

    def event(self, record: EventRecord, gateway: str, ce_id: str) -> None:
        """What happened at a gateway, for `normalized`."""
        self.tally.events += 1
        at = rfc3339(record.at_ms)
        made = GatewayEvent(
            device_id=record.device,
            gateway_id=gateway,
            name=record.name,
            at=at,
            received_at=self._received_at,
            lane=self.lane,
            data=record.data,
        )
        self.outputs.append(_EVENT(ce_id, record.device, at, made))

    def conduct(self) -> None:
        """What the sender did wrong without its being refused; call it last. A dead letter that comes back says
        nothing anew.
        """
        message = self.message
        if message.replay is not None:
            return
        through = message.sender if message.kind == BATCHES else None
        for device_id, (count, at_ms) in self._impossible.items():
            self._misconduct(device_id, through, Misconduct.IMPOSSIBLE_CLOCK, count, at_ms)
        if message.ignored_hint is not None:
            kind, hint = Misconduct.IGNORED_HINT, message.ignored_hint
            self._misconduct(message.sender, through, kind, 1, message.received_ms, hint)

    def _misconduct(
        self, device_id: str, through: str | None, kind: Misconduct, count: int, at_ms: int, hint: str | None = None
    ) -> None:
        made = Conduct(device_id=device_id, gateway_id=through, kind=kind, count=count, at=rfc3339(at_ms), hint=hint)
        self.outputs.append(_CONDUCT(f"{self.message.ce_id}/{kind}/{device_id}", device_id, made.at, made))

    def refuse(
        self, why: Rejected, payload: bytes, ce_id: str, *, part: Part = WHOLE, cut: Cut | None = None
    ) -> None:
        """One refusal for `rejected`. What a replay of it would only say again is not written again."""
        self.tally.refused.append(why.reason)
        replay = self.message.replay
        if replay is not None and replay.of == ce_id:
            return
        made = refuse(self.message, why, payload, ce_id, part=part, lane=self.lane, batch=self._batch, cut=cut)
        self.outputs.append(made)
