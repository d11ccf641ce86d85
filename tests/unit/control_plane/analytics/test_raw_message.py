import json

from control_plane.analytics.raw_message import Cut, read
from shared.topics import Kafka
from tests.unit.control_plane.analytics.raw_kit import NOW_MS, batched, cut, direct, incoming, reading

ORIGIN = {
    "kind": "telemetry", "sender": "solo", "record": "message", "received_at": "2026-01-01T00:00:00.000Z",
    "raw": {"topic": "r", "partition": 1, "offset": 2}, "content_type": "application/json",
}  # fmt: skip


def test_a_message_of_a_device():
    record = direct(b"{}", received_ms=NOW_MS + 3, throttled="1")
    message = read(record)
    assert (message.kind, message.sender, message.value) == ("telemetry", "solo", b"{}")
    assert (message.received_ms, message.throttled, message.headers_cut, message.cut) == (
        NOW_MS + 3,
        True,
        False,
        None,
    )
    assert message.place == (Kafka.RAW, 0, record.offset) or message.place.offset == record.offset
    assert message.properties == {}
    assert message.replay is None


def test_a_batch_and_its_properties():
    message = read(batched([reading()], number=4, marks={"headers_cut": "1", "stranger": "x"}))
    assert message.kind == "batches"
    assert message.properties["number"] == "4"
    assert "stranger" not in message.properties
    assert message.headers_cut


def test_what_is_missing_or_senseless_has_a_sensible_value():
    message = read(incoming("k", b"", {"received_ms": "soon", "traceparent": "x"}))
    assert (message.received_ms, message.traceparent, message.kind) == (NOW_MS, None, "telemetry")
    assert message.ce_id.startswith(Kafka.RAW)
    for text in ("-1", "٣", "9" * 16, ""):
        assert read(incoming("k", b"", {"received_ms": text})).received_ms == NOW_MS


def test_a_cut_message_knows_what_it_was():
    assert read(cut(direct(b"x" * 70_000), 300_000)).cut == Cut(300_000, "0" * 64)


def test_a_dead_letter_keeps_the_time_of_its_first_receipt():
    marks = {"replay_of": "solo:1", "replay_origin": json.dumps(ORIGIN)}
    message = read(direct(b"{}", received_ms=NOW_MS, replay_received_ms=NOW_MS - 9, **marks))
    assert message.replay.of == "solo:1"
    assert message.replay.origin.sender == "solo"
    assert message.received_ms == NOW_MS - 9


def test_a_devices_own_word_of_a_replay_is_none():
    assert read(direct(b"{}", replay_received_ms=5)).received_ms == NOW_MS
    assert read(direct(b"{}", replay_of="x", replay_origin="{}")).replay is None
