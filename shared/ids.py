"""Identities: parsed once at the border, trusted after.

Devices and gateways share one id space (a gateway is a device of kind gateway). Three kinds of names are
disjoint by construction: device ids begin with a letter or digit and hold no colon, client ids of our own
services begin with `_`, and key ids begin with `k:`.
"""

import base64
import re
import secrets
from typing import NewType

from shared.errors import Reason, Rejected

DeviceId = NewType("DeviceId", str)
KeyId = NewType("KeyId", str)
Epoch = NewType("Epoch", str)
"""128 random bits in unpadded base64url (22 characters); compared only for equality."""

ID_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$"
_ID = re.compile(ID_PATTERN + r"\Z")
_EPOCH = re.compile(r"^[A-Za-z0-9_-]{22}\Z")
_ALPHABET = "abcdefghijkmnpqrstuvwxyz23456789"  # no l, o, 0, 1: ids are read aloud and typed

_EVEN = bytes(_ALPHABET[number % len(_ALPHABET)].encode()[0] for number in range(256))
"""Each of the alphabet's 32 characters for 8 of a byte's 256 values."""


def parse_device_id(text: str) -> DeviceId | Rejected:
    """The id, or why it is none."""
    if _ID.match(text):
        return DeviceId(text)
    return Rejected(Reason.BAD_FIELD, "an id is 1 to 64 of A-Z a-z 0-9 _ - and begins with a letter or a digit")


def is_device_id(text: str) -> bool:
    """True if `text` is shaped like a device's or gateway's id."""
    return _ID.match(text) is not None


def is_epoch(text: str) -> bool:
    """True if `text` is shaped like an epoch."""
    return _EPOCH.match(text) is not None


def new_device_id() -> DeviceId:
    """12 random characters (60 bits)."""
    return DeviceId(_random(12))


def new_key_id() -> KeyId:
    """A key's public half: also the username at the broker."""
    return KeyId("k:" + _random(12))


def new_enrolment_id() -> str:
    """An enrolment token's public half."""
    return "e-" + _random(12)


def new_secret() -> str:
    """A key's secret half: 256 random bits, base64url."""
    return secrets.token_urlsafe(32)


def new_epoch() -> Epoch:
    """A fresh epoch of the batch protocol."""
    return Epoch(base64.urlsafe_b64encode(secrets.token_bytes(16)).rstrip(b"=").decode())


def _random(length: int) -> str:
    return secrets.token_bytes(length).translate(_EVEN).decode("ascii")
