"""The batch protocol's words: records, header, packing, acknowledgements. PURE.

Who sends which batch when is `edge_agent.uplink`; who judges it is the hub's normaliser. Both speak through
here, so a header that `encode_header` wrote is read back equal by `decode_header`.

Wire: the payload is a JSON array of records, zlib-compressed (RFC 1950); the header travels as MQTT 5 user
properties and is copied by ingest into Kafka headers of the same names. A record is encoded once, when it is
accepted, and stored so; batches join stored records, which keeps a resend equal byte for byte.
"""

import re
import zlib
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from enum import StrEnum
from typing import Any

import msgspec

from shared import limits
from shared.errors import Reason, Rejected
from shared.ids import Epoch, is_epoch
from shared.reading import MetricValue, Verdict

CONTENT_TYPE = "application/vnd.bv-iot.batch.v1+json; compression=zlib"
SCHEMA = 1

HEADER_NAMES = (
    "schema", "epoch", "number", "floor", "closed", "void", "lane", "resent",
    "records", "ledger", "clock", "hint", "traceparent",
)  # fmt: skip
"""The user properties that ingest copies, and no others."""


class Lane(StrEnum):
    """`replay` if any row was accepted before the connection in which its batch was formed, else `live`."""

    LIVE = "live"
    REPLAY = "replay"


class ClockQuality(StrEnum):
    """How far the stamp of the acceptance can be trusted."""

    SYNCED = "synced"
    UNSYNCED = "unsynced"
    CORRECTED = "corrected"  # stamped unsynced, mended when the offset became known


class ReadingRecord(msgspec.Struct, frozen=True, array_like=True, tag="reading"):
    """A reading as the agent accepted it. `at_ms`: gateway's wall clock at acceptance, epoch ms.

    `skew_ms`: the device's clock minus the gateway's, as estimated at acceptance; None while unknown.
    """

    device: str
    at_ms: int
    ts_raw: str | int | float
    ts_ms: int
    metrics: dict[str, MetricValue]
    status: str | None
    seq: int | None
    clock: ClockQuality
    skew_ms: int | None
    score: Verdict | None = None
    traceparent: str | None = None


class AggregateRecord(msgspec.Struct, frozen=True, array_like=True, tag="aggregate"):
    """What thinning left of `count` readings of one metric, measured from `from_ms` to `to_ms`.

    Both are epoch ms of the gateway's clock, as is `at_ms` (the latest acceptance): a reading's `ts` less the offset
    of its device's clock, or its acceptance where that is unknown. `clock`: how far they can be trusted.
    """

    device: str
    at_ms: int
    metric: str
    from_ms: int
    to_ms: int
    count: int
    min: float
    max: float
    mean: float
    clock: ClockQuality | None = None


class EventRecord(msgspec.Struct, frozen=True, array_like=True, tag="event"):
    """Something that happened to the gateway or a device of its."""

    device: str
    at_ms: int
    name: str
    data: dict[str, Any]


class BytesRecord(msgspec.Struct, frozen=True, array_like=True, tag="bytes"):
    """What the agent could not parse, for the normaliser to judge. `length` and `sha256` are of the original.

    `payload` holds all of it, or its first 64 KiB (then `length` is larger).
    """

    device: str
    at_ms: int
    payload: bytes
    length: int
    sha256: str
    traceparent: str | None = None


Record = ReadingRecord | AggregateRecord | EventRecord | BytesRecord


class Header(msgspec.Struct, frozen=True, kw_only=True):
    """One batch's header.

    `floor`: lowest unacknowledged number of `epoch`. `closed`: epochs that will form no further batch and are
    all acknowledged, with their last number. `void`: (epoch, first, last) of numbers whose rows were lost to
    damage. `ledger`: JSON, per class [accepted, acked, waiting, thinned, expired, damaged]. `traceparent`: of the
    first sampled record.
    """

    epoch: Epoch
    number: int
    floor: int
    lane: Lane
    records: int
    resent: bool = False
    closed: tuple[tuple[Epoch, int], ...] = ()
    void: tuple[tuple[Epoch, int, int], ...] = ()
    ledger: str = ""
    clock: ClockQuality = ClockQuality.SYNCED
    hint: str | None = None
    traceparent: str | None = None


