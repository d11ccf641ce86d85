"""The record in `raw`: key, value and headers made from a message as it came, and its identity. PURE.

Promises: nothing is read from the payload but its length and its digests. The same message has the same identity
whether it is computed on arrival (`identify`) or from its record in `raw` (`recorded_identity`), so a delivery that
the broker repeats is known again after any restart:

- a message of a device: its id and payload; that is also its `ce_id`;
- a batch: its gateway, content type, payload and copied properties but `traceparent`. What an agent sends again
  bears other properties (`resent`, a newer floor), so it is another message, whose news must reach the normaliser.

A batch's `ce_id` is `<gateway>:<epoch>:<number>` where both are well formed, else made like a device's.
"""

import hashlib
import re
from collections.abc import Sequence
from typing import NamedTuple

from control_plane.ingest.limits import Meter
from control_plane.ingest.packets import Message
from control_plane.ingest.partition import partition_of
from shared import batch, limits, topics
from shared.device import Kind
from shared.envelope import JSON, rfc3339
from shared.ids import DeviceId, is_epoch
from shared.recent import identity

TYPE = "iot.telemetry.raw.v1"
_OCTETS = b"application/octet-stream"
_NUMBER = re.compile(rb"^[1-9][0-9]{0,17}\Z")
_IDENTITY = re.compile(r"^[0-9a-f]{32}\Z")
_CHANNELS = (topics.Channel.TELEMETRY, topics.Channel.BATCHES)
_COPIED = {name.encode(): name for name in batch.HEADER_NAMES}
_IDENTIFYING = tuple(name for name in batch.HEADER_NAMES if name != "traceparent")

_SPECVERSION = ("ce_specversion", b"1.0")
_TYPE = ("ce_type", TYPE.encode())
IDENTITY_BYTES = 16

Headers = list[tuple[str, bytes]]


class Origin:
    """What all messages of one topic have in common, made once. The underlined parts are headers and digests ready
    to be used: at many thousand messages a second each of them counts.
    """

    __slots__ = (
        "_about", "_hash", "_id_prefix", "_kind", "channel", "is_gateway", "key", "meter", "owner", "partition",
    )  # fmt: skip

    def __init__(self, owner: DeviceId, channel: topics.Channel, partitions: int) -> None:
        self.meter = Meter(owner, Kind.GATEWAY if channel is topics.Channel.BATCHES else Kind.DEVICE)
        self.owner = owner
        self.channel = channel
        self.is_gateway = channel is topics.Channel.BATCHES
        self.key = owner.encode()
        self.partition = partition_of(self.key, partitions)
        root = b"gateways" if self.is_gateway else b"devices"
        self._about = (("ce_source", b"/mqtt/" + root + b"/" + self.key), ("ce_subject", self.key))
        self._kind = ("topic_kind", channel.value.encode())
        self._id_prefix = self.key + b":"
        # As far as `shared.recent.identity` gets with the key: continued for each payload.
        self._hash = hashlib.blake2b(len(self.key).to_bytes(4, "big") + self.key, digest_size=IDENTITY_BYTES)

    def message_identity(self, payload: bytes) -> bytes:
        """identity(key, payload)"""
        digest = self._hash.copy()
        digest.update(len(payload).to_bytes(4, "big"))
        digest.update(payload)
        return digest.digest()

    def event_id(self, message_identity: bytes) -> bytes:
        """`<owner>:<32 hexadecimal digits>`"""
        return self._id_prefix + message_identity.hex().encode()

    def headers(self, ce_id: bytes, received: "Stamp", content_type: tuple[str, bytes]) -> Headers:
        """CloudEvents attributes and our own, in a fixed order."""
        source, subject = self._about
        return [
            _SPECVERSION, ("ce_id", ce_id), source, _TYPE, received.ce_time, subject,
            content_type, received.received_ms, self._kind,
        ]  # fmt: skip


def origin(topic: bytes, partitions: int) -> Origin | None:
    """Where messages of this topic come from, or None if it is no topic that ingest reads."""
    address = topics.parse(topic.decode("utf-8", "replace"))
    if address is None or address.channel not in _CHANNELS:
        return None
    return Origin(address.owner, address.channel, partitions)


class Copied(NamedTuple):
    """What goes from a message's properties into headers. `cut`: some were over the limits and left out."""

    content_type: tuple[str, bytes]
    pairs: Headers
    traceparent: str | None
    cut: bool


_NOTHING: Headers = []
_PLAIN = Copied(("content-type", JSON.encode()), _NOTHING, None, False)


