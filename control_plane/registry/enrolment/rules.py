"""What an enrolment may do, given what the database holds. PURE.

    token unknown, expired, revoked or used up           -> one refusal, the same for all
    the same hardware, token and key pair once more      -> its gateway, a fresh secret, no further use
    hardware that is known                               -> its gateway keeps its id; one use
    a token that replaces a gateway, other hardware      -> a new id, which takes over the devices; one use
    other hardware                                       -> a new id; one use

A use is spent with the answer and not before, so what was never answered costs none. A gateway whose enrolment was
never answered does not exist for anybody (as in `registration`): the next request of its hardware takes its place.
"""

import hmac
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum

from control_plane.registry.projection import enabled
from control_plane.registry.registration import Holder
from shared.device import Kind, Status
from shared.ids import DeviceId

DRAIN = timedelta(days=30)
"""How long a replaced gateway may still send what it had taken before."""
OVERLAP = timedelta(hours=1)
"""How long the earlier keys of hardware that enrols again go on: an agent that was copied is heard for so long."""
LONGEST_VALID = timedelta(days=365)
MOST_USES = 10_000


@dataclass(frozen=True, slots=True)
class Enrolment:
    """A request, its parts already judged one by one. `public_key`: SHA-256 of the DER form, whose private half the
    sender has proved to hold. `name`: the id that it would like.
    """

    token_id: str
    token_hash: bytes = field(repr=False)
    serial: str
    hardware_id: str
    public_key: bytes
    name: DeviceId | None = None
    version: str = ""


@dataclass(frozen=True, slots=True)
class StoredToken:
    """A token as the database has it."""

    id: str
    hash: bytes = field(repr=False)
    type: str
    uses: int
    used: int
    expires_at: datetime
    revoked: bool
    replaces: DeviceId | None = None
    labels: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Gateway:
    """A registered gateway, or device, as far as this decision looks at it."""

    id: DeviceId
    kind: Kind
    status: Status
    type: str = ""
    serial: str = ""
    hardware_id: str | None = None
    replaced: bool = False
    revoked: bool = False


@dataclass(frozen=True, slots=True)
class Known:
    """All that the database holds about a request.

    `earlier_key`: the public key with which this hardware enrolled by this token before. `hardware`: who has this
    hardware now; `stolen`: who had it when it was revoked. `unfinished`: registrations of this hardware, id or serial
    that were never answered. `replaces`: the gateway that the token replaces, if it is there.
    """

    token: StoredToken | None
    earlier_key: bytes | None = None
    hardware: Gateway | None = None
    stolen: DeviceId | None = None
    same_id: Holder | None = None
    same_serial: Holder | None = None
    replaces: Gateway | None = None
    unfinished: tuple[DeviceId, ...] = ()


class Refusal(StrEnum):
    """Why an enrolment is refused; the API's problem types end in these words."""

    TOKEN = "enrolment-refused"  # noqa: S105 - a word, no secret
    ID_TAKEN = "id-taken"
    SERIAL_TAKEN = "serial-taken"
    STOLEN = "hardware-revoked"
    CLOSED = "gateway-closed"
    REPLACED = "gateway-replaced"


@dataclass(frozen=True, slots=True)
class Refused:
    """Nothing is written."""

    why: Refusal
    detail: str


@dataclass(frozen=True, slots=True)
class Create:
    """Write a new gateway. `ends`: unfinished registrations that end; `takes_over`: whose devices it gets."""

    device_id: DeviceId
    ends: tuple[DeviceId, ...] = ()
    takes_over: DeviceId | None = None


@dataclass(frozen=True, slots=True)
class Renew:
    """Give the gateway a new key. `costs`: a use of the token; `adopts`: it gets this hardware."""

    device_id: DeviceId
    costs: bool
    adopts: bool = False
    takes_over: DeviceId | None = None


Decision = Create | Renew | Refused

