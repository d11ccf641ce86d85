"""Inside a batch: unpack it within limits, judge each record alone. PURE.

A record that is none takes no neighbour with it. What cannot be taken apart is refused as a whole: bytes that are no
JSON array, and also an array with text that is no Unicode (half of a surrogate pair) or with nesting beyond all
measure in any of its records, for then nobody can tell where that record ends.
"""

import hashlib
from collections.abc import Callable
from itertools import islice

import msgspec

from control_plane.analytics.device_rates import DeviceRates
from control_plane.analytics.event_time import LATEST_MS
from control_plane.analytics.outlet import Outlet
from control_plane.analytics.raw_message import Cut, RawMessage
from control_plane.analytics.record_rules import judge_aggregate, judge_event, judge_reading
from control_plane.analytics.records import Origin, text_ms
from control_plane.analytics.refusal import READING, RECORD, Part
from control_plane.analytics.speakers import Registry, Speakers
from shared import batch, limits
from shared.batch import AggregateRecord, BytesRecord, ClockQuality, EventRecord, Header, ReadingRecord, Record
from shared.device import DeviceView
from shared.errors import Reason, Rejected
from shared.reading import Reading, parse_payload

Found = list[Record | tuple[Rejected, bytes]]

OPENED_READINGS = 4 * limits.READINGS_PER_MESSAGE
"""Of one batch, the most readings that are taken out of records of bytes. Without a bound the four megabytes of a
batch could lead to a million refusals, and a transaction that never ends in time."""

_SPLIT = msgspec.json.Decoder(list[msgspec.Raw])
_EMPTY = Rejected(Reason.MALFORMED, "an array without readings")
_CUT = Rejected(Reason.TOO_LARGE, "the message is over the gateway's size limit; only its beginning was kept")
_TOO_MANY = Rejected(Reason.BOMB, f"with this the batch's records of bytes hold more than {OPENED_READINGS} readings")
_THROTTLED = Rejected(Reason.THROTTLED, "the device sent more than its own limit, by the times of acceptance")
_BAD_TIME = Rejected(Reason.BAD_FIELD, "the time of acceptance is none")


def judge_batch(outlet: Outlet, header: Header, registry: Registry, rates: DeviceRates | None = None) -> None:
    """All records of the outlet's message, each as `<ce_id>:<index>`; or one refusal of the whole.

    `rates`: of devices that have limits; None for what is not to be judged by them.
    """
    message = outlet.message
    unpacked = _unpack(message)
    found = batch.decode_records(unpacked) if isinstance(unpacked, bytes) else unpacked
    if not isinstance(found, Rejected) and len(found) != header.records:
        found = Rejected(Reason.PROTOCOL, f"holds {len(found)} records and claims {header.records}")
    if isinstance(found, Rejected):
        outlet.refuse(found, message.value, message.ce_id)
        return
    assert isinstance(unpacked, bytes)
    judge = _Judge(outlet, registry, header.clock, rates)
    judge.prepare(found)
    split: list[msgspec.Raw] = []

    def original(index: int) -> bytes:
        if not split:  # only a refusal needs the bytes
            split.extend(_SPLIT.decode(unpacked))
        return bytes(split[index])

    prefix = message.ce_id + ":"
    for index, record in enumerate(found):
        judge.record(record, prefix + str(index), index, original)
    if rates is not None:
        rates.save()


def judge_part(outlet: Outlet, origin: Origin, registry: Registry) -> None:
    """A part of a message that comes back from the dead letters: `origin` says whose it was and of when.

    Its payload is the whole value of the outlet's message, whose ce_id it keeps.
    """
    message = outlet.message
    clock = _clock(message.properties.get("clock", ""))
    judge = _Judge(outlet, registry, clock)
    index = origin.index if origin.index is not None else 0
    if origin.record == RECORD:
        decoded = batch.decode_record(message.value)
        record: Record | tuple[Rejected, bytes]
        record = (decoded, message.value) if isinstance(decoded, Rejected) else decoded
    else:
        accepted = text_ms(origin.accepted_at) if origin.accepted_at else message.received_ms
        digest = hashlib.sha256(message.value).hexdigest()
        record = BytesRecord(origin.device_id or "", accepted, message.value, len(message.value), digest)
    judge.prepare([record])
    judge.record(record, message.ce_id, index, lambda _: message.value)


def _clock(text: str) -> ClockQuality:
    return ClockQuality(text) if text in set(ClockQuality) else ClockQuality.SYNCED


def _unpack(message: RawMessage) -> bytes | Rejected:
    if message.content_type != batch.CONTENT_TYPE:
        detail = f"content type {message.content_type[:100]!r}; this hub knows {batch.CONTENT_TYPE!r}"
        return Rejected(Reason.SCHEMA_VERSION, detail)
    return batch.unpack(message.value)


