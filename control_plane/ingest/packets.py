"""MQTT 5 on the receiving side: bytes in, published messages and other packets out. PURE.

Promises: every complete packet of the bytes fed so far, in order, each once, whatever the chunks. A user property
is taken as the bytes that it is: text that another decoder would refuse must not stop the flow.
Leaves connecting, subscribing and publishing to the client library.

Source: OASIS MQTT 5.0, sections 1.5 (data types), 2 (fixed header), 3.3 (PUBLISH), 3.4 (PUBACK).
"""

import struct
from collections.abc import Sequence
from typing import NamedTuple

PUBLISH = 0x30
_PUBACK = 0x4002  # type and remaining length of a PUBACK that says success
_LENGTH_BYTES = 4

_PROPERTY_BYTES = {0x01: 1, 0x02: 4, 0x23: 2}  # payload format, message expiry, topic alias
_CONTENT_TYPE = 0x03
_RESPONSE_TOPIC = 0x08
_CORRELATION_DATA = 0x09
_SUBSCRIPTION_ID = 0x0B
_USER_PROPERTY = 0x26


class Message(NamedTuple):
    """One PUBLISH as it came. `packet_id` is 0 for QoS 0, which nobody acknowledges."""

    packet_id: int
    topic: bytes
    payload: bytes
    content_type: bytes | None = None
    properties: tuple[tuple[bytes, bytes], ...] = ()


class Packet(NamedTuple):
    """Any other packet: the first byte of its fixed header, and what follows the fixed header."""

    head: int
    body: bytes


class MalformedError(ValueError):
    """These bytes are no MQTT 5: the connection is of no use any more."""


class Splitter:
    """Cuts one connection's byte stream into packets. Holds back at most one incomplete packet."""

    def __init__(self) -> None:
        self._chunks: list[bytes] = []
        self._have = 0
        self._need = 2

    def feed(self, data: bytes) -> tuple[list[Message], list[Packet]]:
        """The packets that `data` completes. Raises MalformedError."""
        if self._chunks:
            self._chunks.append(data)
            self._have += len(data)
            if self._have < self._need:  # joining only when it is whole keeps large packets linear
                return [], []
            data = b"".join(self._chunks)
            self._chunks.clear()
        try:
            return self._split(data)
        except IndexError as error:
            raise MalformedError("a packet is shorter than it says") from error

    def _split(self, data: bytes) -> tuple[list[Message], list[Packet]]:
        messages: list[Message] = []
        packets: list[Packet] = []
        start = 0
        end = len(data)
        while True:
            if end - start < 2:
                self._keep(data, start, 2)
                break
            length = data[start + 1]
            body = start + 2
            if length > 0x7F and body < end and data[body] < 0x80:  # two bytes: nearly all messages
                length = length & 0x7F | data[body] << 7
                body += 1
            elif length > 0x7F:
                sized = _length(data, start + 1, end)
                if sized is None:
                    self._keep(data, start, end - start + 1)
                    break
                length, body = sized
            after = body + length
            if after > end:
                self._keep(data, start, after - start)
                break
            head = data[start]
            if head & 0xF0 == PUBLISH:
                messages.append(_publish(data, head, body, after))
            else:
                packets.append(Packet(head, data[body:after]))
            start = after
        return messages, packets

    def _keep(self, data: bytes, start: int, need: int) -> None:
        rest = data[start:]
        if rest:
            self._chunks.append(rest)
        self._have = len(rest)
        self._need = need


def encode_pubacks(packet_ids: Sequence[int]) -> bytes:
    """One successful PUBACK each, in this order."""
    words = [_PUBACK] * (2 * len(packet_ids))
    words[1::2] = packet_ids
    return struct.pack(f"!{len(words)}H", *words)


def _length(data: bytes, at: int, end: int) -> tuple[int, int] | None:
    """A variable byte integer and where it ends; None if the bytes end before it does."""
    value = 0
    for index in range(_LENGTH_BYTES):
        if at + index >= end:
            return None
        byte = data[at + index]
        value |= (byte & 0x7F) << (7 * index)
        if byte < 0x80:
            return value, at + index + 1
    raise MalformedError("a length of more than four bytes")


def _publish(data: bytes, head: int, at: int, after: int) -> Message:
    topic_end = at + 2 + (data[at] << 8 | data[at + 1])
    topic = data[at + 2 : topic_end]
    packet_id = 0
    if head & 0x06:
        packet_id = data[topic_end] << 8 | data[topic_end + 1]
        topic_end += 2
    if topic_end >= after:
        raise MalformedError("a PUBLISH ends before its properties")
    if data[topic_end] == 0:
        return Message(packet_id, topic, data[topic_end + 1 : after])
    sized = _length(data, topic_end, after)
    if sized is None or sum(sized) > after:
        raise MalformedError("a PUBLISH ends within its properties")
    length, start = sized
    content_type, properties = _properties(data, start, start + length)
    return Message(packet_id, topic, data[start + length : after], content_type, properties)


def _properties(data: bytes, at: int, end: int) -> tuple[bytes | None, tuple[tuple[bytes, bytes], ...]]:
    content_type = None
    pairs: list[tuple[bytes, bytes]] = []
    while at < end:
        kind = data[at]
        at += 1
        if kind == _USER_PROPERTY:
            name, at = _string(data, at)
            value, at = _string(data, at)
            pairs.append((name, value))
        elif kind == _CONTENT_TYPE:
            content_type, at = _string(data, at)
        elif kind in _PROPERTY_BYTES:
            at += _PROPERTY_BYTES[kind]
        elif kind in (_RESPONSE_TOPIC, _CORRELATION_DATA):
            _, at = _string(data, at)
        elif kind == _SUBSCRIPTION_ID:
            sized = _length(data, at, end)
            if sized is None:
                raise MalformedError("a subscription identifier without end")
            at = sized[1]
        else:
            raise MalformedError(f"property {kind:#x} does not belong to a PUBLISH")
    if at != end:
        raise MalformedError("the properties of a PUBLISH are longer than they say")
    return content_type, tuple(pairs)


def _string(data: bytes, at: int) -> tuple[bytes, int]:
    end = at + 2 + (data[at] << 8 | data[at + 1])
    return data[at + 2 : end], end
