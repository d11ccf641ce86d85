"""The record in `raw`, and that its message is known again from it."""

import hashlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from control_plane.ingest import raw_record
from control_plane.ingest.packets import Message
from control_plane.ingest.partition import partition_of
from shared import batch, envelope, limits
from shared.ids import new_epoch
from shared.recent import identity

EPOCH = new_epoch()
TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
NOW_MS = 1_767_225_600_123


def device(name="d1"):
    return raw_record.origin(f"devices/{name}/telemetry".encode(), 4)


def gateway(name="g1"):
    return raw_record.origin(f"gateways/{name}/batches".encode(), 4)


def header_pairs(**changes):
    fields = {"epoch": EPOCH, "number": 7, "floor": 3, "lane": batch.Lane.LIVE, "records": 2} | changes
    return tuple((name.encode(), value.encode()) for name, value in batch.encode_header(batch.Header(**fields)))


def record(source, message, traceparent=None):
    """Key, value, headers as ingest writes them."""
    properties = raw_record.copied(source, message)
    found = raw_record.identify(source, message, properties)
    number = raw_record.batch_number(properties.pairs) if source.is_gateway else None
    ce_id = raw_record.event_id(source, found, number, message.payload)
    value, marks = message.payload, []
    if len(value) > limits.PAYLOAD_BYTES:
        value, marks = raw_record.cut_form(value)
    pairs = raw_record.headers(source, ce_id, raw_record.stamp(NOW_MS), properties, traceparent)
    return source.key, value, pairs + marks


def test_a_reading_of_a_device():
    key, value, headers = record(device(), Message(1, b"devices/d1/telemetry", b'{"a":1}'))
    assert (key, value) == (b"d1", b'{"a":1}')
    expected = envelope.Envelope(
        id=f"d1:{identity(b'd1', value).hex()}",
        type="iot.telemetry.raw.v1",
        source="/mqtt/devices/d1",
        time_ms=NOW_MS,
        subject="d1",
    )
    assert headers == [
        *envelope.headers(expected),
        ("received_ms", b"1767225600123"),
        ("topic_kind", b"telemetry"),
    ]


def test_a_batch_of_a_gateway():
    pairs = header_pairs(resent=True, ledger="{}")
    message = Message(1, b"gateways/g1/batches", b"zip", batch.CONTENT_TYPE.encode(), pairs)
    key, value, headers = record(gateway(), message)
    found = dict(headers)
    assert (key, value) == (b"g1", b"zip")
    assert found["ce_id"] == f"g1:{EPOCH}:7".encode()
    assert found["ce_source"] == b"/mqtt/gateways/g1"
    assert found["content-type"] == batch.CONTENT_TYPE.encode()
    assert found["topic_kind"] == b"batches"
    assert "headers_cut" not in found
    assert batch.decode_header(envelope.text_headers(headers)) == batch.Header(
        epoch=EPOCH, number=7, floor=3, lane=batch.Lane.LIVE, records=2, resent=True, ledger="{}"
    )


@pytest.mark.parametrize(
    "topic",
    [
        "devices/d1/status", "devices/_x/telemetry", "devices//telemetry", "gateways/g/acks", "gateways/g/telemetry",
        "devices/a/b/telemetry", "x", "", "devices/" + "d" * 65 + "/telemetry", "devices/d\xff/telemetry",
    ],
)  # fmt: skip
def test_a_topic_that_ingest_does_not_read(topic):
    assert raw_record.origin(topic.encode("latin-1"), 4) is None


def test_all_batches_of_a_gateway_meet_in_its_partition():
    assert gateway("g77").partition == partition_of(b"g77", 4)


@pytest.mark.parametrize(
    "changed",
    [{"epoch": "short"}, {"number": "0"}, {"number": "01"}, {"number": "x"}, {"number": "1" * 19}, {"epoch": ""}],
)
def test_a_batch_without_a_number_of_ours_is_named_by_its_content(changed):
    pairs = tuple({**dict(header_pairs()), **{k.encode(): v.encode() for k, v in changed.items()}}.items())
    _, _, headers = record(gateway(), Message(1, b"", b"zip", None, pairs))
    assert dict(headers)["ce_id"] == b"g1:" + identity(b"g1", b"zip").hex().encode()
    assert dict(headers)["content-type"] == b"application/octet-stream"


def test_foreign_properties_stay_behind():
    pairs = (*header_pairs(), (b"ce_id", b"forged"), (b"replay_of", b"forged"), (b"throttled", b"1"), (b"x", b"y"))
    _, _, headers = record(gateway(), Message(1, b"", b"zip", None, pairs))
    names = [name for name, _ in headers]
    assert len(names) == len(set(names))
    assert {"x", "replay_of", "throttled"}.isdisjoint(names)
    assert dict(headers)["ce_id"] == f"g1:{EPOCH}:7".encode()


def test_a_device_brings_its_traceparent_and_content_type_alone():
    message = Message(1, b"", b"{}", b"application/cbor", ((b"traceparent", TRACE.encode()), (b"epoch", b"e")))
    properties = raw_record.copied(device(), message)
    assert properties.traceparent == TRACE
    assert properties.pairs == []
    headers = raw_record.headers(device(), b"id", raw_record.stamp(NOW_MS), properties, properties.traceparent)
    assert dict(headers)["traceparent"] == TRACE.encode()
    assert dict(headers)["content-type"] == b"application/cbor"


