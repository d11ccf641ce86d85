"""REST of API tokens."""

import hashlib
from datetime import UTC, datetime
from typing import Annotated

from fastapi import APIRouter, Header, Path, Query, Response

from control_plane.db.api_token import split_token, token_hash
from control_plane.db.secret_files import new_token
from control_plane.registry.access.events import TokenCreated, TokenRevoked
from control_plane.registry.access.rules import Reach, TokenRefusal, TokenRefused
from control_plane.registry.access.token_documents import (
    TOKEN_ID_PATTERN,
    ApiToken,
    ApiTokenList,
    CreatedApiToken,
    NewApiToken,
    created_token,
    token_view,
)
from control_plane.registry.access.token_store import TokenStore, Wanted
from control_plane.registry.guard import UNAUTHENTICATED, Guard
from control_plane.registry.paging import LONGEST_PAGE, PAGE, after, next_cursor
from control_plane.registry.problem import FieldError, Problem, ProblemRaised
from control_plane.registry.rooms import Rooms
from shared.authority import Actor, Operation

_STATUS = {TokenRefusal.WIDER: 403, TokenRefusal.LAST_ADMIN: 409, TokenRefusal.KEY_REUSED: 422}
_LETTERS = "abcdefghijkmnpqrstuvwxyz23456789"
_NO_TOKEN = Problem(404, "there is no such token", "not-found")


def router(rooms: Rooms, guard: Guard) -> APIRouter:
    """Tokens."""
    found = APIRouter(tags=["tokens"])
    reader = guard.needs(Operation.TOKENS_READ)
    writer = guard.needs(Operation.TOKENS_WRITE)
    named = Path(pattern=TOKEN_ID_PATTERN)

    @found.post("/v1/tokens", status_code=201, summary="Make an API token")
    async def create_token(
        body: NewApiToken,
        response: Response,
        actor: Annotated[Actor, writer],
        idempotency_key: Annotated[str | None, Header(min_length=1, max_length=128)] = None,
    ) -> CreatedApiToken:
        """Shown once. Its role, scopes and end cannot reach beyond those of the token that makes it. With an
        Idempotency-Key the same request may be sent again: until the token was used it gets a new secret, which ends
        the unseen one; afterwards the answer has none.
        """
        name, secret = split_token(new_token()) or ("", "")
        if idempotency_key is not None:
            name = _name_of(actor.id, idempotency_key)
        reach = Reach(body.role.role(), frozenset(body.scopes), _end(body))
        made = await TokenStore(rooms.database).create(
            Wanted(name, token_hash(secret), body.name, reach), actor, repeatable=idempotency_key is not None
        )
        if isinstance(made, TokenRefused):
            raise _refused(made)
        response.headers["Location"] = f"/v1/tokens/{name}"
        response.headers["Cache-Control"] = "no-store"
        if made.shown:
            TokenCreated(name, body.role.value, sorted(body.scopes)).emit()
        else:
            response.status_code = 200
        return created_token(made.row, f"{name}.{secret}" if made.shown else None)

    @found.get("/v1/tokens", summary="List API tokens", dependencies=[reader])
    async def list_tokens(
        cursor: Annotated[str | None, Query(max_length=128)] = None,
        limit: Annotated[int, Query(ge=1, le=LONGEST_PAGE)] = PAGE,
        usable: Annotated[bool | None, Query(description="Only those that are let in, or only the others.")] = None,
    ) -> ApiTokenList:
        """In order of id; never with a secret."""
        there = await TokenStore(rooms.database).tokens(after=after(cursor), limit=limit + 1, usable=usable)
        page = [token_view(row) for row in there[:limit]]
        more = len(there) > limit
        return ApiTokenList(tokens=page, next_cursor=next_cursor(page[-1].id if more else "", more))

    @found.get("/v1/tokens/{token_id}", summary="Show an API token", dependencies=[reader])
    async def show_token(token_id: Annotated[str, named]) -> ApiToken:
        row = await TokenStore(rooms.database).token(token_id)
        if row is None:
            raise ProblemRaised(_NO_TOKEN)
        return token_view(row)

    @found.delete("/v1/tokens/{token_id}", summary="Revoke an API token")
    async def revoke_token(token_id: Annotated[str, named], actor: Annotated[Actor, writer]) -> ApiToken:
        """Refused from the next request on; its record stays for the audit log. Doing it again changes nothing. The
        last admin token without scopes cannot be revoked (409).
        """
        done = await TokenStore(rooms.database).revoke(token_id, actor)
        if done is None:
            raise ProblemRaised(_NO_TOKEN)
        if isinstance(done, TokenRefused):
            raise _refused(done)
        TokenRevoked(token_id).emit()
        return token_view(done)

    return found


def _name_of(actor_id: str, idempotency_key: str) -> str:
    """The id that this actor's request always gets: so the repeat finds what the first one made. 60 bits."""
    digest = hashlib.sha256(f"{actor_id}\0{idempotency_key}".encode()).digest()
    return "t-" + "".join(_LETTERS[byte % len(_LETTERS)] for byte in digest[:12])


def _end(body: NewApiToken) -> datetime | None:
    try:
        return body.end(datetime.now(UTC))
    except ValueError as error:
        errors = [FieldError("/expires_at", str(error))]
        raise ProblemRaised(Problem(422, f"/expires_at: {error}", "invalid", errors)) from error


def _refused(refused: TokenRefused) -> ProblemRaised:
    if refused.why is TokenRefusal.ENDED:
        return ProblemRaised(UNAUTHENTICATED)
    return ProblemRaised(Problem(_STATUS[refused.why], refused.detail, refused.why))
