"""What a token may do to other tokens: never more than it may do itself. PURE."""

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from shared.authority import Actor, Role

LASTING = timedelta(days=1)
"""An admin token counts as a way back in only if it is good for this long yet."""


class TokenRefusal(StrEnum):
    """Why a change of tokens is not done; the last part of the problem's type."""

    WIDER = "wider-than-own"
    LAST_ADMIN = "last-admin-token"
    KEY_REUSED = "idempotency-key-reused"
    ENDED = "unauthenticated"
    """The token that asks was revoked, or expired, in this moment."""


@dataclass(frozen=True, slots=True)
class TokenRefused:
    """A refusal in words for who asks."""

    why: TokenRefusal
    detail: str


@dataclass(frozen=True, slots=True)
class Reach:
    """What a token opens, and until when (None: no end)."""

    role: Role
    scopes: frozenset[str]
    expires_at: datetime | None


def widening(actor: Actor, wanted_role: Role, wanted_scopes: Collection[str]) -> str | None:
    """In what a token would open more than the actor's own, or None if in nothing."""
    if wanted_role > actor.role:
        return f"the role {wanted_role.name.lower()} is above that of the token that asks"
    if not actor.scopes:
        return None
    if not wanted_scopes:
        return "the token that asks is narrowed to scopes; name some of them"
    wider = sorted(
        scope for scope in wanted_scopes if scope not in actor.scopes and scope.partition(":")[0] not in actor.scopes
    )
    return f"the token that asks has not the scopes {', '.join(wider)}" if wider else None


def outliving(own_end: datetime | None, wanted_end: datetime | None) -> str | None:
    """Whether a token would be good for longer than the one that makes it."""
    if own_end is None or (wanted_end is not None and wanted_end <= own_end):
        return None
    return f"the token that asks ends at {own_end.isoformat()}; name an end that is not later"


def leaves_no_way_in(revoked: str, admins: Iterable[tuple[str, datetime | None]], now: datetime) -> bool:
    """Whether revoking that token leaves nobody who may do all. `admins`: id and end of every admin token that is
    good now and not narrowed.
    """
    ends = dict(admins)
    if revoked not in ends:
        return False
    return not any(end is None or end > now + LASTING for name, end in ends.items() if name != revoked)


LAST_ADMIN_WORDS = (
    "it is the last admin token without scopes that is good for another day; first make another one "
    "(`hub token create NAME --role admin --token-file FILE`), then revoke this one"
)
