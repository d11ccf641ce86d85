import pytest
from hypothesis import given
from hypothesis import strategies as st

from control_plane.analytics import record_rules
from control_plane.analytics.event_time import LATEST_MS
from control_plane.analytics.record_rules import (
    EVENT_DATA_BYTES,
    judge_aggregate,
    judge_event,
    judge_metrics,
    judge_reading,
)
from shared import limits
from shared.batch import AggregateRecord, EventRecord
from shared.errors import Reason
from shared.reading import Reading, parse_payload
from tests.unit.control_plane.analytics.raw_kit import NOW_MS, reading


def test_what_an_agent_writes_passes():
    assert judge_reading(reading()) is None
    assert judge_reading(reading(ts_raw=NOW_MS)) is None
    assert judge_reading(reading(at_ms=0, ts_ms=0)) is None
    assert judge_reading(reading(at_ms=LATEST_MS)) is None
    assert judge_aggregate(AggregateRecord("d", 1, "a", 1, 1, 1, 0.1, 0.1, 0.1 + 1e-17)) is None
    assert judge_aggregate(AggregateRecord("d", 1, "a", 1, 2, 3, -2.0, -2.0, -2.0000000000000004)) is None
    assert judge_event(EventRecord("d", 1, "a_name.x", {})) is None


def test_a_name_is_judged_once_and_its_value_every_time():
    record_rules._KNOWN_NAMES.clear()
    assert judge_metrics({"t": 1.0}) is None
    assert judge_metrics({"t": 2**63}).reason == Reason.BAD_FIELD
    assert judge_metrics({"t": -(2**63) - 1}).reason == Reason.BAD_FIELD
    assert judge_metrics({"t": -(2**63)}) is None
    assert judge_metrics({"t": "x" * (limits.STRING_CHARS + 1)}).reason == Reason.BAD_FIELD
    assert judge_metrics({"no name": 1.0}).reason == Reason.BAD_FIELD
    assert judge_metrics({"no name": 1.0}).reason == Reason.BAD_FIELD


def test_names_are_remembered_within_bounds(monkeypatch):
    monkeypatch.setattr(record_rules, "_KNOWN_NAMES_LIMIT", 5)
    record_rules._KNOWN_NAMES.clear()
    for n in range(50):
        assert judge_metrics({f"m{n}": 1.0}) is None
    assert len(record_rules._KNOWN_NAMES) <= 5


@given(
    st.dictionaries(
        st.text(max_size=3) | st.just("a"),
        st.floats(allow_nan=False, allow_infinity=False) | st.booleans() | st.text(max_size=300) | st.integers(),
        max_size=5,
    )
)
def test_the_same_limits_as_for_a_devices_own_message(metrics):
    import msgspec

    fields = {name: value for name, value in metrics.items() if name not in ("ts", "status", "seq")}
    (judged,) = parse_payload(msgspec.json.encode({"ts": 1, **fields}))
    assert (judge_metrics(fields) is None) == isinstance(judged, Reading)


@pytest.mark.parametrize("mean", [-1e-6, 1.000001])
def test_a_mean_outside_its_bounds_is_refused(mean):
    assert judge_aggregate(AggregateRecord("d", 1, "a", 1, 2, 3, 0.0, 1.0, mean)).reason == Reason.BAD_FIELD


def nested(levels):
    data = {}
    for _ in range(levels):
        data = {"a": data}
    return data


@pytest.mark.parametrize(
    ("data", "refused"),
    [
        ({"a": "x" * (EVENT_DATA_BYTES - 100)}, False),
        ({"a": "x" * EVENT_DATA_BYTES}, True),
        (nested(20), False),
        (nested(10_000), True),
        ({"a": 10**4_299}, False),
        ({"a": 10**4_301}, True),
    ],
)
def test_an_events_data_is_of_a_size_that_can_be_written(data, refused):
    why = judge_event(EventRecord("d", 1, "name", data))
    assert (why is not None and why.reason == Reason.BAD_FIELD) == refused
