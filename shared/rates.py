"""How much a device may send: sustained rates, where they come from, and what the registry tells of them. PURE.

A device's own limits go before its type's, those before the policy's, those before the defaults here: each figure by
itself. Who does not know a device takes the policy's, and who knows no policy the defaults; nobody waits for it.
"""

from collections.abc import Mapping

import msgspec

from shared.device import Kind, Limits

RECORD_KEY = b"_limits"
"""Key of the one record of the registry topic that is about no device: what types and the policy say of limits."""
RECORD_TYPE = "iot.device.limits.v1"


class Rates(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Each figure is a token bucket of its own that holds `burst_s` seconds' worth."""

    messages_per_s: float
    bytes_per_s: float
    readings_per_s: float
    burst_s: float = 10.0


DEVICE = Rates(500.0, 4.0 * 1024 * 1024, 5_000.0)
GATEWAY = Rates(500.0, 16.0 * 1024 * 1024, 50_000.0)
"""The defaults: far above what a thing of that kind sends in earnest, far below what the hub takes from all."""


class Defaults(msgspec.Struct, frozen=True, omit_defaults=True):
    """The value of the record `RECORD_KEY`: a type's own figures by its name, and the policy's for all others.

    `version` rises with every change.
    """

    version: int = 0
    device: Rates = DEVICE
    gateway: Rates = GATEWAY
    types: Mapping[str, Limits] = {}

    def rates(self, kind: Kind, device_type: str | None, own: Limits | None) -> Rates:
        """What this device may send."""
        found = self.gateway if kind is Kind.GATEWAY else self.device
        of_type = self.types.get(device_type) if device_type is not None else None
        return over(over(found, of_type), own)


def over(rates: Rates, limits: Limits | None) -> Rates:
    """These rates with the figures that `limits` names."""
    if limits is None:
        return rates
    return Rates(
        limits.messages_per_s or rates.messages_per_s,
        limits.bytes_per_s or rates.bytes_per_s,
        limits.readings_per_s or rates.readings_per_s,
        rates.burst_s,
    )


def encode_defaults(defaults: Defaults) -> bytes:
    """The record's value."""
    return msgspec.json.encode(defaults)


_DEFAULTS = msgspec.json.Decoder(Defaults)


def decode_defaults(data: bytes) -> Defaults:
    """The record's value; raises msgspec.ValidationError on what our own registry never writes."""
    return _DEFAULTS.decode(data)