class Hint(msgspec.Struct, frozen=True):
    """The hub asks for at most `readings_per_s` (>= 1) in new batches for the next `for_s` seconds."""

    id: str
    readings_per_s: float
    for_s: float


class Ack(msgspec.Struct, frozen=True, omit_defaults=True):
    """Batches that Kafka has, by epoch; a flow hint while one holds."""

    acks: dict[str, list[int]]
    hint: Hint | None = None


_ACK = msgspec.json.Decoder(Ack)
_ONE = msgspec.json.Decoder(Record)
_MANY = msgspec.json.Decoder(list[Record])
_RAWS = msgspec.json.Decoder(list[msgspec.Raw])
_ENCODER = msgspec.json.Encoder()
_NUMBER = re.compile(r"^(0|[1-9][0-9]{0,17})\Z")
_TRACE_AT_END = re.compile(rb'"(00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2})"\]\Z')
_TRACE_END_BYTES = 58  # a quoted traceparent and the bracket
_TRACEPARENT = re.compile(r"^00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}\Z")


def encode_record(record: Record) -> bytes:
    """The record's bytes for ever: stored in the outbox, joined into batches."""
    return _ENCODER.encode(record)


def decode_record(data: bytes) -> Record | Rejected:
    """The record of these bytes, or why they are none."""
    try:
        record: Record = _ONE.decode(data)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        return Rejected(Reason.MALFORMED, f"not a record: {error}"[:200])
    return record


def pack(records: Sequence[bytes]) -> bytes | None:
    """The payload of these encoded records, or None if it would break a limit (then take fewer)."""
    assert 0 < len(records) <= limits.BATCH_RECORDS
    if sum(map(len, records)) + len(records) + 1 > limits.BATCH_UNPACKED_BYTES:
        return None
    packed = zlib.compress(b"[" + b",".join(records) + b"]", 1)
    return packed if len(packed) <= limits.BATCH_PACKED_BYTES else None


def unpack(payload: bytes) -> bytes | Rejected:
    """The JSON array of a payload, never more than 4 MiB of it; damage, excess and trailing bytes are refused."""
    inflater = zlib.decompressobj()
    try:
        unpacked = inflater.decompress(payload, limits.BATCH_UNPACKED_BYTES + 1)
    except zlib.error as error:
        return Rejected(Reason.TRUNCATED, f"not a zlib stream: {error}"[:200])
    if len(unpacked) > limits.BATCH_UNPACKED_BYTES:
        return Rejected(Reason.BOMB, f"unpacks to more than {limits.BATCH_UNPACKED_BYTES} bytes")
    if not inflater.eof:
        return Rejected(Reason.TRUNCATED, "the compressed stream ends early")
    if inflater.unused_data:
        return Rejected(Reason.MALFORMED, "bytes follow the compressed stream")
    return unpacked


