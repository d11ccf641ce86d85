"""A record of `raw`, its headers read once. PURE. Never fails: what is missing gets the value that judges it.

Replays of dead letters travel on the same topic. Only the hub writes `replay_of`: ingest copies the batch protocol's
properties and nothing else, so no device can.
"""

from typing import NamedTuple

import msgspec

from control_plane.analytics.event_time import LATEST_MS
from control_plane.analytics.job import Incoming
from control_plane.analytics.records import Origin, RawPlace
from shared import batch, envelope

BATCHES = "batches"
TELEMETRY = "telemetry"
REPLAY_OF, REPLAY_ORIGIN, REPLAY_RECEIVED = "replay_of", "replay_origin", "replay_received_ms"

_ORIGIN = msgspec.json.Decoder(Origin)


class Cut(NamedTuple):
    """Of a message that was too large only the beginning is here; this is the whole one's length and digest."""

    length: int
    sha256: str


class Replay(NamedTuple):
    """`of`: the rejected record's ce_id. `origin`: what that record said of where it came from."""

    of: str
    origin: Origin


class RawMessage(NamedTuple):
    """One message as ingest had it, or one dead letter that came back."""

    kind: str
    sender: str
    ce_id: str
    value: bytes
    received_ms: int
    content_type: str
    properties: dict[str, str]
    traceparent: str | None
    place: RawPlace
    cut: Cut | None
    headers_cut: bool
    throttled: bool
    ignored_hint: str | None
    replay: Replay | None


def read(record: Incoming) -> RawMessage:
    """The message in a record."""
    found = envelope.text_headers(record.headers)
    cut = None
    if "cut_length" in found:
        cut = Cut(_number(found["cut_length"], len(record.value)), found.get("cut_sha256", ""))
    replay = _replay(found)
    received = found.get(REPLAY_RECEIVED, found.get("received_ms")) if replay else found.get("received_ms")
    return RawMessage(
        kind=BATCHES if found.get("topic_kind") == BATCHES else TELEMETRY,
        sender=record.key.decode("utf-8", "replace"),
        ce_id=found.get("ce_id", f"{record.topic}:{record.partition}:{record.offset}"),
        value=record.value,
        received_ms=_number(received, record.timestamp_ms),
        content_type=found.get("content-type", envelope.JSON),
        properties={name: found[name] for name in batch.HEADER_NAMES if name in found},
        traceparent=batch.traceparent(found.get("traceparent")),
        place=RawPlace(record.topic, record.partition, record.offset),
        cut=cut,
        headers_cut="headers_cut" in found,
        throttled="throttled" in found,
        ignored_hint=found.get("hint_ignored"),
        replay=replay,
    )


def _replay(found: dict[str, str]) -> Replay | None:
    if REPLAY_OF not in found or REPLAY_ORIGIN not in found:
        return None
    try:
        return Replay(found[REPLAY_OF], _ORIGIN.decode(found[REPLAY_ORIGIN]))
    except msgspec.MsgspecError:
        return None


def _number(text: str | None, otherwise: int) -> int:
    if text is None or not text.isascii() or not text.isdigit() or len(text) > 15:
        return otherwise
    return min(int(text), LATEST_MS)
