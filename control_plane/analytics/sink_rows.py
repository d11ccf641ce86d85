"""Kafka events as rows of Postgres tables. PURE.

Promises: a row per event of a known type, its values in the order of the table's columns here and in forms that the
driver's binary COPY takes; whatever a device may send fits (Postgres text holds no NUL, so U+FFFD stands for it).
An event that cannot be read is `Rejected`; a type that has no table is None.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeAlias

import msgspec

from control_plane.analytics.records import (
    Aggregate,
    Anomaly,
    EventType,
    NormalizedReading,
    Score,
    decode,
    decode_reading,
)
from shared.errors import Reason, Rejected
from shared.reading import MetricValue

Row: TypeAlias = tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Table:
    """A table and the columns that a sink fills."""

    name: str
    columns: tuple[str, ...]


TELEMETRY = Table(
    "telemetry",
    (
        "ts", "received_at", "accepted_at", "device_id", "gateway_id", "lane", "seq", "status",
        "metrics", "clock", "skew_ms", "flags", "ts_raw", "score",
    ),
)  # fmt: skip
AGGREGATES = Table(
    "telemetry_aggregates",
    (
        "from_ts", "to_ts", "accepted_at", "received_at", "device_id", "gateway_id", "lane", "metric",
        "count", "min", "max", "mean",
    ),
)  # fmt: skip
ANOMALIES = Table(
    "anomalies",
    (
        "id", "ts", "device_id", "metric", "value", "score", "severity", "reason", "expected", "source", "episode_id",
    ),
)  # fmt: skip

_READING, _AGGREGATE, _ANOMALY = (
    event_type.value.encode() for event_type in (EventType.READING, EventType.AGGREGATE, EventType.ANOMALY)
)
_UNREADABLE = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)
_encode = msgspec.json.Encoder().encode
_moment = datetime.fromisoformat


def telemetry_row(event_type: bytes, ce_id: bytes, value: bytes) -> tuple[Table, Row] | Rejected | None:
    """The row of an event on `normalized`: a reading or an aggregate."""
    del ce_id
    if event_type == _READING:
        try:
            return TELEMETRY, _reading(decode_reading(value))
        except _UNREADABLE as error:
            return Rejected(Reason.MALFORMED, str(error)[:200])
    if event_type != _AGGREGATE:
        return None
    record = decode(EventType.AGGREGATE, value)
    if isinstance(record, Rejected):
        return record
    assert isinstance(record, Aggregate)
    return AGGREGATES, _aggregate(record)


def anomaly_row(event_type: bytes, ce_id: bytes, value: bytes) -> tuple[Table, Row] | Rejected | None:
    """The row of an event on `anomaly.detected`; its `ce_id` is the row's."""
    if event_type != _ANOMALY:
        return None
    record = decode(EventType.ANOMALY, value)
    if isinstance(record, Rejected):
        return record
    assert isinstance(record, Anomaly)
    return ANOMALIES, (
        ce_id.decode(),
        _moment(record.ts),
        record.device_id,
        record.metric,
        record.value,
        record.score,
        record.severity,
        _text(record.reason),
        record.expected,
        record.source,
        record.episode_id,
    )


def _reading(record: NormalizedReading) -> Row:
    quality = record.quality
    flags = quality.flags
    return (
        _moment(record.ts),
        _moment(record.received_at),
        None if record.accepted_at is None else _moment(record.accepted_at),
        record.device_id,
        record.gateway_id,
        record.lane,
        record.seq,
        None if record.status is None else _text(record.status),
        _metrics(record.metrics),
        quality.clock,
        quality.skew_ms,
        list(flags) if flags else None,
        _text(str(record.ts_raw)) if flags else None,
        None if record.score is None else _score(record.score),
    )


def _aggregate(record: Aggregate) -> Row:
    return (
        _moment(record.from_ts),
        _moment(record.to_ts),
        _moment(record.accepted_at),
        _moment(record.received_at),
        record.device_id,
        record.gateway_id,
        record.lane,
        _text(record.metric),
        record.count,
        record.min,
        record.max,
        record.mean,
    )


def _metrics(metrics: Mapping[str, MetricValue]) -> str:
    data = _encode(metrics)
    if b"\\u0000" in data:  # or the text "\u0000" itself, which passes unchanged
        data = _encode({_text(k): _text(v) if isinstance(v, str) else v for k, v in metrics.items()})
    return data.decode()


def _score(score: Score) -> str:
    return _encode(msgspec.structs.replace(score, reason=_text(score.reason), metric=_text(score.metric))).decode()


def _text(text: str) -> str:
    return text.replace("\0", "\ufffd")
