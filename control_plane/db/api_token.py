"""The form of an API token: `<id>.<secret>`, of which the database has the id and the secret's hash. PURE."""

import hashlib


def split_token(token: str) -> tuple[str, str] | None:
    """The token's name and secret, or None for what is shaped like no token of ours."""
    name, dot, secret = token.partition(".")
    if not dot or not name.startswith("t-") or not secret or len(token) > 128:
        return None
    return name, secret


def token_hash(secret: str) -> bytes:
    """SHA-256: enough for 256 random bits, and each request pays for it."""
    return hashlib.sha256(secret.encode()).digest()
