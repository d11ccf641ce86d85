"""What a sensor said, once: parsing a device's JSON under stated limits. PURE.

One payload is a JSON object or an array of objects. Each object is judged alone: `parse_payload` yields, per
object and in order, a `Reading` or a `Refused` that holds the object's own bytes, so that one bad reading
never takes its neighbours with it. Receive time, clock quality and skew are other modules' business.
"""

import math
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import msgspec

from shared import limits
from shared.errors import Reason, Rejected

MetricValue = float | int | bool | str
"""A field's value: number, boolean or short string."""

_FIELD = re.compile(r"^[A-Za-z_][A-Za-z0-9_.-]{0,63}\Z")
_RFC3339 = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt ][0-9]{2}:[0-9]{2}:[0-9]{2}(?:\.[0-9]+)?([Zz]|[+-][0-9]{2}:[0-9]{2})?\Z"
)
_NOT_RFC3339 = "ts is not RFC 3339, such as 2026-01-01T00:00:00Z"
_YEAR_10000_MS = 253_402_300_800_000
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_RAW_ARRAY = msgspec.json.Decoder(list[msgspec.Raw])
_OBJECT = msgspec.json.Decoder(dict[str, Any])
_INT64 = 2**63
_NOT_FINITE_LITERAL = re.compile(rb"[:,\[]\s*-?(?:NaN|Infinity|inf)\b", re.IGNORECASE)


class Verdict(msgspec.Struct, frozen=True, array_like=True):
    """What a detector said of a reading: `value` is its score, `reason` names the stream that spoke."""

    value: float
    metric: str
    reason: str
    expected: float | None = None


class Reading(msgspec.Struct, frozen=True):
    """One object that a device sent. `ts_raw` is what it wrote; `ts_ms` is that in epoch milliseconds UTC."""

    ts_raw: str | int | float
    ts_ms: int
    metrics: dict[str, MetricValue]
    status: str | None = None
    seq: int | None = None


class Refused(msgspec.Struct, frozen=True):
    """One object (or a whole payload) that is no reading, with its own bytes."""

    why: Rejected
    raw: bytes


def parse_payload(payload: bytes) -> Iterator[Reading | Refused]:
    """Readings and refusals of one message, in order. Never raises on any bytes; an empty array yields nothing."""
    head = payload.lstrip(b" \t\r\n")[:1]
    if head != b"[":
        yield _parse_object(payload)
        return
    try:
        items = _RAW_ARRAY.decode(payload)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        yield Refused(_undecodable(payload, error), payload)
        return
    if len(items) > limits.READINGS_PER_MESSAGE:
        detail = f"{len(items)} readings in one message; at most {limits.READINGS_PER_MESSAGE}"
        yield Refused(Rejected(Reason.TOO_LARGE, detail), payload)
        return
    for item in items:
        yield _parse_object(bytes(item))


def parse_ts(value: object) -> int | Rejected:
    """Epoch milliseconds of an RFC 3339 string with offset, or of a number of milliseconds.

    Any parsable time is accepted, however implausible (1970, 2099): judging it is the normaliser's part.
    """
    if isinstance(value, str):
        return _parse_rfc3339(value)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return Rejected(Reason.BAD_TS, "ts is RFC 3339 text or a number of epoch milliseconds")
    if isinstance(value, float) and not math.isfinite(value):
        return Rejected(Reason.BAD_TS, "ts is not finite")
    if not 0 <= value < _YEAR_10000_MS:
        return Rejected(Reason.BAD_TS, "ts in epoch milliseconds lies outside the years 1970 to 9999")
    return int(value)


