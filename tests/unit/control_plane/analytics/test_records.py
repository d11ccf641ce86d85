"""The records' JSON: what is written is read back equal, and valid by the published schema."""

import json
from pathlib import Path

import jsonschema
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from control_plane.analytics import records
from control_plane.analytics.records import (
    STRUCTS,
    Aggregate,
    Anomaly,
    Conduct,
    EventType,
    Flag,
    Gap,
    GapKind,
    GatewayEvent,
    Judge,
    Misconduct,
    NormalizedReading,
    Origin,
    Quality,
    RawPlace,
    RejectedRecord,
    Score,
    Severity,
    StockAdjusted,
    decode,
    encode,
    text_ms,
)
from shared.batch import ClockQuality, Lane
from shared.envelope import dataschema, rfc3339
from shared.errors import Reason, Rejected

AT = "2026-01-01T00:00:00.123Z"
SCHEMAS = Path(__file__).parents[4] / "shared" / "schemas"
FULL = {
    EventType.READING: NormalizedReading(
        device_id="d", device_type="t", gateway_id="g", ts=AT, ts_raw=1.5, received_at=AT, accepted_at=AT,
        metrics={"a": 1.5, "b": True, "c": "x", "d": 3}, status="OK", seq=0, lane=Lane.REPLAY,
        quality=Quality(ClockQuality.UNSYNCED, -5, tuple(Flag)), score=Score(1.0, "a", "level", 2.0),
    ),
    EventType.AGGREGATE: Aggregate(
        device_id="d", gateway_id="g", metric="a", from_ts=AT, to_ts=AT, count=2, min=0.0, max=1.0, mean=0.5,
        accepted_at=AT, received_at=AT, lane=Lane.LIVE, clock=ClockQuality.SYNCED,
    ),
    EventType.GATEWAY_EVENT: GatewayEvent(
        device_id="g", gateway_id="g", name="n", at=AT, received_at=AT, lane=Lane.LIVE, data={"a": [1, {"b": None}]}
    ),
    EventType.REJECTED: RejectedRecord(
        reason=Reason.BOMB, detail="x", payload_base64="AA==", length=1, sha256="0" * 64,
        origin=Origin(
            kind="batches", sender="g", record="record", received_at=AT, raw=RawPlace("t", 0, 1), content_type="c",
            device_id="d", accepted_at=AT, epoch="e" * 22, number=1, index=0, lane=Lane.LIVE,
            headers={"clock": "synced"},
        ),
    ),
    EventType.GAP: Gap(
        gateway_id="g", epoch="e" * 22, kind=GapKind.GAP, ranges=((1, 2), (4, 4)), count=3, noticed_at=AT
    ),
    EventType.CONDUCT: Conduct(
        device_id="d", gateway_id="g", kind=Misconduct.IGNORED_HINT, count=2, at=AT, hint="h"
    ),
    EventType.ANOMALY: Anomaly(
        device_id="d", metric="a", ts=AT, value=1.0, score=2.0, severity=Severity.WARNING, reason="r", expected=None,
        source=Judge.HUB, episode_id="e",
    ),
    EventType.STOCK: StockAdjusted(
        sku="s", location="l", delta=-1.5, unit="kg", reason="r", occurred_at=AT, source_pseudonym="p-" + "a" * 16
    ),
}  # fmt: skip
LEAST = {
    EventType.READING: NormalizedReading(
        device_id="d", ts=AT, ts_raw=AT, received_at=AT, metrics={}, lane=Lane.LIVE,
        quality=Quality(ClockQuality.SYNCED, None, ()),
    ),
    EventType.REJECTED: RejectedRecord(
        reason=Reason.MALFORMED, detail="", payload_base64="", length=0, sha256="",
        origin=Origin(
            kind="telemetry", sender="", record="message", received_at=AT, raw=RawPlace("t", 0, 0), content_type=""
        ),
    ),
}  # fmt: skip


def schema(event_type):
    return json.loads((SCHEMAS / f"{event_type}.json").read_text())


@pytest.mark.parametrize("event_type", EventType)
def test_each_type_is_read_back_equal_and_valid_by_its_schema(event_type):
    published = schema(event_type)
    jsonschema.Draft202012Validator.check_schema(published)
    assert published["$id"] == dataschema(event_type)
    for examples in (FULL, LEAST):
        if event_type in examples:
            record = examples[event_type]
            data = encode(record)
            jsonschema.Draft202012Validator(published).validate(json.loads(data))
            assert decode(event_type, data) == record


def promised(node):
    """Every name that a schema mentions, by path."""
    found = set()
    for name, inner in node.get("properties", {}).items():
        found |= {name} | {f"{name}.{deeper}" for deeper in promised(inner)}
    return found


def written(value):
    found = set()
    for name, inner in value.items():
        found.add(name)
        if isinstance(inner, dict):
            found |= {f"{name}.{deeper}" for deeper in written(inner)}
    return found


@pytest.mark.parametrize("event_type", EventType)
def test_schema_and_struct_name_the_same_fields(event_type):
    names = promised(schema(event_type))
    free = {"metrics", "data", "origin.headers"}
    seen = {
        name
        for name in written(json.loads(encode(FULL[event_type])))
        if not any(name.startswith(f"{prefix}.") for prefix in free)
    }
    assert seen == names


@pytest.mark.parametrize("event_type", EventType)
def test_what_the_schema_requires_the_least_record_has_and_null_is_never_written_for_absent(event_type):
    required = set(schema(event_type)["required"])
    fields = {field.encode_name: field for field in msgspec.structs.fields(STRUCTS[event_type])}
    assert required == {name for name, field in fields.items() if field.required}


def test_a_newer_writers_field_is_ignored_and_an_unknown_type_is_none():
    data = json.loads(encode(FULL[EventType.GAP])) | {"new": 1}
    assert decode(EventType.GAP, json.dumps(data).encode()) == FULL[EventType.GAP]
    assert decode("iot.telemetry.unheard.v9", b"{}") is None


def test_bytes_that_are_none_of_it_are_refused():
    for data in (b"", b"{}", b"\xff", b'{"gateway_id": 1}'):
        found = decode(EventType.GAP, data)
        assert isinstance(found, Rejected)
        assert found.reason == Reason.MALFORMED


@given(st.integers(0, 253_402_300_799_999))
def test_times_are_read_back(ms):
    assert text_ms(rfc3339(ms)) == ms


def test_the_fast_way_reads_the_same():
    data = encode(FULL[EventType.READING])
    assert records.decode_reading(data) == decode(EventType.READING, data)
