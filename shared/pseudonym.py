"""A device's name outside the IoT domain: logs, metric labels, other domains' events. PURE.

A keyed HMAC-SHA-256 cut to 80 bits: the same device has the same pseudonym everywhere under one key, and
without the key nobody can go from one to the other, nor test a guess.
"""

import base64
import hashlib
import hmac


def pseudonym(key: bytes, device_id: str) -> str:
    """`p-` and 16 lower-case base32 characters."""
    assert len(key) >= 16
    digest = hmac.digest(key, device_id.encode(), hashlib.sha256)
    return "p-" + base64.b32encode(digest[:10]).decode().lower()
