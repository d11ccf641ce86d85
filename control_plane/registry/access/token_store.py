"""The tokens' rows. Each method is one transaction, with its line in the audit log. Raises Transient or Permanent."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.resources import files
from typing import Any

from control_plane.db import queries
from control_plane.db.connect import Connection, Pool, acquire, transaction
from control_plane.registry import journal
from control_plane.registry.access.rules import (
    LAST_ADMIN_WORDS,
    Reach,
    TokenRefusal,
    TokenRefused,
    leaves_no_way_in,
    outliving,
    widening,
)
from shared.authority import Actor, Role

_SQL = queries.parse((files(__package__) / "queries.sql").read_text(encoding="utf-8"))

Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Wanted:
    """A token to be: its id and its secret's hash are drawn already. `name` is for people."""

    id: str
    hash: bytes
    name: str
    reach: Reach


@dataclass(frozen=True, slots=True)
class Made:
    """A token's row. `shown`: whether `Wanted.hash` is that of its secret; False: an earlier one is in use."""

    row: Row
    shown: bool


class TokenStore:
    """All statements about tokens but the guard's."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def create(self, wanted: Wanted, actor: Actor, *, repeatable: bool) -> Made | TokenRefused:
        """Make it. `repeatable`: its id was made from an Idempotency-Key, so one that is there already is the same
        request again; until it was used it gets the new secret.
        """
        reach = wanted.reach
        async with transaction(self._pool) as db:
            creator = await db.fetchrow(_SQL["creator"], actor.id)
            if creator is None or creator["ended"]:
                return TokenRefused(TokenRefusal.ENDED, "the token that asks has ended")
            wider = widening(actor, reach.role, reach.scopes) or outliving(creator["expires_at"], reach.expires_at)
            if wider is not None:
                return TokenRefused(TokenRefusal.WIDER, wider)
            role = reach.role.name.lower()
            scopes = sorted(reach.scopes)
            made = await db.fetchval(
                _SQL["insert_token"], wanted.id, wanted.name, role, wanted.hash, scopes, reach.expires_at, actor.id
            )
            if made is None:
                assert repeatable, "two tokens were drawn with one id"
                return await _repeat(db, wanted, actor)
            await journal.audit(
                db,
                actor,
                "token.create",
                wanted.id,
                {"role": role, "scopes": scopes, "expires_at": reach.expires_at},
                after={"name": wanted.name},
            )
            row = await db.fetchrow(_SQL["token_view"], wanted.id)
        assert row is not None
        return Made(dict(row), shown=True)

    async def revoke(self, token_id: str, actor: Actor) -> Row | TokenRefused | None:
        """Refuse it from now on; doing it again changes nothing. None if there is no such token."""
        async with transaction(self._pool) as db:
            admins = await db.fetch(_SQL["hold_admins"])
            row = await db.fetchrow(_SQL["token_for_change"], token_id)
            if row is None or row["revoked_at"] is not None:
                return dict(row) if row else None
            wider = widening(actor, Role[row["role"].upper()], row["scopes"])
            if wider is not None and token_id != actor.id:
                return TokenRefused(TokenRefusal.WIDER, f"it opens more than the token that asks: {wider}")
            ends = [(admin["id"], admin["expires_at"]) for admin in admins]
            if leaves_no_way_in(token_id, ends, datetime.now(UTC)):
                return TokenRefused(TokenRefusal.LAST_ADMIN, LAST_ADMIN_WORDS)
            await db.execute(_SQL["revoke_token"], token_id)
            await journal.audit(db, actor, "token.revoke", token_id)
            return dict(await db.fetchrow(_SQL["token_view"], token_id) or {})

    async def token(self, token_id: str) -> Row | None:
        """One token."""
        async with acquire(self._pool) as db:
            row = await db.fetchrow(_SQL["token_view"], token_id)
        return dict(row) if row else None

    async def tokens(self, *, after: str, limit: int, usable: bool | None) -> Sequence[Row]:
        """Tokens in order of id, from the first one after `after`; `usable`: only those, only others, or all."""
        async with acquire(self._pool) as db:
            return [dict(row) for row in await db.fetch(_SQL["tokens"], after, usable, limit)]

    async def use(self, uses: Mapping[str, datetime]) -> None:
        """Note when tokens were last used."""
        async with acquire(self._pool) as db:
            await db.execute(_SQL["use_tokens"], list(uses), list(uses.values()))


async def _repeat(db: Connection, wanted: Wanted, actor: Actor) -> Made | TokenRefused:
    row = await db.fetchrow(_SQL["token_for_change"], wanted.id)
    assert row is not None, "the insert met it"
    same = (row["name"], Role[row["role"].upper()], frozenset(row["scopes"])) == (
        wanted.name,
        wanted.reach.role,
        wanted.reach.scopes,
    )
    if not same or row["created_by"] != actor.id:
        return TokenRefused(TokenRefusal.KEY_REUSED, "this Idempotency-Key was used for another request")
    if row["last_used_at"] is not None or row["state"] != "usable":
        return Made(dict(row), shown=False)
    await db.execute(_SQL["renew_token"], wanted.id, wanted.hash)
    await journal.audit(db, actor, "token.reissue", wanted.id)
    return Made(dict(row), shown=True)
