"""What a record of a batch must obey, though an agent of ours wrote it. PURE.

An agent is software on somebody's gateway: old, patched or taken over. So each record is judged by the same limits as
what a device sends straight to the hub.
"""

import re

import msgspec

from control_plane.analytics.event_time import LATEST_MS
from shared import limits
from shared.batch import AggregateRecord, EventRecord, ReadingRecord
from shared.envelope import rfc3339
from shared.errors import Reason, Rejected
from shared.reading import MetricValue, judge_field, parse_ts

EVENT_DATA_BYTES = limits.KEPT_OF_OVERSIZED_BYTES
"""The most that an event may have in its data, as JSON."""

_INT64 = 2**63
_DEEPER = 16  # levels of nesting and of calls that stand between here and where the event is encoded
_SKEW_MS = 10**15
_EVENT_NAME = re.compile(r"^[A-Za-z_][A-Za-z0-9_.-]{0,63}\Z")
_KNOWN_NAMES: dict[str, None] = {}
_KNOWN_NAMES_LIMIT = 10_000
_ENCODE = msgspec.json.Encoder().encode
_BAD_TIME = Rejected(Reason.BAD_FIELD, "the time of acceptance is none")


def judge_reading(record: ReadingRecord) -> Rejected | None:
    """Why this reading is refused, or None."""
    if not 0 <= record.at_ms <= LATEST_MS:
        return _BAD_TIME
    why = _judge_ts(record.ts_raw, record.ts_ms)
    if why is not None:
        return why
    why = judge_metrics(record.metrics)
    if why is not None:
        return why
    if record.status is not None and len(record.status) > limits.STRING_CHARS:
        return Rejected(Reason.BAD_FIELD, "status is not a short string")
    if record.seq is not None and not 0 <= record.seq < _INT64:
        return Rejected(Reason.BAD_FIELD, "seq is not a whole number from 0 to 2^63-1")
    if record.skew_ms is not None and not -_SKEW_MS < record.skew_ms < _SKEW_MS:
        return Rejected(Reason.BAD_FIELD, "the offset of the device's clock is none")
    score = record.score
    if score is not None and max(len(score.metric), len(score.reason)) > limits.STRING_CHARS:
        return Rejected(Reason.BAD_FIELD, "the verdict's words are too long")
    return None


def _judge_ts(ts_raw: str | float, ts_ms: int) -> Rejected | None:
    # Text in our own form is compared, which is faster than parsing it.
    if 0 <= ts_ms <= LATEST_MS and rfc3339(ts_ms) == ts_raw:
        return None
    parsed = parse_ts(ts_raw)
    if isinstance(parsed, Rejected):
        return parsed
    if parsed != ts_ms:
        return Rejected(Reason.BAD_TS, f"ts_ms {ts_ms} is not what the raw ts says ({parsed})")
    return None


def judge_metrics(metrics: dict[str, MetricValue]) -> Rejected | None:
    """Why these fields break the limits, or None."""
    if len(metrics) >= limits.READING_FIELDS:
        return Rejected(Reason.BAD_FIELD, f"{len(metrics) + 1} fields; at most {limits.READING_FIELDS}")
    for name, value in metrics.items():
        # JSON has no NaN and the decoder refuses what overflows: a float under a known name needs no second look.
        kind = type(value)
        if (kind is float or (kind is int and -_INT64 <= value < _INT64)) and name in _KNOWN_NAMES:  # type: ignore[operator]  # narrowed by type(), which is the fast way
            continue
        why = judge_field(name, value)
        if why is not None:
            return why
        if len(_KNOWN_NAMES) >= _KNOWN_NAMES_LIMIT:
            _KNOWN_NAMES.clear()
        _KNOWN_NAMES[name] = None
    return None


def judge_aggregate(record: AggregateRecord) -> Rejected | None:
    """Why this aggregate is refused, or None."""
    if not 0 <= record.at_ms <= LATEST_MS:
        return _BAD_TIME
    if not 0 <= record.from_ms <= record.to_ms <= LATEST_MS:
        return Rejected(Reason.BAD_TS, "an aggregate's times are none, or in the wrong order")
    if not 1 <= record.count < _INT64:
        return Rejected(Reason.BAD_FIELD, "an aggregate's count is none")
    # The mean of equal floats may differ from them in the last digit.
    slack = 1e-9 * max(abs(record.min), abs(record.max), 1e-300)
    if not record.min - slack <= record.mean <= record.max + slack:
        return Rejected(Reason.BAD_FIELD, "an aggregate's mean lies outside its minimum and maximum")
    return judge_field(record.metric, record.mean)


def judge_event(record: EventRecord) -> Rejected | None:
    """Why this event is refused, or None."""
    if not 0 <= record.at_ms <= LATEST_MS:
        return _BAD_TIME
    if _EVENT_NAME.match(record.name) is None:
        return Rejected(Reason.BAD_FIELD, "an event's name is not 1 to 64 of A-Z a-z 0-9 _ . -")
    nested: object = record.data
    for _ in range(_DEEPER):
        nested = [nested]
    try:
        size = len(_ENCODE(nested))
    except (RecursionError, ValueError, OverflowError):
        return Rejected(Reason.BAD_FIELD, "an event's data is nested too deep, or has a number beyond all sense")
    if size > EVENT_DATA_BYTES:
        return Rejected(Reason.BAD_FIELD, f"an event's data has {size} bytes; at most {EVENT_DATA_BYTES}")
    return None