def test_a_bad_traceparent_is_left_out():
    message = Message(1, b"", b"{}", None, ((b"traceparent", b"00-zz"),))
    assert raw_record.copied(device(), message).traceparent is None


def test_a_property_over_its_limit_is_left_out_and_marked():
    pairs = (*header_pairs(), (b"ledger", b"x" * 1025), (b"hint", b"x" * 1024))
    _, _, headers = record(gateway(), Message(1, b"", b"zip", None, pairs))
    found = dict(headers)
    assert found["headers_cut"] == b"1"
    assert "ledger" not in found
    assert found["hint"] == b"x" * 1024


def test_properties_over_the_limit_together_lose_the_last_not_what_identifies():
    names = ["closed", "void", "lane", "resent", "records", "ledger", "clock", "hint"]
    pairs = (
        *((name.encode(), b"x" * 1020) for name in reversed(names)),
        (b"epoch", EPOCH.encode()),
        (b"number", b"7"),
        (b"schema", b"1"),
        (b"floor", b"1"),
    )
    _, _, headers = record(gateway(), Message(1, b"", b"zip", None, pairs))
    found = dict(headers)
    assert found["headers_cut"] == b"1"
    assert found["ce_id"] == f"g1:{EPOCH}:7".encode()
    kept = [name for name in batch.HEADER_NAMES if name in found]
    assert sum(len(name) + len(found[name]) for name in kept) <= limits.HEADERS_BYTES
    assert kept == ["schema", "epoch", "number", "floor", *names[:7]]
    assert "hint" not in found


def test_an_oversized_content_type_is_left_out_and_marked():
    _, _, headers = record(device(), Message(1, b"", b"{}", b"x" * 1025))
    assert dict(headers)["content-type"] == b"application/octet-stream"
    assert dict(headers)["headers_cut"] == b"1"


def test_the_cut_form_says_what_it_was():
    payload = bytes(range(256)) * 2000
    value, marks = raw_record.cut_form(payload)
    assert value == payload[: 64 * 1024]
    assert dict(marks) == {"cut_length": b"512000", "cut_sha256": hashlib.sha256(payload).hexdigest().encode()}


def test_what_changes_in_a_resend_makes_another_message_and_a_trace_does_not():
    def found(payload=b"zip", content_type=b"t", name="g1", **changes):
        message = Message(1, b"", payload, content_type, header_pairs(**changes))
        return raw_record.identify(gateway(name), message, raw_record.copied(gateway(name), message))

    first = found()
    assert found(traceparent=TRACE) == first
    others = [
        found(resent=True), found(floor=4), found(closed=((EPOCH, 1),)), found(void=((EPOCH, 1, 2),)),
        found(payload=b"zap"), found(content_type=b"u"), found(name="g2"), found(number=8),
    ]  # fmt: skip
    assert len({first, *others}) == 9


property_values = st.binary(max_size=1100)
messages = st.builds(
    Message,
    packet_id=st.just(1),
    topic=st.just(b""),
    payload=st.binary(max_size=50) | st.binary(max_size=3).map(lambda seed: seed * (limits.PAYLOAD_BYTES // 2 + 1)),
    content_type=st.none() | st.binary(max_size=1100),
    properties=st.lists(
        st.tuples(st.sampled_from([n.encode() for n in (*batch.HEADER_NAMES, "other")]), property_values), max_size=9
    ).map(tuple),
)


@given(messages, st.booleans(), st.none() | st.just(TRACE))
def test_a_message_is_known_again_from_its_record(message, of_gateway, traceparent):
    source = gateway() if of_gateway else device()
    arrived = raw_record.identify(source, message, raw_record.copied(source, message))
    key, value, headers = record(source, message, traceparent)
    assert raw_record.recorded_identity(key, value, headers) == arrived


def test_a_record_in_its_cut_form_by_refusal_is_known_again():
    message = Message(1, b"", b"zip", None, header_pairs())
    arrived = raw_record.identify(gateway(), message, raw_record.copied(gateway(), message))
    key, _, headers = record(gateway(), message)
    value, marks = raw_record.cut_form(message.payload)
    assert raw_record.recorded_identity(key, value, headers + marks) == arrived


@pytest.mark.parametrize(
    "headers",
    [
        [("topic_kind", b"telemetry"), ("ce_id", b"d1:nonsense")],
        [("topic_kind", b"telemetry")],
        [("topic_kind", b"batches"), ("replay_of", b"x")],
    ],
)
def test_what_no_broker_delivered_has_no_identity(headers):
    assert raw_record.recorded_identity(b"d1", b"", headers) is None
    assert raw_record.recorded_identity(None, b"", []) is None


def test_ingest_never_looks_inside():
    """Not even whether it is JSON: the same path for anything."""
    for payload in (b"", b"\x00\xff", b"{", json.dumps({"ts": "never"}).encode()):
        _, value, _ = record(device(), Message(1, b"", payload))
        assert value == payload
