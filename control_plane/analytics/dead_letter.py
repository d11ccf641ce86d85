"""The way back: from a rejected record to the raw record that has it judged again. PURE."""

import base64
from typing import NamedTuple

import msgspec

from control_plane.analytics.job import Headers
from control_plane.analytics.raw_message import REPLAY_OF, REPLAY_ORIGIN, REPLAY_RECEIVED
from control_plane.analytics.records import RAW_TYPE, RejectedRecord, text_ms
from shared import envelope
from shared.envelope import Envelope

SOURCE = "/deadletters"


class RawRecord(NamedTuple):
    """What is to be written to `raw`."""

    key: bytes
    value: bytes
    headers: Headers


def payload(record: RejectedRecord) -> bytes:
    """What is kept of the original's bytes."""
    return base64.b64decode(record.payload_base64)


def was_cut(record: RejectedRecord) -> bool:
    """True if only the beginning of the original is kept; then it cannot be replayed."""
    try:
        return record.length > len(payload(record))
    except ValueError:
        return True


def replay(ce_id: str, record: RejectedRecord) -> RawRecord:
    """The record by which this dead letter comes back: judged as of its own sender and time, and known by its ce_id.

    It must not be one that was cut.
    """
    assert not was_cut(record)
    origin = record.origin
    received = str(text_ms(origin.received_at)).encode()
    event = Envelope(
        id=ce_id,
        type=RAW_TYPE,
        source=SOURCE,
        time_ms=text_ms(origin.received_at),
        subject=origin.sender,
        content_type=origin.content_type,
    )
    headers = [
        *envelope.headers(event),
        ("received_ms", received),
        ("topic_kind", origin.kind.encode()),
        *((name, value.encode()) for name, value in origin.headers.items()),
        (REPLAY_OF, ce_id.encode()),
        (REPLAY_RECEIVED, received),
        (REPLAY_ORIGIN, msgspec.json.encode(origin)),
    ]
    return RawRecord(origin.sender.encode(), payload(record), headers)
