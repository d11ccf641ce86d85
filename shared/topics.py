"""Every MQTT topic and Kafka topic name, built and parsed here and nowhere else. PURE.

`parse(build(channel)) == channel` for every channel, and `parse` answers None for every other topic.
"""

from dataclasses import dataclass
from enum import StrEnum

from shared.ids import DeviceId, is_device_id


class Channel(StrEnum):
    """What flows on an MQTT topic; the value is the topic's last level."""

    TELEMETRY = "telemetry"
    STATUS = "status"
    COMMANDS = "commands"
    NOTICES = "notices"
    BATCHES = "batches"
    ACKS = "acks"


NUDGE = b'{"ask": "self"}'
"""What the hub says on a commands topic: no order, only the word that asking it is worth while."""
_ROOTS = {
    Channel.TELEMETRY: "devices",
    Channel.STATUS: "devices",
    Channel.COMMANDS: "devices",
    Channel.NOTICES: "devices",
    Channel.BATCHES: "gateways",
    Channel.ACKS: "gateways",
}


@dataclass(frozen=True, slots=True)
class Address:
    """One device's or gateway's end of one channel."""

    channel: Channel
    owner: DeviceId


def build(channel: Channel, owner: DeviceId) -> str:
    """The topic of `owner`'s channel."""
    return f"{_ROOTS[channel]}/{owner}/{channel}"


def pattern(channel: Channel, owner: str) -> str:
    """The topic with a placeholder in the owner's place, such as the broker's own `%c`."""
    return f"{_ROOTS[channel]}/{owner}/{channel}"


def parse(topic: str) -> Address | None:
    """Whose channel a topic is, or None if it is none of ours."""
    parts = topic.split("/")
    if len(parts) != 3:
        return None
    root, owner, last = parts
    try:
        channel = Channel(last)
    except ValueError:
        return None
    if _ROOTS[channel] != root or not is_device_id(owner):
        return None
    return Address(channel, DeviceId(owner))


def subscription(channel: Channel) -> str:
    """The filter that matches every owner's channel."""
    return f"{_ROOTS[channel]}/+/{channel}"


class Kafka(StrEnum):
    """Kafka topics. A name's version changes only with a breaking change of its contract."""

    RAW = "iot.telemetry.raw.v1"
    NORMALIZED = "iot.telemetry.normalized.v1"
    REJECTED = "iot.telemetry.rejected.v1"
    GAP = "iot.telemetry.gap.v1"
    ANOMALY = "iot.anomaly.detected.v1"
    ROLLOUT = "iot.firmware.rollout.v1"
    LIFECYCLE = "iot.device.lifecycle.v1"
    CONDUCT = "iot.device.conduct.v1"
    REGISTRY = "iot.device.registry.v1"
    STOCK = "ecommerce.inventory.stock.adjusted.v1"


COMPACTED = frozenset({Kafka.REGISTRY})
"""Topics whose newest record per key is their meaning; all others are kept by time."""