class _Judge:
    """Judges the records of one batch."""

    def __init__(
        self, outlet: Outlet, registry: Registry, clock: ClockQuality, rates: DeviceRates | None = None
    ) -> None:
        self._rates = rates
        self._outlet = outlet
        self._gateway = outlet.message.sender
        self._speakers = Speakers(registry, self._gateway)
        self._clock = clock
        self._room = OPENED_READINGS

    def prepare(self, found: Found) -> None:
        """Ask the registry once for all that is not known here."""
        records = [record for record in found if not isinstance(record, tuple)]
        own = self._speakers.own
        if any(own(device) is None for device in {record.device for record in records}):
            self._speakers.prepare((record.device, record.at_ms) for record in records)

    def record(
        self,
        record: Record | tuple[Rejected, bytes],
        ce_id: str,
        index: int,
        original: Callable[[int], bytes],
    ) -> None:
        """One record, or what stands in its place."""
        if type(record) is ReadingRecord:
            why = judge_reading(record)
            if why is None:
                view = self._speakers.judge(record.device, record.at_ms)
                if not isinstance(view, Rejected) and not self._within(view, record.at_ms):
                    view = _THROTTLED
                if not isinstance(view, Rejected):
                    parent = None if record.traceparent is None else batch.traceparent(record.traceparent)
                    self._outlet.reading(
                        view,
                        record,
                        ce_id,
                        record.clock,
                        record.skew_ms,
                        self._gateway,
                        record.at_ms,
                        record.score,
                        parent,
                    )
                    return
                why = view
        elif isinstance(record, tuple):
            self._outlet.refuse(record[0], record[1], ce_id, part=Part(RECORD, None, index=index))
            return
        elif isinstance(record, BytesRecord):
            self._bytes(record, ce_id, index)
            return
        else:
            assert isinstance(record, AggregateRecord | EventRecord)
            why = self._other(record, ce_id)
        if why is not None:
            own_trace = record.traceparent if isinstance(record, ReadingRecord) else None
            part = Part(RECORD, record.device, _acceptance(record.at_ms), index, own_trace)
            self._outlet.refuse(why, original(index), ce_id, part=part)

    def _within(self, view: DeviceView, at_ms: int) -> bool:
        return self._rates is None or self._rates.allows(view, at_ms)

    def _other(self, record: AggregateRecord | EventRecord, ce_id: str) -> Rejected | None:
        why = judge_event(record) if isinstance(record, EventRecord) else judge_aggregate(record)
        if why is not None:
            return why
        view = self._speakers.judge(record.device, record.at_ms)
        if isinstance(view, Rejected):
            return view
        if isinstance(record, EventRecord):
            self._outlet.event(record, self._gateway, ce_id)
        else:
            self._outlet.aggregate(record, self._gateway, ce_id)
        return None

    def _bytes(self, record: BytesRecord, ce_id: str, index: int) -> None:
        """What the agent could not parse. This hub may know better; else it is refused with the device's bytes."""
        part = Part(READING, record.device, _acceptance(record.at_ms), index, record.traceparent)
        if record.length > len(record.payload):
            cut = Cut(record.length, record.sha256)
            self._outlet.refuse(_CUT, record.payload, ce_id, part=part, cut=cut)
            return
        view = _BAD_TIME if part.accepted_ms is None else self._speakers.judge(record.device, record.at_ms)
        parsed = list(islice(parse_payload(record.payload), self._room + 1))
        if len(parsed) > self._room:
            self._outlet.refuse(_TOO_MANY, record.payload, ce_id, part=part)
            return
        self._room -= len(parsed)
        if isinstance(view, Rejected) or not parsed:
            why = view if isinstance(view, Rejected) else _EMPTY
            self._outlet.refuse(why, record.payload, ce_id, part=part)
            return
        is_array = record.payload.lstrip(b" \t\r\n")[:1] == b"["
        for position, item in enumerate(parsed):
            own_id = f"{ce_id}:{position}" if is_array else ce_id
            if isinstance(item, Reading):
                self._outlet.reading(
                    view,
                    item,
                    own_id,
                    self._clock,
                    None,
                    self._gateway,
                    record.at_ms,
                    traceparent=batch.traceparent(record.traceparent),
                )
            else:
                whole = item.raw == record.payload
                self._outlet.refuse(item.why, item.raw, ce_id if whole else own_id, part=part)


def _acceptance(at_ms: int) -> int | None:
    """The time, if it is one that can be written."""
    return at_ms if 0 <= at_ms <= LATEST_MS else None
