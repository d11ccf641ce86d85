"""Bytes to packets: against paho's own encoder and decoder, in chunks of any size."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st
from paho.mqtt._packet import decode_publish
from paho.mqtt.enums import MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from control_plane.ingest.packets import MalformedError, Message, Packet, Splitter, encode_pubacks


def varint(value):
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def publish(topic, payload, packet_id=7, properties=b"", head=0x32):
    topic = topic.encode() if isinstance(topic, str) else topic
    body = struct.pack("!H", len(topic)) + topic
    if head & 6:
        body += struct.pack("!H", packet_id)
    body += varint(len(properties)) + properties + payload
    return bytes([head]) + varint(len(body)) + body


def split(data, size=None):
    splitter = Splitter()
    messages, packets = [], []
    for at in range(0, len(data), size or len(data)):
        more_messages, more_packets = splitter.feed(data[at : at + (size or len(data))])
        messages += more_messages
        packets += more_packets
    return messages, packets


def test_a_message_as_it_came():
    assert split(publish("devices/d1/telemetry", b"{}", 513)) == ([Message(513, b"devices/d1/telemetry", b"{}")], [])


def test_a_message_of_qos_0_has_no_packet_id():
    assert split(publish("devices/d1/telemetry", b"{}", head=0x30))[0][0].packet_id == 0


def test_other_packets_pass_untouched():
    data = b"\xd0\x00" + b"\x40\x03\x00\x05\x10" + publish("a", b"b") + b"\xe0\x01\x8e"
    assert split(data) == (
        [Message(7, b"a", b"b")],
        [Packet(0xD0, b""), Packet(0x40, b"\x00\x05\x10"), Packet(0xE0, b"\x8e")],
    )


texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00\ufeff"), max_size=40)


@given(
    st.lists(
        st.tuples(
            st.integers(1, 65535), texts, st.binary(max_size=300), st.lists(st.tuples(texts, texts), max_size=3),
            st.none() | texts, st.none() | st.integers(0, 2**32 - 1),
        ),
        max_size=6,
    ),
    st.integers(1, 400),
)  # fmt: skip
def test_what_paho_encodes_is_read_as_paho_reads_it_in_any_chunks(given_messages, chunk):
    data = b""
    for packet_id, topic, payload, pairs, content_type, expiry in given_messages:
        properties = Properties(PacketTypes.PUBLISH)
        for pair in pairs:
            properties.UserProperty = pair
        if content_type is not None:
            properties.ContentType = content_type
        if expiry is not None:
            properties.MessageExpiryInterval = expiry
        packed = properties.pack()
        body = (
            struct.pack("!H", len(topic.encode())) + topic.encode() + struct.pack("!H", packet_id) + packed + payload
        )
        theirs = decode_publish(0x32, body, MQTTProtocolVersion.MQTTv5)
        assert (theirs.mid, theirs.topic, bytes(theirs.payload)) == (packet_id, topic.encode(), payload)
        data += b"\x32" + varint(len(body)) + body
    messages, packets = split(data, chunk)
    assert packets == []
    assert messages == [
        Message(
            packet_id, topic.encode(), payload, None if content_type is None else content_type.encode(),
            tuple((name.encode(), value.encode()) for name, value in pairs),
        )
        for packet_id, topic, payload, pairs, content_type, _ in given_messages
    ]  # fmt: skip


def test_every_property_of_a_publish_is_passed_over():
    properties = (
        b"\x01\x01" + b"\x02\x00\x00\x00\x09" + b"\x23\x00\x05" + b"\x08\x00\x01r" + b"\x09\x00\x02cd"
        + b"\x0b\xff\x01" + b"\x03\x00\x01j" + b"\x26\x00\x01n\x00\x01v"
    )  # fmt: skip
    messages, _ = split(publish("t", b"p", properties=properties))
    assert messages == [Message(7, b"t", b"p", b"j", ((b"n", b"v"),))]


@pytest.mark.parametrize("value", ["\ufeff", "\x00", "\x01", "\U0010ffff"])
def test_text_that_paho_refuses_does_not_stop_the_flow(value):
    packed = b"\x26" + b"\x00\x01n" + struct.pack("!H", len(value.encode())) + value.encode()
    assert split(publish("t", b"p", properties=packed))[0][0].properties == ((b"n", value.encode()),)


@pytest.mark.parametrize("size", [1, 2, 3, 1000, 65536])
def test_a_large_message_in_small_pieces(size):
    payload = bytes(range(256)) * 1100
    messages, _ = split(publish("t", payload) * 2 + b"\xd0\x00", size)
    assert [message.payload == payload for message in messages] == [True, True]


@pytest.mark.parametrize("length", [127, 128, 16_383, 16_384, 16_390, 2_097_151, 2_097_152])
def test_lengths_of_one_to_four_bytes(length):
    data = publish("t", b"x" * (length - 6))
    assert len(data) - length in (2, 3, 4, 5)
    assert [len(message.payload) for message in split(data * 2)[0]] == [length - 6] * 2


def test_the_pieces_of_a_large_message_are_joined_once():
    splitter = Splitter()
    data = publish("t", b"x" * 2_000_000)
    for at in range(0, len(data) - 1000, 1000):
        splitter.feed(data[at : at + 1000])
    assert len(splitter._chunks) == len(data) // 1000  # not joined and copied at each piece


@pytest.mark.parametrize(
    "data",
    [
        b"\x32\xff\xff\xff\xff\x01",  # a length of five bytes
        b"\x32\x02\x00\x09",  # a topic longer than the packet
        b"\x32\x05\x00\x01t\x00\x07",  # no properties length
        b"\x32\x07\x00\x01t\x00\x07\x05\x01",  # properties longer than the packet
        publish("t", b"", properties=b"\x1f\x00\x00"),  # a property that is none of a PUBLISH
        publish("t", b"", properties=b"\x26\x00\x05n"),  # a text longer than the properties
        publish("t", b"", properties=b"\x0b\xff"),  # an integer without end
        b"\x32\x02\x00\x00",
    ],
)
def test_what_is_no_mqtt_is_refused(data):
    with pytest.raises(MalformedError):
        split(data + b"\xd0\x00" * 20)


@given(st.lists(st.integers(1, 65535), max_size=50))
def test_acknowledgements_are_read_back_in_order(packet_ids):
    _, packets = split(encode_pubacks(packet_ids) or b"\xd0\x00")
    assert [int.from_bytes(packet.body, "big") for packet in packets if packet.head == 0x40] == packet_ids
    assert all(len(packet.body) in (0, 2) for packet in packets)