REFUSED = Refused(Refusal.TOKEN, "the enrolment token is not valid")
"""One answer for unknown, expired, revoked and used up: a stranger learns nothing of which."""
_NOBODY = b"\0" * 32


def decide(request: Enrolment, known: Known, fresh_id: DeviceId, now: datetime) -> Decision:
    """What to do. `fresh_id` is used where the request chooses no id."""
    token = known.token
    sound = hmac.compare_digest(request.token_hash, token.hash if token is not None else _NOBODY)
    if token is None or not sound or token.revoked or now >= token.expires_at:
        return REFUSED
    repeated = known.earlier_key is not None and hmac.compare_digest(known.earlier_key, request.public_key)
    if not repeated and token.used >= token.uses:
        return REFUSED
    replaces = known.replaces
    if known.hardware is not None:
        return _known_hardware(known.hardware, replaces, costs=not repeated)
    if known.stolen is not None and (replaces is None or replaces.id != known.stolen):
        return Refused(
            Refusal.STOLEN,
            f"this hardware was revoked as {known.stolen}; if it came back, enrol it with a token that replaces it",
        )
    if replaces is not None and _same_hardware_never_told(request, token, replaces):
        return closed(replaces) or Renew(replaces.id, costs=not repeated, adopts=True)
    return _new(request, known, replaces, fresh_id)


def _known_hardware(gateway: Gateway, replaces: Gateway | None, *, costs: bool) -> Decision:
    refused = closed(gateway)
    if refused is not None:
        return refused
    takes_over = replaces.id if replaces is not None and replaces.id != gateway.id and not replaces.replaced else None
    return Renew(gateway.id, costs, takes_over=takes_over)


def closed(gateway: Gateway) -> Refused | None:
    """Why a gateway cannot be given a new key, or None."""
    if gateway.replaced:
        return Refused(Refusal.REPLACED, f"{gateway.id} was replaced by other hardware; retire it first")
    if not enabled(gateway.status):
        return Refused(Refusal.CLOSED, f"{gateway.id} is {gateway.status}; it must be released or resumed first")
    return None


def _same_hardware_never_told(request: Enrolment, token: StoredToken, gateway: Gateway) -> bool:
    """A gateway that was registered by hand under this very serial: the operator names it, so it is this one."""
    here = gateway.status is not Status.RETIRED and gateway.hardware_id is None
    return here and (gateway.type, gateway.serial) == (token.type, request.serial)


def _new(request: Enrolment, known: Known, replaces: Gateway | None, fresh_id: DeviceId) -> Decision:
    if replaces is not None and replaces.replaced:
        return Refused(Refusal.REPLACED, f"{replaces.id} was replaced already")
    if known.same_id is not None and known.same_id.registered:
        return Refused(Refusal.ID_TAKEN, f"a device with the id {request.name} is registered already")
    if known.same_serial is not None and known.same_serial.registered:
        return Refused(
            Refusal.SERIAL_TAKEN,
            "a gateway of this type with this serial, on other hardware, is registered already: enrol with another "
            "--serial, or retire that one",
        )
    return Create(request.name or fresh_id, known.unfinished, replaces.id if replaces is not None else None)


def token_problems(*, uses: int, lasts: timedelta, replaces: Gateway | None, wants: str | None) -> list[str]:
    """Why no such token is made. `wants`: the gateway that it is to replace, as asked; `replaces`: as found."""
    found = []
    if not 1 <= uses <= MOST_USES:
        found.append(f"uses is not between 1 and {MOST_USES}")
    if not timedelta(seconds=1) <= lasts <= LONGEST_VALID:
        found.append("it must expire within 1 second to 365 days")
    if wants is not None:
        if replaces is None or replaces.kind is not Kind.GATEWAY:
            found.append(f"no gateway with the id {wants} is registered")
        elif replaces.replaced:
            found.append(f"{wants} was replaced already")
        if uses != 1:
            found.append("a gateway is replaced by one other: uses must be 1")
    return found