def copied(source: Origin, message: Message) -> Copied:
    """The properties that travel on: of a batch the named ones, of a device's message its traceparent alone.

    Each at most 1 KiB, together (names and values) at most 8 KiB, taken in the order of the protocol's list, so
    that what identifies a batch is never what is left out. Of equal names the last counts.
    """
    if not message.properties and message.content_type is None and not source.is_gateway:
        return _PLAIN
    cut = False
    content_type = message.content_type or (_OCTETS if source.is_gateway else JSON.encode())
    if len(content_type) > limits.HEADER_VALUE_BYTES:
        content_type, cut = _OCTETS, True
    found = {_COPIED[name]: value for name, value in message.properties if name in _COPIED}
    traceparent = batch.traceparent(found.pop("traceparent", b"").decode("utf-8", "replace"))
    if not source.is_gateway:
        return Copied(("content-type", content_type), _NOTHING, traceparent, cut)
    pairs: Headers = []
    room = limits.HEADERS_BYTES
    for name in _IDENTIFYING:
        value = found.get(name)
        if value is None:
            continue
        room -= len(name) + len(value)
        if len(value) > limits.HEADER_VALUE_BYTES or room < 0:
            room += len(name) + len(value)
            cut = True
            continue
        pairs.append((name, value))
    return Copied(("content-type", content_type), pairs, traceparent, cut)


def batch_number(pairs: Sequence[tuple[str, bytes]]) -> tuple[str, int] | None:
    """Epoch and number of a batch by its copied properties, or None if they are missing or malformed."""
    found = dict(pairs)
    epoch = found.get("epoch", b"").decode("ascii", "replace")
    number = found.get("number", b"")
    if not is_epoch(epoch) or _NUMBER.match(number) is None:
        return None
    return epoch, int(number)


def identify(source: Origin, message: Message, properties: Copied) -> bytes:
    """The identity of a message that came, 16 bytes."""
    if not source.is_gateway:
        return source.message_identity(message.payload)
    digest = hashlib.sha256(message.payload).digest()
    return _batch_identity(source.key, properties.content_type[1], digest, properties.pairs)


def recorded_identity(key: bytes | None, value: bytes | None, headers: Sequence[tuple[str, bytes]]) -> bytes | None:
    """The identity of the message that a record of `raw` holds; None for a record that no broker delivered."""
    found = dict(headers)
    if key is None or "replay_of" in found:
        return None
    if found.get("topic_kind") == topics.Channel.TELEMETRY.value.encode():
        digits = found.get("ce_id", b"").decode("ascii", "replace").rpartition(":")[2]
        return bytes.fromhex(digits) if _IDENTITY.match(digits) else None
    cut = found.get("cut_sha256")
    digest = bytes.fromhex(cut.decode("ascii")) if cut else hashlib.sha256(value or b"").digest()
    pairs = [(name, found[name]) for name in _IDENTIFYING if name in found]
    return _batch_identity(key, found.get("content-type", b""), digest, pairs)


def _batch_identity(key: bytes, content_type: bytes, digest: bytes, pairs: Sequence[tuple[str, bytes]]) -> bytes:
    return identity(key, content_type, digest, *(part for name, value in pairs for part in (name.encode(), value)))


def event_id(source: Origin, message_identity: bytes, number: tuple[str, int] | None, payload: bytes) -> bytes:
    """The record's `ce_id`."""
    if number is not None:
        return b"%b:%b:%d" % (source.key, number[0].encode(), number[1])
    if source.is_gateway:
        message_identity = source.message_identity(payload)
    return source.event_id(message_identity)


class Stamp(NamedTuple):
    """A time of receipt, epoch milliseconds, and its two headers; made once for all that one read brought."""

    ms: int
    ce_time: tuple[str, bytes]
    received_ms: tuple[str, bytes]


def stamp(ms: int) -> Stamp:
    """The stamp of this epoch millisecond."""
    return Stamp(ms, ("ce_time", rfc3339(ms).encode()), ("received_ms", b"%d" % ms))


def headers(source: Origin, ce_id: bytes, received: Stamp, properties: Copied, traceparent: str | None) -> Headers:
    """The record's headers: CloudEvents attributes, our own, the copied properties, the traceparent."""
    pairs = source.headers(ce_id, received, properties.content_type)
    if properties.pairs:
        pairs += properties.pairs
    if properties.cut:
        pairs.append(("headers_cut", b"1"))
    if traceparent is not None:
        pairs.append(("traceparent", traceparent.encode()))
    return pairs


def cut_form(payload: bytes) -> tuple[bytes, Headers]:
    """The first 64 KiB, and the headers that say what they were cut from."""
    marks = [("cut_length", b"%d" % len(payload)), ("cut_sha256", hashlib.sha256(payload).hexdigest().encode())]
    return payload[: limits.KEPT_OF_OVERSIZED_BYTES], marks
