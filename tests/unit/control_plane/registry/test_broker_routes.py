"""`POST /v1/broker:rebuild`: who may, what it says, and where the hub was not told how."""

from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from control_plane.registry import api, broker_routes
from control_plane.registry.access.logins import Logins
from control_plane.registry.access.token_uses import TokenUses
from control_plane.registry.guard import Guard
from control_plane.registry.rebuild import Rebuilt
from shared.authority import Actor, Role
from tests.unit.control_plane.registry.test_guard import NAME, TOKEN, Tokens, no_write


class Rebuild:
    """Notes how it was asked."""

    def __init__(self, *, possible: bool = True) -> None:
        self.possible = possible
        self.asked: list[Any] = []

    async def run(self, reason: str, actor: Actor, *, announce_s: float | None = None) -> Rebuilt:
        self.asked.append((reason, actor.id, announce_s))
        return Rebuilt(7, 0, 1)


async def post(rebuild: Rebuild, role: Role, body: object) -> httpx.Response:
    app = FastAPI()
    guard = Guard(Tokens(role, frozenset()), Logins(), TokenUses(no_write))  # type: ignore[arg-type]  # a stand-in
    rooms: Any = SimpleNamespace(rebuild=rebuild)
    app.include_router(broker_routes.router(rooms, guard))
    api._refusals(app)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://hub") as client:
        return await client.post("/v1/broker:rebuild", json=body, headers={"Authorization": f"Bearer {TOKEN}"})


async def test_an_admin_has_it_rebuilt() -> None:
    rebuild = Rebuild()
    answer = await post(rebuild, Role.ADMIN, {"announce_s": 30})
    assert (answer.status_code, answer.json()) == (200, {"records": 7, "arrived": 0, "restarts": 1})
    assert (await post(rebuild, Role.ADMIN, {})).status_code == 200
    assert rebuild.asked == [("asked for", NAME, 30), ("asked for", NAME, None)]


@pytest.mark.parametrize(
    ("role", "body", "status"),
    [
        (Role.OPERATOR, {}, 403),
        (Role.ADMIN, {"announce_s": -1}, 422),
        (Role.ADMIN, {"announce_s": 601}, 422),
        (Role.ADMIN, {"announce": 1}, 422),
    ],
)
async def test_what_is_refused_restarts_nothing(role: Role, body: object, status: int) -> None:
    rebuild = Rebuild()
    assert (await post(rebuild, role, body)).status_code == status
    assert rebuild.asked == []


async def test_a_hub_that_was_not_told_how_says_what_to_do() -> None:
    answer = await post(Rebuild(possible=False), Role.ADMIN, {})
    assert answer.status_code == 409
    assert "HUB_BROKER_RESTART_COMMAND" in answer.json()["detail"]
