"""The rejected record: what was refused, why, and all that a later replay needs. PURE."""

import base64
import hashlib
from dataclasses import dataclass
from typing import NamedTuple

from control_plane.analytics.job import Output, output
from control_plane.analytics.raw_message import BATCHES, TELEMETRY, Cut, RawMessage
from control_plane.analytics.records import EventType, Origin, RejectedRecord
from shared.batch import Lane
from shared.envelope import rfc3339
from shared.errors import Rejected
from shared.ids import is_device_id
from shared.topics import Kafka

SOURCE = "/analytics/normalizer"

MESSAGE, RECORD, READING = "message", "record", "reading"
"""What the payload of a rejected record is: the whole message as it was sent; one encoded record of a batch; one
object (or several) as a device wrote it."""


@dataclass(frozen=True, slots=True)
class Part:
    """Which part of a message is meant, where it is not the whole."""

    form: str
    device_id: str | None
    accepted_ms: int | None = None
    index: int | None = None


WHOLE = Part(MESSAGE, None)


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

    `cut`: the original's length and digest, where `payload` is only its beginning.
    """
    received_at = rfc3339(message.received_ms)
    detail = why.detail
    if message.headers_cut:
        detail += "; some of its properties were over the limits and left out"
    record = RejectedRecord(
        reason=why.reason,
        detail=detail,
        origin=Origin(
            kind=message.kind,
            sender=message.sender,
            record=part.form,
            received_at=received_at,
            raw=message.place,
            content_type=message.content_type,
            device_id=part.device_id if part.device_id is not None else _own(message),
            accepted_at=None if part.accepted_ms is None else rfc3339(part.accepted_ms),
            epoch=batch.epoch if batch else None,
            number=batch.number if batch else None,
            index=part.index,
            lane=lane,
            headers=_kept(message, part),
        ),
        payload_base64=base64.b64encode(payload).decode(),
        length=len(payload) if cut is None else cut.length,
        sha256=hashlib.sha256(payload).hexdigest() if cut is None else cut.sha256,
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
        traceparent=message.traceparent,
    )


def _kept(message: RawMessage, part: Part) -> dict[str, str]:
    """Of a part only the gateway's clock matters to a replay."""
    if message.kind != BATCHES or part.form == MESSAGE:
        return message.properties
    return {name: value for name, value in message.properties.items() if name == "clock"}


def _own(message: RawMessage) -> str | None:
    return message.sender if message.kind == TELEMETRY else None
