"""What every service needs to know of a device: the value of the compacted registry topic. PURE."""

from enum import StrEnum

import msgspec

from shared.errors import Reason, Rejected


class Kind(StrEnum):
    """A gateway is a device that speaks for others."""

    DEVICE = "device"
    GATEWAY = "gateway"


class Status(StrEnum):
    """Where a device stands in its life."""

    PENDING = "pending"
    PROVISIONED = "provisioned"
    ACTIVE = "active"
    QUARANTINED = "quarantined"
    SUSPENDED = "suspended"
    RETIRED = "retired"


class Ownership(msgspec.Struct, frozen=True):
    """The device was behind `gateway_id` from `from_ms` until `until_ms` (epoch ms; None: still)."""

    gateway_id: str
    from_ms: int
    until_ms: int | None = None


class Limits(msgspec.Struct, frozen=True):
    """Token buckets of one device: sustained rates and bursts. None means the default."""

    messages_per_s: float | None = None
    bytes_per_s: float | None = None
    readings_per_s: float | None = None


class DeviceView(msgspec.Struct, frozen=True):
    """One device in the registry topic, keyed by its id; a tombstone says it was forgotten.

    `version` rises with every change, so a reader that sees an older one knows it is late.
    """

    id: str
    kind: Kind
    type: str
    status: Status
    version: int
    gateways: tuple[Ownership, ...] = ()
    limits: Limits | None = None
    replaced_ms: int | None = None
    """When another gateway took this one's place: it speaks of earlier moments alone."""

    def owned_by(self, gateway_id: str, at_ms: int, *, slack_ms: int = 0) -> bool:
        """True if `gateway_id` may speak for this device about the moment `at_ms`, give or take `slack_ms`.

        The present owner may always: a gateway without a clock stamps 1970 until it is corrected.
        """
        return self.id == gateway_id or any(
            own.gateway_id == gateway_id
            and (own.until_ms is None or (own.from_ms - slack_ms <= at_ms < own.until_ms + slack_ms))
            for own in self.gateways
        )


_REFUSALS = {
    Status.PENDING: Rejected(Reason.PENDING, "the device waits for approval"),
    Status.QUARANTINED: Rejected(Reason.QUARANTINED, "the device is quarantined"),
    Status.SUSPENDED: Rejected(Reason.SUSPENDED, "the device is suspended"),
    Status.RETIRED: Rejected(Reason.RETIRED, "the device is retired"),
}


def refusal(status: Status) -> Rejected | None:
    """Why a device of this status is not heard, or None if it is."""
    return _REFUSALS.get(status)


def encode_view(view: DeviceView) -> bytes:
    """The registry topic's value."""
    return msgspec.json.encode(view)


_VIEW = msgspec.json.Decoder(DeviceView)


def decode_view(data: bytes) -> DeviceView:
    """The view; raises msgspec.ValidationError on what our own registry never writes."""
    return _VIEW.decode(data)
