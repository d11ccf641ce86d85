"""Events as rows."""

from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest

from control_plane.analytics import sink_rows
from control_plane.analytics.records import (
    Aggregate,
    Anomaly,
    EventType,
    Flag,
    Judge,
    NormalizedReading,
    Quality,
    Score,
    Severity,
    encode,
)
from shared.batch import ClockQuality, Lane
from shared.errors import Rejected

AT = "2026-01-01T00:00:00.123Z"
MOMENT = datetime(2026, 1, 1, microsecond=123_000, tzinfo=UTC)
READING = EventType.READING.value.encode()


def reading(**changes: Any) -> NormalizedReading:
    facts: dict[str, Any] = {
        "device_id": "dev-1", "ts": AT, "ts_raw": "1970-01-01T00:00:00Z", "received_at": AT, "lane": Lane.LIVE,
        "metrics": {"temperature": 20.5}, "quality": Quality(ClockQuality.SYNCED, 12, ()),
    }  # fmt: skip
    return NormalizedReading(**(facts | changes))


def row(record: NormalizedReading) -> dict[str, Any]:
    found = sink_rows.telemetry_row(READING, b"x", encode(record))
    assert isinstance(found, tuple)
    table, values = found
    assert table is sink_rows.TELEMETRY
    return dict(zip(table.columns, values, strict=True))


def test_a_readings_columns() -> None:
    found = row(reading(gateway_id="gw-1", accepted_at=AT, seq=4, status="OK", lane=Lane.REPLAY))
    assert found == {
        "ts": MOMENT, "received_at": MOMENT, "accepted_at": MOMENT, "device_id": "dev-1", "gateway_id": "gw-1",
        "lane": "replay", "seq": 4, "status": "OK", "metrics": '{"temperature":20.5}', "clock": "synced",
        "skew_ms": 12, "flags": None, "ts_raw": None, "score": None,
    }  # fmt: skip


def test_what_is_absent_is_null() -> None:
    found = row(reading())
    assert [found[name] for name in ("accepted_at", "gateway_id", "seq", "status", "score")] == [None] * 5


def test_a_mended_time_keeps_what_the_device_wrote() -> None:
    found = row(reading(quality=Quality(ClockQuality.SYNCED, None, (Flag.TS_IMPLAUSIBLE, Flag.DRIFT))))
    assert found["flags"] == ["ts_implausible", "drift"]
    assert found["ts_raw"] == "1970-01-01T00:00:00Z"


def test_the_edges_verdict_is_kept() -> None:
    found = row(reading(score=Score(value=4.5, metric="temperature", reason="a\0b", expected=20.0)))
    assert msgspec.json.decode(found["score"]) == {
        "value": 4.5, "metric": "temperature", "reason": "a\ufffdb", "expected": 20.0,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("text", "stored"),
    [("a\0b", "a\ufffdb"), ("a\\u0000b", "a\\u0000b"), ("\0\\u0000", "\ufffd\\u0000"), ("plain", "plain")],
)
def test_postgres_takes_any_text(text: str, stored: str) -> None:
    found = row(reading(metrics={"mode": text, "on": True, "n": 7}, status=text))
    assert msgspec.json.decode(found["metrics"]) == {"mode": stored, "on": True, "n": 7}
    assert found["status"] == stored


def test_an_aggregates_columns() -> None:
    record = Aggregate(
        device_id="dev-1", gateway_id="gw-1", metric="temperature", from_ts=AT, to_ts=AT, count=7, min=1.0, max=3.0,
        mean=2.0, accepted_at=AT, received_at=AT, lane=Lane.LIVE,
    )  # fmt: skip
    found = sink_rows.telemetry_row(EventType.AGGREGATE.value.encode(), b"x", encode(record))
    assert isinstance(found, tuple)
    table, values = found
    assert table is sink_rows.AGGREGATES
    assert dict(zip(table.columns, values, strict=True)) == {
        "from_ts": MOMENT, "to_ts": MOMENT, "accepted_at": MOMENT, "received_at": MOMENT, "device_id": "dev-1",
        "gateway_id": "gw-1", "lane": "live", "metric": "temperature", "count": 7, "min": 1.0, "max": 3.0,
        "mean": 2.0,
    }  # fmt: skip


def test_an_anomalys_columns() -> None:
    record = Anomaly(
        device_id="dev-1", metric="temperature", ts=AT, value=80.0, score=12.0, severity=Severity.WARNING,
        reason="jump", expected=None, source=Judge.EDGE, episode_id="e",
    )  # fmt: skip
    found = sink_rows.anomaly_row(EventType.ANOMALY.value.encode(), b"e:0", encode(record))
    assert isinstance(found, tuple)
    table, values = found
    assert dict(zip(table.columns, values, strict=True)) == {
        "id": "e:0", "ts": MOMENT, "device_id": "dev-1", "metric": "temperature", "value": 80.0, "score": 12.0,
        "severity": "warning", "reason": "jump", "expected": None, "source": "edge", "episode_id": "e",
    }  # fmt: skip


@pytest.mark.parametrize("kind", [EventType.GATEWAY_EVENT.value.encode(), b"", b"some.thing.else.v1"])
def test_other_types_have_no_table(kind: bytes) -> None:
    assert sink_rows.telemetry_row(kind, b"x", b"{}") is None
    assert sink_rows.anomaly_row(kind, b"x", b"{}") is None


@pytest.mark.parametrize("value", [b"", b"{}", b"\xff", b'{"device_id": 7}'])
def test_what_is_none_of_its_type_is_rejected(value: bytes) -> None:
    assert isinstance(sink_rows.telemetry_row(READING, b"x", value), Rejected)
    assert isinstance(sink_rows.telemetry_row(EventType.AGGREGATE.value.encode(), b"x", value), Rejected)
    assert isinstance(sink_rows.anomaly_row(EventType.ANOMALY.value.encode(), b"x", value), Rejected)
