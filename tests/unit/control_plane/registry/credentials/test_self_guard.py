"""Who gets through the devices' own door."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from types import SimpleNamespace
from typing import Annotated, Any

import httpx
import pytest
from fastapi import FastAPI, Request, Response

from control_plane.registry import dynsec
from control_plane.registry.access.logins import Logins
from control_plane.registry.credentials.self_guard import SelfActor, SelfGuard
from control_plane.registry.credentials.store import StoredKey
from control_plane.registry.problem import ProblemRaised
from shared.authority import Role
from shared.device import Kind, Status
from shared.ids import DeviceId, KeyId, new_secret

SECRET = new_secret()
HASH = dynsec.hash_secret(SECRET, b"s" * dynsec.SALT_BYTES)
GOOD = StoredKey(DeviceId("dev"), HASH, Kind.GATEWAY, Status.ACTIVE, fresh=False)
HEADER = f"Bearer k:a.{SECRET}"


class Keys:
    """The one key that the database holds valid; `used`: what was noted."""

    def __init__(self, stored: StoredKey) -> None:
        self._stored = stored
        self.used: list[KeyId] = []

    async def presented(self, key_id: KeyId) -> StoredKey | None:
        return self._stored if key_id == "k:a" else None

    async def use(self, uses: Mapping[KeyId, datetime]) -> None:
        self.used += uses


async def ask(keys: Keys, header: str | None, *, replaced: bool = False) -> httpx.Response:
    app = FastAPI()
    rooms: Any = SimpleNamespace(credentials=keys, rings=keys, logins=Logins())
    device = SelfGuard(rooms).device(replaced=replaced)

    @app.get("/", response_model=None)
    async def route(who: Annotated[SelfActor, device]) -> dict[str, Any]:
        assert who.actor.role is Role.VIEWER, "the least"
        return {"device": who.device_id, "key": who.actor.id, "kind": who.kind, "source": who.actor.source}

    @app.exception_handler(ProblemRaised)
    async def raised(_: Request, error: ProblemRaised) -> Response:
        return Response(error.problem.body(), status_code=error.problem.status)

    transport = httpx.ASGITransport(app, client=("192.0.2.7", 1))
    async with httpx.AsyncClient(transport=transport, base_url="http://hub") as rest:
        return await rest.get("/", headers={"Authorization": header} if header else {})


async def test_a_good_key_is_its_device_and_its_use_is_noted() -> None:
    keys = Keys(GOOD)
    response = await ask(keys, HEADER)
    assert response.json() == {"device": "dev", "key": "k:a", "kind": "gateway", "source": "192.0.2.7"}
    assert keys.used == ["k:a"]


async def test_a_gateway_whose_place_another_took_comes_to_what_is_meant_for_it_too() -> None:
    keys = Keys(replace(GOOD, replaced=True))
    refused = await ask(keys, HEADER)
    assert (refused.status_code, refused.json()["type"]) == (403, "/problems/forbidden")
    assert "took this one's place" in refused.json()["detail"]
    assert (await ask(keys, HEADER, replaced=True)).status_code == 200


async def test_a_use_just_noted_is_not_written_again() -> None:
    keys = Keys(replace(GOOD, fresh=True))
    assert (await ask(keys, HEADER)).status_code == 200
    assert keys.used == []


@pytest.mark.parametrize(
    "header", [None, "Bearer", "Basic k:a.{secret}", "Bearer k:b.{secret}", "Bearer k:a.{secret}x"]
)
async def test_who_shows_no_good_key_is_told_the_same(header: str | None) -> None:
    keys = Keys(GOOD)
    response = await ask(keys, header and header.format(secret=SECRET))
    assert (response.status_code, response.json()["type"]) == (401, "/problems/unauthenticated")
    assert keys.used == []


@pytest.mark.parametrize("status", [s for s in Status if s not in (Status.PROVISIONED, Status.ACTIVE)])
async def test_a_device_that_may_not_connect_is_refused_like_a_stranger(status: Status) -> None:
    keys = Keys(replace(GOOD, status=status))
    response = await ask(keys, HEADER)
    assert response.content == (await ask(keys, None)).content
    assert (response.status_code, keys.used) == (401, [])
