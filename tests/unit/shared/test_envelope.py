from shared import envelope
from shared.envelope import Envelope


def test_the_attributes_of_binary_mode():
    event = Envelope("id-1", "iot.x.v1", "/mqtt/devices/d", 1767225600123, "d", dataschema="/schemas/x.json")
    assert envelope.headers(event) == [
        ("ce_specversion", b"1.0"),
        ("ce_id", b"id-1"),
        ("ce_source", b"/mqtt/devices/d"),
        ("ce_type", b"iot.x.v1"),
        ("ce_time", b"2026-01-01T00:00:00.123Z"),
        ("ce_subject", b"d"),
        ("content-type", b"application/json"),
        ("ce_dataschema", b"/schemas/x.json"),
    ]


def test_a_trace_goes_along_when_there_is_one():
    event = Envelope("i", "t", "s", 0, "u", traceparent="00-x")
    assert envelope.headers(event)[-1] == ("traceparent", b"00-x")


def test_headers_as_text_never_raise():
    assert envelope.text_headers([("a", b"\xff"), ("b", None), ("c", b"x"), ("c", b"y")]) == {"a": "\ufffd", "c": "y"}


def test_a_schema_has_an_address():
    assert envelope.dataschema("iot.x.v1") == "/schemas/iot.x.v1.json"
