"""What stands in the values of the analytics topics: one struct per event type, encoded and decoded here only. PURE.

Promises: `decode(type, encode(x)) == x`; every struct's JSON is valid under `shared/schemas/<event type>.json`; what
a newer writer adds is ignored when read. A field that is absent and one that is null mean the same. Times are RFC
3339 text in UTC with milliseconds (`text_ms` reads them). The envelope around a value is `shared.envelope`'s.
"""

from datetime import datetime
from enum import StrEnum
from typing import Any, TypeAlias

import msgspec

from shared.batch import ClockQuality, Lane
from shared.errors import Reason, Rejected
from shared.reading import MetricValue


class EventType(StrEnum):
    """`ce_type` of every event that analytics writes; also the stem of its schema's file."""

    READING = "iot.telemetry.reading.normalized.v1"
    AGGREGATE = "iot.telemetry.reading.aggregated.v1"
    GATEWAY_EVENT = "iot.telemetry.gateway.event.v1"
    REJECTED = "iot.telemetry.rejected.v1"
    GAP = "iot.telemetry.gap.v1"
    CONDUCT = "iot.device.conduct.v1"
    ANOMALY = "iot.anomaly.detected.v1"
    STOCK = "ecommerce.inventory.stock.adjusted.v1"


RAW_TYPE = "iot.telemetry.raw.v1"
"""`ce_type` of what ingest writes: the bytes as they came."""


class Flag(StrEnum):
    """What a reader should know of a normalised time."""

    SKEW_CORRECTED = "skew_corrected"  # ts = the device's time minus the known offset of its clock
    TS_IMPLAUSIBLE = "ts_implausible"  # the device's time cannot be; ts = acceptance or receipt
    DRIFT = "drift"  # the device's clock is off by more than the threshold


class GapKind(StrEnum):
    """Why numbers are missing."""

    GAP = "gap"  # the agent knows them to be acknowledged, the hub never saw them
    DAMAGED = "damaged"  # the agent lost their rows to damage and said so


class Severity(StrEnum):
    """How much an anomaly wants a person."""

    INFO = "info"
    WARNING = "warning"
    CRITICAL = "critical"


class Judge(StrEnum):
    """Who found an anomaly."""

    EDGE = "edge"
    HUB = "hub"


class Quality(msgspec.Struct, frozen=True):
    """How far `ts` can be trusted.

    `clock`: of whoever stamped the acceptance (a gateway; the hub for a direct device). `skew_ms`: the device's
    clock minus that clock, as estimated; null while unknown.
    """

    clock: ClockQuality
    skew_ms: int | None
    flags: tuple[Flag, ...]


class Score(msgspec.Struct, frozen=True, omit_defaults=True):
    """The edge's verdict: `value` is its score, `reason` the stream that spoke, `expected` what that expected."""

    value: float
    metric: str
    reason: str
    expected: float | None = None


