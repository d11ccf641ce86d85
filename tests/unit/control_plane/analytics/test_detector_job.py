"""The detector as a job: headers, counts, traces, and what it cannot read."""

import logging
from collections.abc import Mapping
from pathlib import Path

import pytest
from prometheus_client import REGISTRY

from control_plane.analytics.detector import Detected, Limits
from control_plane.analytics.detector_job import DetectorConfig, DetectorJob
from control_plane.analytics.job import Headers, Incoming, MemoryState, Output, State
from control_plane.analytics.records import Anomaly, EventType, NormalizedReading, Quality, Score, decode, encode
from shared.batch import ClockQuality, Lane
from shared.config import ConfigError, load
from shared.errors import Transient
from shared.pseudonym import pseudonym
from shared.topics import Kafka
from shared.tracing import Attributes, NoTracing

KEY = bytes(32)
TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
NEXT = "00-0af7651916cd43dd8448eb211c80319c-00000000000000aa-01"
READING = NormalizedReading(
    device_id="dev-1", device_type="oven", gateway_id="gw-1", ts="2026-01-01T00:00:00.000Z", ts_raw=0,
    received_at="2026-01-01T00:00:00.000Z", metrics={"temperature": 31.0}, lane=Lane.LIVE,
    quality=Quality(ClockQuality.SYNCED, None, ()), score=Score(6.5, "temperature", "noise", 20.0),
)  # fmt: skip


class Recorder:
    """Tracing that remembers its stages."""

    enabled = True

    def __init__(self) -> None:
        self.stages: list[tuple[str, str | None, dict[str, object]]] = []

    def start(self) -> str | None:
        return None

    def stage(self, name: str, parent: str | None, start_ns: int, end_ns: int, attributes: Attributes) -> str | None:
        assert start_ns <= end_ns
        self.stages.append((name, parent, dict(attributes)))
        return NEXT

    def close(self) -> None:
        return


class NoLimits:
    """Device types without limits."""

    failure: Exception | None = None

    def check(self) -> None:
        if self.failure is not None:
            raise self.failure

    def limits_of(self, device_type: str) -> Limits:
        del device_type
        return {}


def incoming(value: bytes, kind: str = EventType.READING, more: Mapping[str, str] | None = None) -> Incoming:
    headers: Headers = [("ce_type", kind.encode()), ("ce_id", b"x")]
    headers += [(name, text.encode()) for name, text in (more or {}).items()]
    return Incoming(Kafka.NORMALIZED.value, 0, 7, b"dev-1", value, headers, 0)


def run(job: DetectorJob, record: Incoming) -> list[Output]:
    return list(job.on_record(record, MemoryState()))


def total(name: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(name, labels) or 0.0


def test_an_anomalys_envelope(caplog: pytest.LogCaptureFixture) -> None:
    before = total("anomaly_events_total", severity="warning", source="edge")
    with caplog.at_level(logging.INFO, "events"):
        found = run(DetectorJob(NoLimits(), KEY, NoTracing()), incoming(encode(READING), more={"traceparent": TRACE}))
    assert len(found) == 1
    headers = {name: value.decode() for name, value in found[0].headers}
    assert (found[0].topic, found[0].key) == (Kafka.ANOMALY, b"dev-1")
    assert headers["ce_id"] == "dev-1:temperature:1767225600000:0"
    assert headers["ce_type"] == "iot.anomaly.detected.v1"
    assert headers["ce_source"] == "/analytics/detector"
    assert headers["ce_subject"] == "dev-1"
    assert headers["ce_time"] == READING.ts
    assert headers["ce_dataschema"] == "/schemas/iot.anomaly.detected.v1.json"
    assert headers["traceparent"] == TRACE
    assert isinstance(decode(EventType.ANOMALY, found[0].value), Anomaly)
    assert total("anomaly_events_total", severity="warning", source="edge") == before + 1
    fields = caplog.records[-1].event_fields  # type: ignore[attr-defined]  # our formatter's own
    assert fields["device"] == pseudonym(KEY, "dev-1")
    assert "dev-1" not in repr(fields)


def test_a_traced_reading_has_its_stage_and_the_anomaly_goes_on_from_it() -> None:
    tracing = Recorder()
    found = run(DetectorJob(NoLimits(), KEY, tracing), incoming(encode(READING), more={"traceparent": TRACE}))
    assert tracing.stages == [("detect", TRACE, {"anomalies": 1})]
    assert dict(found[0].headers)["traceparent"] == NEXT.encode()


def test_other_types_are_passed_by() -> None:
    assert run(DetectorJob(NoLimits(), KEY, NoTracing()), incoming(b"{}", EventType.AGGREGATE)) == []


def test_what_cannot_be_read_is_counted_and_passed_by() -> None:
    before = total("detector_readings_failed_total", why="unreadable")
    job = DetectorJob(NoLimits(), KEY, NoTracing())
    assert [run(job, incoming(value)) for value in (b"", b"\xff", b'{"device_id": 1}')] == [[]] * 3
    assert total("detector_readings_failed_total", why="unreadable") == before + 3


def test_a_bug_does_not_stop_the_flow() -> None:
    before = total("detector_readings_failed_total", why="bug")

    class Broken(NoLimits):
        def limits_of(self, device_type: str) -> Limits:
            raise KeyError(device_type)

    assert run(DetectorJob(Broken(), KEY, NoTracing()), incoming(encode(READING))) == []
    assert total("detector_readings_failed_total", why="bug") == before + 1


def test_a_bug_leaves_the_state_as_it_was_and_names_nobody_in_the_log(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    job, state = DetectorJob(NoLimits(), KEY, NoTracing()), MemoryState({b"a": b"1"})

    def half_done(reading: NormalizedReading, state: State) -> list[Detected]:
        state.set(b"a", b"2")
        state.set(b"b", b"3")
        raise KeyError(reading.device_id)

    monkeypatch.setattr(job._detector, "judge", half_done)
    assert list(job.on_record(incoming(encode(READING)), state)) == []
    assert state.values == {b"a": b"1"}
    fields = str([record.__dict__ for record in caplog.records])
    assert "KeyError at" in fields
    assert "dev-1" not in fields


def test_limits_that_grow_old_for_good_end_the_job() -> None:
    limits = NoLimits()
    job = DetectorJob(limits, KEY, NoTracing())
    assert len(run(job, incoming(encode(READING)))) == 1
    limits.failure = Transient("the view ended")
    with pytest.raises(Transient):
        run(job, incoming(encode(READING)))


def test_it_must_know_postgres(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="HUB_DATABASE_URL"):
        load(DetectorConfig, {"HUB_KAFKA_BOOTSTRAP": "h:1", "HUB_DATA_DIR": str(tmp_path)})
