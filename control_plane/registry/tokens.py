"""Who asks: API tokens. What they may: `shared.authority`. PURE.

A token is `<id>.<secret>`; the database has the SHA-256 of the secret. Comparison takes the same time wherever the
first difference lies, and an unknown id is compared too.
"""

import hmac
from dataclasses import dataclass

from control_plane.db.api_token import split_token, token_hash
from control_plane.registry.access.attempts import Failure
from shared.authority import Actor, Role


@dataclass(frozen=True, slots=True)
class Presented:
    """A token as it was sent."""

    id: str
    hash: bytes


@dataclass(frozen=True, slots=True)
class Stored:
    """A token as the database has it. `ended`: why it is good no more."""

    id: str
    role: Role
    hash: bytes
    scopes: frozenset[str] = frozenset()
    ended: Failure | None = None


_NOBODY = b"\0" * 32


def read_header(header: str | None) -> Presented | None:
    """The token in an Authorization header, or None if there is none of our form."""
    scheme, _, token = (header or "").partition(" ")
    split = split_token(token.strip())
    if scheme.lower() != "bearer" or split is None:
        return None
    return Presented(split[0], token_hash(split[1]))


def check(presented: Presented, stored: Stored | None, source: str | None = None) -> Actor | Failure:
    """Who that is, asking from the address `source`, or why nobody."""
    if not hmac.compare_digest(presented.hash, stored.hash if stored else _NOBODY) or stored is None:
        return Failure.WRONG if stored else Failure.UNKNOWN
    if stored.ended is not None:
        return stored.ended
    return Actor(stored.id, stored.role, stored.scopes, source)