class NormalizedReading(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One reading, judged. `ts` is when it was measured, as well as anybody knows; `ts_raw` what the device wrote.

    `accepted_at`: committed at the gateway (absent for a direct device); `received_at`: reached the hub.
    `device_type`: as registered when the reading was judged.
    `score` is there only where the edge scored the reading.
    """

    device_id: str
    device_type: str | None = None
    gateway_id: str | None = None
    ts: str
    ts_raw: str | int | float
    received_at: str
    accepted_at: str | None = None
    metrics: dict[str, MetricValue]
    status: str | None = None
    seq: int | None = None
    lane: Lane
    quality: Quality
    score: Score | None = None


class Aggregate(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What thinning at the gateway left of `count` readings of one metric, measured in [from_ts, to_ts].

    `clock`: how far the gateway's clock could be trusted, by which the two were taken.
    """

    device_id: str
    gateway_id: str
    metric: str
    from_ts: str
    to_ts: str
    count: int
    min: float
    max: float
    mean: float
    accepted_at: str
    received_at: str
    lane: Lane
    clock: ClockQuality | None = None


class GatewayEvent(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Something that happened to a gateway (`device_id == gateway_id`) or to a device of its."""

    device_id: str
    gateway_id: str
    name: str
    at: str
    received_at: str
    lane: Lane
    data: dict[str, Any]


class RawPlace(msgspec.Struct, frozen=True):
    """Where in Kafka the raw record stands."""

    topic: str
    partition: int
    offset: int


class Origin(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Where a rejected record came from: enough to judge it again as coming from the same sender at the same time.

    `kind`: `telemetry` (a direct message) or `batches`. `device_id`: whose record it claims to be; absent where
    the message could not be opened. `record`: the form of `payload` — `message` (as the sender sent it),
    `reading` (one object of a device) or `record` (one encoded record of a batch).
    """

    kind: str
    sender: str
    record: str
    received_at: str
    raw: RawPlace
    content_type: str
    device_id: str | None = None
    accepted_at: str | None = None
    epoch: str | None = None
    number: int | None = None
    index: int | None = None
    lane: Lane | None = None
    headers: dict[str, str] = {}


class RejectedRecord(msgspec.Struct, frozen=True, kw_only=True):
    """What was refused, why, and its bytes. `length` and `sha256` are of the original.

    The payload is the whole of it unless `length` is larger than what it decodes to: then it was cut, and
    cannot be replayed.
    """

    reason: Reason
    detail: str
    origin: Origin
    payload_base64: str
    length: int
    sha256: str


class Gap(msgspec.Struct, frozen=True, kw_only=True):
    """Batch numbers of one gateway's epoch that will never be seen, as inclusive ranges in rising order."""

    gateway_id: str
    epoch: str
    kind: GapKind
    ranges: tuple[tuple[int, int], ...]
    count: int
    noticed_at: str


class Misconduct(StrEnum):
    """What a device does wrong without any of it being refused. The quarantine's rules bear the same names."""

    IMPOSSIBLE_CLOCK = "impossible_clock"  # readings whose time cannot be; they are kept, with another
    IGNORED_HINT = "ignored_hint"  # a batch of a gateway that echoes its flow hint and does not obey it


class Conduct(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """`count` signs of misconduct in one message, of `device_id`; through `gateway_id`, if through one.

    `at`: when it happened, by whoever accepted the message. `hint`: the flow hint that was ignored.
    """

    device_id: str
    gateway_id: str | None = None
    kind: Misconduct
    count: int
    at: str
    hint: str | None = None


class Anomaly(msgspec.Struct, frozen=True, kw_only=True):
    """A metric of a device left what was expected of it. One `episode_id` per hold-down of (device, metric)."""

    device_id: str
    metric: str
    ts: str
    value: float
    score: float
    severity: Severity
    reason: str
    expected: float | None
    source: Judge
    episode_id: str


class StockAdjusted(msgspec.Struct, frozen=True, kw_only=True):
    """Inventory's event: `delta` in `unit` at `location`. The device appears by its pseudonym only."""

    sku: str
    location: str
    delta: float
    unit: str
    reason: str
    occurred_at: str
    source_pseudonym: str


AnalyticsRecord: TypeAlias = (
    NormalizedReading | Aggregate | GatewayEvent | RejectedRecord | Gap | Conduct | Anomaly | StockAdjusted
)

STRUCTS: dict[EventType, type[AnalyticsRecord]] = {
    EventType.READING: NormalizedReading,
    EventType.AGGREGATE: Aggregate,
    EventType.GATEWAY_EVENT: GatewayEvent,
    EventType.REJECTED: RejectedRecord,
    EventType.GAP: Gap,
    EventType.CONDUCT: Conduct,
    EventType.ANOMALY: Anomaly,
    EventType.STOCK: StockAdjusted,
}
"""What each event type's value decodes to."""

_ENCODER = msgspec.json.Encoder()
_DECODERS: dict[str, "msgspec.json.Decoder[AnalyticsRecord]"] = {
    name: msgspec.json.Decoder(struct) for name, struct in STRUCTS.items()
}
_READING = msgspec.json.Decoder(NormalizedReading)


def encode(record: AnalyticsRecord) -> bytes:
    """The record's JSON."""
    return _ENCODER.encode(record)


def decode(event_type: str, value: bytes) -> AnalyticsRecord | Rejected | None:
    """The record of an event's value; None for a type that is not known here; why, if the bytes are none of it."""
    decoder = _DECODERS.get(event_type)
    if decoder is None:
        return None
    try:
        return decoder.decode(value)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        return Rejected(Reason.MALFORMED, f"not a {event_type}: {error}"[:200])


def decode_reading(value: bytes) -> NormalizedReading:
    """The fast way for consumers of `normalized`, after a look at ce_type. Raises msgspec.MsgspecError."""
    return _READING.decode(value)


def text_ms(text: str) -> int:
    """Epoch milliseconds of a time that `shared.envelope.rfc3339` wrote."""
    moment = datetime.fromisoformat(text)
    assert moment.tzinfo is not None
    return int(moment.timestamp()) * 1_000 + moment.microsecond // 1_000
