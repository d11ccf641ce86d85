"""The rejected record: what was refused, why, and all that a later replay needs. PURE."""

import base64
import hashlib
from dataclasses import dataclass
from typing import NamedTuple

from control_plane.analytics.job import Output, output
from control_plane.analytics.raw_message import BATCHES, TELEMETRY, Cut, RawMessage
from control_plane.analytics.records import EventType, Origin, RejectedRecord
from shared import limits
from shared.batch import Lane
from shared.envelope import rfc3339
from shared.errors import Reason, Rejected
from shared.ids import is_device_id
from shared.limits import KEPT_OF_OVERSIZED_BYTES, PAYLOAD_BYTES
from shared.topics import Kafka

SOURCE = "/analytics/normalizer"

MESSAGE, RECORD, READING = "message", "record", "reading"
"""What the payload of a rejected record is: the whole message as it was sent; one encoded record of a batch; one
object (or several) as a device wrote it."""


_ID_CHARS = 64
_DETAIL_CHARS = 400
_TEXT_CHARS = limits.HEADER_VALUE_BYTES
_INT64_MAX = 2**63 - 1


@dataclass(frozen=True, slots=True)
class Part:
    """Which part of a message is meant, where it is not the whole."""

    form: str
    device_id: str | None
    accepted_ms: int | None = None
    index: int | None = None
    traceparent: str | None = None
    """Its own: that of its batch is one of its records'."""


WHOLE = Part(MESSAGE, None)
_TOO_LARGE = Rejected(Reason.TOO_LARGE, "what the hub made of it is larger than Kafka takes; its beginning is kept")


class BatchPlace(NamedTuple):
    """Which batch a part belongs to."""

    epoch: str
    number: int


def refuse(
    message: RawMessage,
    why: Rejected,
    payload: bytes,
    ce_id: str,
    *,
    part: Part = WHOLE,
    lane: Lane | None = None,
    batch: BatchPlace | None = None,
    cut: Cut | None = None,
) -> Output:
    """The record for `rejected`, keyed by the device it claims to be of, else by its sender.

    `cut`: the original's length and digest, where `payload` is only its beginning. A part may be larger than any
    message (a batch unpacks to megabytes): beyond the largest payload it is cut here, so that the record fits Kafka.
    Every other text that a sender chose is shortened for the same reason.
    """
    if len(payload) > PAYLOAD_BYTES:
        cut = cut or Cut(len(payload), hashlib.sha256(payload).hexdigest())
        payload = payload[:KEPT_OF_OVERSIZED_BYTES]
    received_at = rfc3339(message.received_ms)
    detail = why.detail
    if message.headers_cut:
        detail += "; some of its properties were over the limits and left out"
    record = RejectedRecord(
        reason=why.reason,
        detail=_short(detail, _DETAIL_CHARS),
        origin=Origin(
            kind=message.kind,
            sender=message.sender,
            record=part.form,
            received_at=received_at,
            raw=message.place,
            content_type=_short(message.content_type, _TEXT_CHARS),
            device_id=_own(message) if part.device_id is None else _short(part.device_id, _ID_CHARS),
            accepted_at=None if part.accepted_ms is None else rfc3339(part.accepted_ms),
            epoch=batch.epoch if batch else None,
            number=batch.number if batch else None,
            index=part.index,
            lane=lane,
            headers=_kept(message, part),
        ),
        payload_base64=base64.b64encode(payload).decode(),
        length=len(payload) if cut is None else min(cut.length, _INT64_MAX),
        sha256=hashlib.sha256(payload).hexdigest() if cut is None else _short(cut.sha256, _ID_CHARS),
    )
    subject = part.device_id if part.device_id is not None and is_device_id(part.device_id) else message.sender
    return output(
        Kafka.REJECTED,
        EventType.REJECTED,
        source=SOURCE,
        ce_id=ce_id,
        subject=subject,
        time=received_at,
        record=record,
        traceparent=part.traceparent if message.kind == BATCHES and part is not WHOLE else message.traceparent,
    )


def instead_of(message: RawMessage, too_large: Output) -> Output:
    """What is written where an output turned out to be larger than Kafka takes: its beginning, under its own id.

    The last net: no input is known that leads here. The message itself stands in `raw`, at the place that is named.
    """
    ce_id = next((value for name, value in too_large.headers if name == "ce_id"), b"")
    kept = too_large.value[:KEPT_OF_OVERSIZED_BYTES]
    # Longer than what is kept in any case: of a part there is nothing that a replay could judge.
    cut = Cut(max(len(too_large.value), len(kept) + 1), hashlib.sha256(too_large.value).hexdigest())
    text = _short(ce_id.decode("utf-8", "replace"), _TEXT_CHARS)
    return refuse(message, _TOO_LARGE, kept, text, part=Part(RECORD, None), cut=cut)


def _kept(message: RawMessage, part: Part) -> dict[str, str]:
    """Of a part only the gateway's clock matters to a replay."""
    if message.kind != BATCHES or part.form == MESSAGE:
        return {name: _short(value, _TEXT_CHARS) for name, value in message.properties.items()}
    return {name: _short(value, _TEXT_CHARS) for name, value in message.properties.items() if name == "clock"}


def _short(text: str, limit: int) -> str:
    """The text, or its beginning with an ellipsis, which no id and no header of ours contains."""
    return text if len(text) <= limit else text[:limit] + "…"


def _own(message: RawMessage) -> str | None:
    return message.sender if message.kind == TELEMETRY else None