def _parse_rfc3339(text: str) -> int | Rejected:
    if len(text) > 40:
        return Rejected(Reason.BAD_TS, "ts is longer than any RFC 3339 time")
    # fromisoformat also takes forms that RFC 3339 does not: week dates, no seconds, seconds in the offset.
    found = _RFC3339.match(text)
    if found is None:
        return Rejected(Reason.BAD_TS, _NOT_RFC3339)
    if found[1] is None:
        return Rejected(Reason.BAD_TS, "ts has no offset; write Z or +hh:mm")
    try:
        moment = datetime.fromisoformat(text.upper())
    except ValueError:  # no such day or hour; a leap second too, which epoch milliseconds cannot say
        return Rejected(Reason.BAD_TS, _NOT_RFC3339)
    delta = moment - _EPOCH
    ms = (delta.days * 86_400 + delta.seconds) * 1_000 + delta.microseconds // 1_000
    if not 0 <= ms < _YEAR_10000_MS:  # its offset may carry a time of 9999 beyond
        return Rejected(Reason.BAD_TS, "ts lies outside the years 1970 to 9999")
    return ms


def _parse_object(raw: bytes) -> Reading | Refused:
    try:
        fields = _OBJECT.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        return Refused(_undecodable(raw, error), raw)
    if "ts" not in fields:
        return Refused(Rejected(Reason.MISSING_TS, "the reading has no ts"), raw)
    if len(fields) > limits.READING_FIELDS:
        detail = f"{len(fields)} fields; at most {limits.READING_FIELDS}"
        return Refused(Rejected(Reason.BAD_FIELD, detail), raw)
    ts_raw = fields.pop("ts")
    ts_ms = parse_ts(ts_raw)
    if isinstance(ts_ms, Rejected):
        return Refused(ts_ms, raw)
    status = fields.pop("status", None)
    if status is not None and (not isinstance(status, str) or len(status) > limits.STRING_CHARS):
        return Refused(Rejected(Reason.BAD_FIELD, "status is not a short string"), raw)
    seq = fields.pop("seq", None)
    if seq is not None and (isinstance(seq, bool) or not isinstance(seq, int) or not 0 <= seq < _INT64):
        return Refused(Rejected(Reason.BAD_FIELD, "seq is not a whole number from 0 to 2^63-1"), raw)
    for name, value in fields.items():
        why = judge_field(name, value)
        if why is not None:
            return Refused(why, raw)
    return Reading(ts_raw, ts_ms, fields, status, seq)


def judge_field(name: str, value: object) -> Rejected | None:
    """Why a field of a reading breaks the limits, or None if it does not."""
    kind = type(value)
    if kind is float:
        if not math.isfinite(value):  # type: ignore[arg-type]  # narrowed by type(), which is the fast way
            return Rejected(Reason.NOT_FINITE, "a number is not finite")
    elif kind is int:
        if not -_INT64 <= value < _INT64:  # type: ignore[operator]  # as above
            return Rejected(Reason.BAD_FIELD, "a whole number does not fit 64 bits")
    elif kind is str:
        if len(value) > limits.STRING_CHARS:  # type: ignore[arg-type]  # as above
            return Rejected(Reason.BAD_FIELD, f"a string is longer than {limits.STRING_CHARS} characters")
    elif kind is not bool:
        return Rejected(Reason.BAD_FIELD, "a field is neither a number, a boolean nor a string")
    if _FIELD.match(name) is None:
        return Rejected(
            Reason.BAD_FIELD,
            f"a field's name is not 1 to {limits.FIELD_NAME_CHARS} of A-Z a-z 0-9 _ . - (first a letter or _)",
        )
    return None


def _undecodable(raw: bytes, error: Exception) -> Rejected:
    """Python and JavaScript writers emit NaN and Infinity, which JSON has not: say so instead of 'malformed'."""
    message = str(error)
    if _NOT_FINITE_LITERAL.search(raw[: limits.KIB * 64]) or "out of range" in message:
        return Rejected(Reason.NOT_FINITE, "NaN and infinities are not JSON; leave such a field out")
    return Rejected(Reason.MALFORMED, f"not a JSON object or array of objects: {message}"[:200])
