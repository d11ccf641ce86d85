"""What a registration may do, given what the database holds. PURE.

A device whose registration was never answered does not exist for anybody, since its key was never shown: the next
registration of its id or serial takes its place. So a crash at any step is mended by asking again, whether or not the
request bears an Idempotency-Key; the key adds that a repeat after the answer finds its device.

Leaves reading and writing rows to `store`, the broker to `registrar`.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from shared.device import Kind
from shared.ids import DeviceId


@dataclass(frozen=True, slots=True)
class Request:
    """A registration, its fields already judged one by one. Without `id` the registry chooses one."""

    serial: str
    type: str
    kind: Kind
    id: DeviceId | None = None
    gateway_id: DeviceId | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    location: Mapping[str, str | float] = field(default_factory=dict)

    def fingerprint(self) -> bytes:
        """SHA-256 of what is asked: two requests of one Idempotency-Key must agree in it."""
        fields: list[object] = [
            self.id,
            self.serial,
            self.type,
            self.kind,
            self.gateway_id,
            sorted(self.labels.items()),
        ]
        if self.location:  # as it was before there were locations, for the keys that are kept since then
            fields.append(sorted(self.location.items()))
        return hashlib.sha256(json.dumps(fields).encode()).digest()


@dataclass(frozen=True, slots=True)
class Claim:
    """What an Idempotency-Key was used for. `key_used`: its device's newest key has been used at the broker."""

    fingerprint: bytes
    device_id: DeviceId
    registered: bool
    key_used: bool


@dataclass(frozen=True, slots=True)
class Holder:
    """A device that has the wanted id or serial already."""

    id: DeviceId
    registered: bool


@dataclass(frozen=True, slots=True)
class Known:
    """All that the database holds about a request. `gateway_kind`: None if no such device is registered."""

    claim: Claim | None = None
    same_id: Holder | None = None
    same_serial: Holder | None = None
    gateway_kind: Kind | None = None


class Refusal(StrEnum):
    """Why a registration is refused; the API's problem types end in these words."""

    ID_TAKEN = "id-taken"
    SERIAL_TAKEN = "serial-taken"
    GATEWAY_UNKNOWN = "gateway-unknown"
    GATEWAY_BEHIND_GATEWAY = "gateway-behind-gateway"
    IDEMPOTENCY_KEY_REUSED = "idempotency-key-reused"
    TOO_MANY_LABELS = "too-many-labels"


@dataclass(frozen=True, slots=True)
class Refused:
    """Nothing is written."""

    why: Refusal
    detail: str


@dataclass(frozen=True, slots=True)
class Create:
    """Write a new device. `replaces`: unfinished registrations that end."""

    device_id: DeviceId
    replaces: tuple[DeviceId, ...] = ()


@dataclass(frozen=True, slots=True)
class Renew:
    """The device is there and its key was never used: give it a new key and end the unseen one."""

    device_id: DeviceId


@dataclass(frozen=True, slots=True)
class Repeat:
    """The device is there and its key is in use: answer with the device alone."""

    device_id: DeviceId


Decision = Create | Renew | Repeat | Refused


def decide(request: Request, known: Known, fresh_id: DeviceId) -> Decision:
    """What to do. `fresh_id` is used where neither the request nor an earlier try of it chose an id."""
    claim = known.claim
    if claim is not None:
        if claim.fingerprint != request.fingerprint():
            return Refused(
                Refusal.IDEMPOTENCY_KEY_REUSED, "this Idempotency-Key was sent before with another request"
            )
        if claim.registered:
            return Repeat(claim.device_id) if claim.key_used else Renew(claim.device_id)
    refused = _conflict(request, known)
    if refused is not None:
        return refused
    device_id = request.id or (claim.device_id if claim else fresh_id)
    unfinished = {holder.id for holder in (known.same_id, known.same_serial) if holder is not None}
    if claim is not None:
        unfinished.add(claim.device_id)
    return Create(device_id, tuple(sorted(unfinished)))


def _conflict(request: Request, known: Known) -> Refused | None:
    if known.same_id is not None and known.same_id.registered:
        return Refused(Refusal.ID_TAKEN, f"a device with the id {request.id} is registered already")
    if known.same_serial is not None and known.same_serial.registered:
        return Refused(Refusal.SERIAL_TAKEN, "a device of this type with this serial is registered already")
    return gateway_refusal(request.kind, request.gateway_id, known.gateway_kind)


def gateway_refusal(kind: Kind, gateway_id: DeviceId | None, gateway_kind: Kind | None) -> Refused | None:
    """Why a device of `kind` cannot be behind `gateway_id`, or None; no gateway is always fine."""
    if gateway_id is None:
        return None
    if kind is Kind.GATEWAY:
        return Refused(Refusal.GATEWAY_BEHIND_GATEWAY, "a gateway is not behind another gateway")
    if gateway_kind is not Kind.GATEWAY:
        return Refused(Refusal.GATEWAY_UNKNOWN, f"no gateway with the id {gateway_id} is registered")
    return None
