"""Who gets through a route's guard."""

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any

import httpx
import pytest
from fastapi import FastAPI, Request, Response

from control_plane.db.api_token import split_token, token_hash
from control_plane.db.secret_files import new_token
from control_plane.registry.access.logins import Logins
from control_plane.registry.access.token_uses import TokenUses
from control_plane.registry.guard import Guard, operation_of
from control_plane.registry.problem import ProblemRaised
from control_plane.registry.tokens import Stored
from shared.authority import Actor, Operation, Role

TOKEN = new_token()
NAME, SECRET = split_token(TOKEN) or ("", "")


async def no_write(uses: Mapping[str, datetime]) -> None:
    del uses


class Tokens:
    """The one token, as the database has it."""

    def __init__(self, role: Role, scopes: frozenset[str]) -> None:
        self._stored = Stored(NAME, role, token_hash(SECRET), scopes)

    async def token(self, token_id: str) -> Stored | None:
        return self._stored if token_id == NAME else None


async def ask(role: Role, scopes: frozenset[str], header: str | None) -> httpx.Response:
    app = FastAPI()
    uses = TokenUses(no_write)
    guard = Guard(Tokens(role, scopes), Logins(), uses)  # type: ignore[arg-type]  # a stand-in

    @app.get("/", response_model=None)
    async def route(actor: Annotated[Actor, guard.needs(Operation.DEVICES_WRITE)]) -> dict[str, Any]:
        return {"id": actor.id, "source": actor.source}

    @app.exception_handler(ProblemRaised)
    async def raised(_: Request, error: ProblemRaised) -> Response:
        return Response(error.problem.body(), status_code=error.problem.status)

    transport = httpx.ASGITransport(app, client=("192.0.2.7", 1))
    async with httpx.AsyncClient(transport=transport, base_url="http://hub") as rest:
        return await rest.get("/", headers={"Authorization": header} if header else {})


async def test_a_good_token_is_an_actor_with_its_address() -> None:
    response = await ask(Role.OPERATOR, frozenset(), f"Bearer {TOKEN}")
    assert response.json() == {"id": NAME, "source": "192.0.2.7"}


@pytest.mark.parametrize("header", [None, "Bearer", "Basic {token}", "Bearer {name}.wrong", "Bearer t-nobody.x"])
async def test_who_shows_no_good_token_is_told_the_same(header: str | None) -> None:
    header = header and header.format(token=TOKEN, name=NAME)
    response = await ask(Role.ADMIN, frozenset(), header)
    assert (response.status_code, response.json()["type"]) == (401, "/problems/unauthenticated")


@pytest.mark.parametrize(
    ("role", "scopes"), [(Role.VIEWER, frozenset[str]()), (Role.ADMIN, frozenset({"audit", "devices:read"}))]
)
async def test_a_role_too_low_or_a_scope_too_narrow_is_refused(role: Role, scopes: frozenset[str]) -> None:
    assert (await ask(role, scopes, f"Bearer {TOKEN}")).status_code == 403


def test_a_dependency_tells_its_operation() -> None:
    guard = Guard(Tokens(Role.ADMIN, frozenset()), Logins(), TokenUses(no_write))  # type: ignore[arg-type]
    assert operation_of(guard.needs(Operation.AUDIT_READ).dependency) is Operation.AUDIT_READ
    assert operation_of(print) is None
