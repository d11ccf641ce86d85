"""The shared envelope: CloudEvents 1.0 in Kafka binary mode. PURE.

Source: CloudEvents "Kafka Protocol Binding" 1.0.2, binary content mode: attributes are headers with the prefix
`ce_`, the data is the record's value, its media type the header `content-type`. `traceparent` (W3C Trace
Context) travels as a header of that name.
"""

import functools
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import NamedTuple

JSON = "application/json"


class Envelope(NamedTuple):
    """One event's attributes. `id` is made from what identifies the event, so a repeat has the same one."""

    id: str
    type: str
    source: str
    time_ms: int
    subject: str
    content_type: str = JSON
    dataschema: str | None = None
    traceparent: str | None = None


def headers(envelope: Envelope) -> list[tuple[str, bytes]]:
    """Kafka headers of an envelope, in a fixed order."""
    pairs = [
        ("ce_specversion", b"1.0"),
        ("ce_id", envelope.id.encode()),
        ("ce_source", envelope.source.encode()),
        ("ce_type", envelope.type.encode()),
        ("ce_time", rfc3339(envelope.time_ms).encode()),
        ("ce_subject", envelope.subject.encode()),
        ("content-type", envelope.content_type.encode()),
    ]
    if envelope.dataschema is not None:
        pairs.append(("ce_dataschema", envelope.dataschema.encode()))
    if envelope.traceparent is not None:
        pairs.append(("traceparent", envelope.traceparent.encode()))
    return pairs


def text_headers(pairs: Iterable[tuple[str, bytes | None]]) -> dict[str, str]:
    """Headers as text, the last of equal names kept; bytes that are no UTF-8 are replaced, never refused."""
    return {name: value.decode("utf-8", "replace") for name, value in pairs if value is not None}


def rfc3339(ms: int) -> str:
    """Epoch milliseconds as `2026-01-01T00:00:00.000Z`."""
    seconds, rest = divmod(ms, 1_000)
    return _to_the_second(seconds) + _MILLISECONDS[rest]


_MILLISECONDS = tuple(f".{rest:03d}Z" for rest in range(1_000))


@functools.lru_cache(maxsize=4096)  # the hot paths stamp thousands of times a second, mostly the same one
def _to_the_second(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat()[:19]


def dataschema(event_type: str) -> str:
    """Where the hub publishes an event type's JSON Schema, relative to its REST address."""
    return f"/schemas/{event_type}.json"
