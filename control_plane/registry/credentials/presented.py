"""A device's key as it is sent to REST: `Authorization: Bearer <key id>.<secret>`. PURE.

The comparison takes the same time wherever the first difference lies, and for a key that does not exist too.
"""

import base64
import binascii
import hashlib
import hmac
import re
from dataclasses import dataclass

from shared.config import Secret
from shared.ids import KeyId

_KEY = re.compile(r"(k:[a-z0-9]{1,64})\.([A-Za-z0-9_-]{16,256})\Z")
_NOBODY = "$7$101$" + base64.b64encode(b"\0" * 12).decode() + "$" + base64.b64encode(b"\0" * 64).decode()
_HASH_BYTES = 64


@dataclass(frozen=True, slots=True)
class Presented:
    """A key as it was sent."""

    key_id: KeyId
    secret: Secret


def read_header(header: str | None) -> Presented | None:
    """The key in an Authorization header, or None if there is none of our form."""
    scheme, _, words = (header or "").partition(" ")
    found = _KEY.match(words.strip())
    if scheme.lower() != "bearer" or found is None:
        return None
    return Presented(KeyId(found[1]), Secret(found[2]))


def matches(secret: Secret | str, stored: str | None) -> bool:
    """Whether the secret is the one of this hash (the broker's format, see `dynsec`); `stored`: None for no key."""
    kind, iterations, salt, key = _parts(stored or _NOBODY) or _parts(_NOBODY)  # type: ignore[misc]  # it has parts
    made = hashlib.pbkdf2_hmac("sha512", str(secret).encode(), salt, iterations, _HASH_BYTES)
    return hmac.compare_digest(made, key) and stored is not None and kind == "7"


def _parts(stored: str) -> tuple[str, int, bytes, bytes] | None:
    try:
        _, kind, iterations, salt, key = stored.split("$")
        return kind, max(1, int(iterations)), base64.b64decode(salt, validate=True), base64.b64decode(key)
    except (ValueError, binascii.Error):
        return None
