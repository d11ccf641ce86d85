import msgspec

from control_plane.analytics.job import Incoming, MemoryState, Writer, header, output
from control_plane.analytics.records import EventType, Gap, GapKind, decode
from shared import envelope
from shared.envelope import Envelope
from shared.topics import Kafka

GAP = Gap(
    gateway_id="g", epoch="e", kind=GapKind.GAP, ranges=((1, 1),), count=1, noticed_at="2026-01-01T00:00:00.123Z"
)


def test_an_output_has_the_shared_envelope():
    for traceparent in (None, "00-x"):
        made = Writer(Kafka.GAP, EventType.GAP, "/a")("id-1", "gw", GAP.noticed_at, GAP, traceparent)
        wanted = Envelope(
            "id-1", EventType.GAP, "/a", 1_767_225_600_123, "gw",
            dataschema=envelope.dataschema(EventType.GAP), traceparent=traceparent,
        )  # fmt: skip
        assert made.headers == envelope.headers(wanted)
        assert (made.topic, made.key) == (Kafka.GAP, b"gw")
        assert decode(EventType.GAP, made.value) == GAP


def test_one_record_by_name():
    made = output(
        Kafka.GAP, EventType.GAP, source="/a", ce_id="i", subject="s", time=GAP.noticed_at, record=GAP, key="other"
    )
    assert made.key == b"other"
    assert dict(made.headers)["ce_subject"] == b"s"
    assert msgspec.json.decode(made.value)["count"] == 1


def test_the_last_of_equal_headers_counts():
    record = Incoming("t", 0, 0, b"k", b"", [("a", b"1"), ("a", b"\xff"), ("b", b"2")], 0)
    assert (header(record, "a"), header(record, "b"), header(record, "c")) == ("\ufffd", "2", None)


def test_a_state_in_memory():
    state = MemoryState()
    state.set(b"a", b"1")
    assert state.get(b"a") == b"1"
    state.delete(b"a")
    state.delete(b"a")
    assert state.get(b"a") is None