def decode_records(unpacked: bytes) -> list[Record | tuple[Rejected, bytes]] | Rejected:
    """The records, each that is none as (why, its bytes) in its place; or why the whole is no array."""
    with suppress(msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return list(_MANY.decode(unpacked))
    # One bad record spoils the fast way: judge each alone.
    try:
        raws = _RAWS.decode(unpacked)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        return Rejected(Reason.MALFORMED, f"not a JSON array: {error}"[:200])
    judged: list[Record | tuple[Rejected, bytes]] = []
    for raw in raws:
        record = decode_record(bytes(raw))
        judged.append((record, bytes(raw)) if isinstance(record, Rejected) else record)
    return judged


def encode_header(header: Header) -> list[tuple[str, str]]:
    """The user properties. Lists are cut, oldest kept, to what one property may hold; the rest follows later."""
    pairs = [
        ("schema", str(SCHEMA)),
        ("epoch", header.epoch),
        ("number", str(header.number)),
        ("floor", str(header.floor)),
        ("lane", header.lane.value),
        ("records", str(header.records)),
        ("clock", header.clock.value),
    ]
    if header.resent:
        pairs.append(("resent", "1"))
    closed = header.closed[: listed_closed(header.closed)]
    if closed:
        pairs.append(("closed", ",".join(f"{epoch}:{last}" for epoch, last in closed)))
    void = header.void[: listed_void(header.void)]
    if void:
        pairs.append(("void", ",".join(f"{epoch}:{first}-{last}" for epoch, first, last in void)))
    for name, value in (
        ("ledger", header.ledger),
        ("hint", header.hint),
        ("traceparent", header.traceparent),
    ):
        if value:
            pairs.append((name, value))
    return pairs


def listed_closed(closed: Sequence[tuple[Epoch, int]]) -> int:
    """How many of these, from the first, one header lists: only they are acknowledged by its batch."""
    return _fitting((f"{epoch}:{last}" for epoch, last in closed[: limits.CLOSED_EPOCHS]))


def listed_void(void: Sequence[tuple[Epoch, int, int]]) -> int:
    """How many of these, from the first, one header lists."""
    return _fitting(f"{epoch}:{first}-{last}" for epoch, first, last in void)


def _fitting(items: Iterable[str]) -> int:
    used = -1
    count = 0
    for item in items:
        used += len(item) + 1
        if used > limits.HEADER_VALUE_BYTES:
            break
        count += 1
    return count


def decode_header(properties: Mapping[str, str]) -> Header | Rejected:
    """The header, or why it is none: schema_version for a version unknown here, else protocol."""
    if properties.get("schema") != str(SCHEMA):
        version = properties.get("schema", "absent")[:20]
        return Rejected(Reason.SCHEMA_VERSION, f"batch schema {version!r}; this hub knows {SCHEMA}")
    try:
        header = Header(
            epoch=_epoch(properties.get("epoch", "")),
            number=_number(properties.get("number", "")),
            floor=_number(properties.get("floor", "")),
            lane=Lane(properties.get("lane", "")),
            records=_number(properties.get("records", "")),
            resent=properties.get("resent") == "1",
            closed=tuple(map(_closed, _items(properties.get("closed")))),
            void=tuple(map(_void, _items(properties.get("void")))),
            ledger=properties.get("ledger", ""),
            clock=ClockQuality(properties.get("clock", ClockQuality.SYNCED)),
            hint=properties.get("hint"),
            traceparent=traceparent(properties.get("traceparent")),
        )
    except ValueError as error:
        return Rejected(Reason.PROTOCOL, f"batch header: {error}"[:200])
    if not 1 <= header.floor <= header.number < header.floor + limits.WINDOW_NUMBERS:
        return Rejected(Reason.PROTOCOL, f"number {header.number} does not fit floor {header.floor}")
    if len(header.closed) > limits.CLOSED_EPOCHS:
        return Rejected(Reason.PROTOCOL, f"lists {len(header.closed)} closed epochs")
    if not 1 <= header.records <= limits.BATCH_RECORDS:
        return Rejected(Reason.PROTOCOL, f"claims {header.records} records")
    return header


def traceparent(value: str | None) -> str | None:
    """The value if it is a W3C traceparent of version 00, else None: a bad one is left out, never refused."""
    return value if value is not None and _TRACEPARENT.match(value) else None


def sampled_trace(record: bytes) -> str | None:
    """The traceparent of an encoded record, if it bears one that is sampled; looks at its end only."""
    found = _TRACE_AT_END.search(record[-_TRACE_END_BYTES:]) if record.endswith(b'"]') else None
    return found[1].decode() if found is not None and int(found[1][-2:], 16) & 1 else None


def encode_ack(ack: Ack) -> bytes:
    """The payload for the acks topic."""
    return _ENCODER.encode(ack)


def decode_ack(payload: bytes) -> Ack | Rejected:
    """The acknowledgement, or why it is none."""
    try:
        return _ACK.decode(payload)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        return Rejected(Reason.MALFORMED, f"not an acknowledgement: {error}"[:200])


def _items(value: str | None) -> list[str]:
    return value.split(",") if value else []


def _number(text: str) -> int:
    if _NUMBER.match(text) is None:
        raise ValueError(f"{text[:24]!r} is no number")
    return int(text)


def _epoch(text: str) -> Epoch:
    if not is_epoch(text):
        raise ValueError(f"{text[:24]!r} is no epoch")
    return Epoch(text)


def _closed(item: str) -> tuple[Epoch, int]:
    epoch, _, last = item.partition(":")
    return _epoch(epoch), _number(last)


def _void(item: str) -> tuple[Epoch, int, int]:
    epoch, _, numbers = item.partition(":")
    first, _, last = numbers.partition("-")
    span = (_epoch(epoch), _number(first), _number(last))
    if not 1 <= span[1] <= span[2]:
        raise ValueError(f"{item[:60]!r} is no range")
    return span
