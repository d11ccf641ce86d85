"""What a record of `rejected` or of `conduct` says against whom. PURE.

Whose fault it is: of a message, its sender's; of a reading that came through a gateway, the device's that it is of,
provided it is behind that gateway (whoever carries out the verdict looks that up); of a reading for a device that is
not its own, the gateway's. Nothing is taken from a payload but the digest that the normaliser made.
"""

from datetime import datetime
from typing import NamedTuple

import msgspec

from control_plane.registry.quarantine.rules import Rule
from shared.errors import Reason
from shared.ids import DeviceId, is_device_id

_BATCHES, _MESSAGE = "batches", "message"
_RULES = {
    **dict.fromkeys(
        (
            Reason.MALFORMED, Reason.TRUNCATED, Reason.BOMB, Reason.TOO_LARGE, Reason.MISSING_TS, Reason.BAD_TS,
            Reason.BAD_FIELD, Reason.NOT_FINITE,
        ),
        Rule.MALFORMED_RATE,
    ),
    Reason.THROTTLED: Rule.FLOOD,
    Reason.FOREIGN_DEVICE: Rule.FOREIGN_DEVICES,
    Reason.PROTOCOL: Rule.FALSE_HEADERS,
}  # fmt: skip
"""Every other reason is no misbehaviour: a device that waits for approval, an agent that is newer than the hub."""


class Observation(NamedTuple):
    """`signs` of misbehaviour at a time. `behind`: the gateway they came through, if they are a device's."""

    device_id: DeviceId
    rule: Rule
    at_ms: int
    signs: int
    behind: str | None
    sample: str


class _Origin(msgspec.Struct):
    kind: str
    sender: str
    record: str
    received_at: str
    device_id: str | None = None
    accepted_at: str | None = None


class _Rejected(msgspec.Struct):
    reason: str
    origin: _Origin
    sha256: str


class _Conduct(msgspec.Struct):
    device_id: str
    kind: str
    count: int
    at: str
    gateway_id: str | None = None


_REJECTED = msgspec.json.Decoder(_Rejected)
_CONDUCT = msgspec.json.Decoder(_Conduct)


def of_rejected(value: bytes) -> Observation | None:
    """What a refusal says, or None if it is no misbehaviour or no record of ours."""
    try:
        found = _REJECTED.decode(value)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return None
    rule = _RULES.get(found.reason)  # type: ignore[call-overload]  # a word that is no reason has no rule
    if rule is None:
        return None
    origin = found.origin
    of_sender = origin.kind != _BATCHES or origin.record == _MESSAGE or rule is Rule.FOREIGN_DEVICES
    culprit = origin.sender if of_sender else origin.device_id
    behind = None if of_sender or culprit == origin.sender else origin.sender
    return _observation(culprit, rule, origin.accepted_at or origin.received_at, 1, behind, found.sha256)


def of_conduct(value: bytes) -> Observation | None:
    """What a record of conduct says."""
    try:
        found = _CONDUCT.decode(value)
        rule = Rule(found.kind)
    except (msgspec.MsgspecError, UnicodeDecodeError, ValueError):
        return None
    behind = found.gateway_id if found.gateway_id != found.device_id else None
    return _observation(found.device_id, rule, found.at, found.count, behind, "")


def _observation(
    culprit: str | None, rule: Rule, at: str, signs: int, behind: str | None, sample: str
) -> Observation | None:
    # Our own services have no device's id, so no rule ever speaks against one.
    if culprit is None or not is_device_id(culprit) or signs < 1:
        return None
    try:
        at_ms = int(datetime.fromisoformat(at).timestamp() * 1_000)
    except (ValueError, OverflowError):
        return None
    return Observation(DeviceId(culprit), rule, at_ms, signs, behind, sample)
