"""REST without servers: who is let in, what is refused, in which form. The whole way: tests/stack/registry.

The store here is a stand-in that answers or fails on request; the real one is never half-broken at will.
"""

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import httpx
import jsonschema
import pytest

from control_plane.db.api_token import split_token, token_hash
from control_plane.db.secret_files import new_token
from control_plane.registry import api
from control_plane.registry.access.logins import Logins
from control_plane.registry.access.token_uses import TokenUses
from control_plane.registry.device import Device
from control_plane.registry.fleet.finder import Page
from control_plane.registry.fleet.patch import Patch
from control_plane.registry.fleet.search import Filter
from control_plane.registry.life import Move
from control_plane.registry.registrar import Registered
from control_plane.registry.registration import Refusal, Refused, Request
from control_plane.registry.tokens import Stored
from shared.authority import Actor, Role
from shared.config import Secret
from shared.device import Kind, Status
from shared.errors import Permanent, Transient

TOKENS = {role: new_token() for role in Role}
AT = datetime(2026, 1, 1, tzinfo=UTC)


def device(name: str) -> Device:
    return Device(name, "S", "t", Kind.DEVICE, Status.PROVISIONED, None, {}, 1, AT, AT)


class StandIn:
    """Store and registrar in one: `trouble` is raised, `outcome` is a registration's answer."""

    def __init__(self) -> None:
        self.trouble: Exception | None = None
        self.outcome: Registered | Refused = Registered(device("dev"), Secret("k:a.secret"))
        self.asked: list[tuple[Any, ...]] = []
        self.names = ["a", "b", "c"]
        self.done: Any = None
        self.projected: list[str] = []

    async def token(self, token_id: str) -> Stored | None:
        if self.trouble:
            raise self.trouble
        for role, token in TOKENS.items():
            name, secret = split_token(token) or ("", "")
            if name == token_id:
                return Stored(name, role, token_hash(secret))
        return None

    async def register(self, request: Request, actor: Actor, idempotency_key: str | None) -> Registered | Refused:
        self.asked.append((request, actor.id, idempotency_key))
        return self.outcome

    async def device(self, device_id: str) -> Device | None:
        return device(device_id) if device_id in self.names else None

    async def page(self, wanted: Filter, *, after: str, limit: int) -> Page:
        self.asked.append((after, limit, wanted))
        there = [device(name) for name in self.names if name > after]
        return Page(there[:limit], there[limit - 1].id if len(there) > limit else None)

    async def patch(self, device_id: str, asked: Patch, allowed: frozenset[int] | None, actor: Actor) -> Any:
        self.asked.append((device_id, asked, allowed))
        return self.done

    async def move(self, device_id: str, wanted: Move, actor: Actor, reason: str | None) -> Any:
        self.asked.append((device_id, wanted, reason))
        return self.done

    async def projected_device(self, device_id: str) -> bool:
        self.projected.append(device_id)
        return True


async def no_write(uses: Mapping[str, datetime]) -> None:
    del uses


@pytest.fixture
def hub() -> StandIn:
    return StandIn()


def client(hub: StandIn, role: Role | None = Role.ADMIN, readiness: list[str] | None = None) -> httpx.AsyncClient:
    projector = SimpleNamespace(device=hub.projected_device)
    doors = {"logins": Logins(), "token_uses": TokenUses(no_write)}
    rooms: Any = SimpleNamespace(store=hub, registrar=hub, finder=hub, changes=hub, projector=projector, **doors)
    app: Any = api.build(rooms, lambda: readiness or [])
    headers = {"Authorization": f"Bearer {TOKENS[role]}"} if role else {}
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    return httpx.AsyncClient(transport=transport, base_url="http://hub", headers=headers)


def problem(response: httpx.Response, status: int) -> dict[str, Any]:
    assert response.status_code == status
    assert response.headers["content-type"] == "application/problem+json"
    body: dict[str, Any] = response.json()
    assert body["status"] == status
    return body


async def test_a_registration(hub: StandIn) -> None:
    async with client(hub) as rest:
        body = {"serial": "S", "type": "t"}
        response = await rest.post("/v1/devices", json=body, headers={"Idempotency-Key": "once"})
    assert response.status_code == 201
    assert response.json()["api_key"] == "k:a.secret"
    assert (response.headers["location"], response.headers["etag"]) == ("/v1/devices/dev", '"1"')
    assert response.headers["cache-control"] == "no-store"
    assert hub.asked == [(Request("S", "t", Kind.DEVICE), TOKENS[Role.ADMIN].split(".")[0], "once")]


async def test_a_repeat_whose_key_is_in_use_shows_none(hub: StandIn) -> None:
    hub.outcome = Registered(device("dev"), None)
    async with client(hub) as rest:
        response = await rest.post("/v1/devices", json={"serial": "S", "type": "t"})
    assert (response.status_code, response.json()["api_key"]) == (200, None)


@pytest.mark.parametrize(
    ("why", "status", "pointer"),
    [
        (Refusal.ID_TAKEN, 409, "/id"),
        (Refusal.SERIAL_TAKEN, 409, "/serial"),
        (Refusal.GATEWAY_UNKNOWN, 422, "/gateway_id"),
        (Refusal.GATEWAY_BEHIND_GATEWAY, 422, "/gateway_id"),
        (Refusal.IDEMPOTENCY_KEY_REUSED, 422, None),
    ],
)
async def test_refused_registrations(hub: StandIn, why: Refusal, status: int, pointer: str | None) -> None:
    hub.outcome = Refused(why, "because")
    async with client(hub) as rest:
        body = problem(await rest.post("/v1/devices", json={"serial": "S", "type": "t"}), status)
    assert (body["type"], body["detail"]) == (f"/problems/{why}", "because")
    assert [error["pointer"] for error in body.get("errors", [])] == ([pointer] if pointer else [])


async def test_invalid_fields_are_named(hub: StandIn) -> None:
    async with client(hub) as rest:
        body = problem(await rest.post("/v1/devices", json={"id": "_x", "type": "t", "colour": "red"}), 422)
        assert {error["pointer"] for error in body["errors"]} == {"/id", "/serial", "/colour"}
        body = problem(await rest.get("/v1/devices?limit=0"), 422)
        assert [error["pointer"] for error in body["errors"]] == ["?limit"]
        problem(await rest.get("/v1/devices?cursor=%ff"), 422)
        problem(await rest.get("/v1/devices?cursor=AA"), 422)  # a NUL, which no id holds and Postgres refuses
        problem(await rest.get("/v1/devices?gateway_id=%00"), 422)
        problem(await rest.get("/v1/devices?kind=robot"), 422)
        json_type = {"Content-Type": "application/json"}
        problem(await rest.post("/v1/devices", content=b"x" * 70_000, headers=json_type), 413)
    assert hub.asked == []


async def test_places_of_the_request_are_named_as_documented(hub: StandIn) -> None:
    async with client(hub) as rest:
        sent = {"serial": "S", "type": "t"}
        tries = {
            "header: idempotency-key": await rest.post(
                "/v1/devices", json=sent, headers={"Idempotency-Key": "k" * 129}
            ),
            "path: name": await rest.get("/v1/types/_"),
            "/a~1b~0": await rest.post("/v1/devices", json=sent | {"a/b~": 1}),
            "": await rest.post("/v1/devices"),
        }
        for pointer, response in tries.items():
            assert [error["pointer"] for error in problem(response, 422)["errors"]] == [pointer]
        assert problem(tries[""], 422)["detail"] == "the body: Field required"


@pytest.mark.parametrize(
    "body", [b"{", b'{"serial": "\xff"}', b"[" * 30_000, b'{"serial": ' + b"1" * 5000 + b"}"], ids=range(4)
)
async def test_a_body_that_cannot_be_read_is_malformed(hub: StandIn, body: bytes) -> None:
    """The framework's parser breaks on each in another way; a client sees one."""
    async with client(hub) as rest:
        response = await rest.post("/v1/devices", content=body, headers={"Content-Type": "application/json"})
    assert problem(response, 400)["type"] == "/problems/malformed"


@pytest.mark.parametrize("path", ["/v1/devices", "/v1/devices/a", "/v1/devices/unknown"])
async def test_without_a_token_nothing_is_told(hub: StandIn, path: str) -> None:
    async with client(hub, role=None) as rest:
        response = await rest.get(path)
        problem(response, 401)
        assert response.headers["www-authenticate"] == "Bearer"
        name = TOKENS[Role.ADMIN].split(".")[0]
        problem(await rest.get(path, headers={"Authorization": f"Bearer {name}.wrong"}), 401)


async def test_a_viewer_changes_nothing(hub: StandIn) -> None:
    async with client(hub, Role.VIEWER) as rest:
        problem(await rest.post("/v1/devices", json={"serial": "S", "type": "t"}), 403)
        problem(await rest.post("/v1/devices/a:assign", json={"gateway_id": None}), 403)
        problem(await rest.put("/v1/types/t", json={"metrics": {}}), 403)
        assert (await rest.get("/v1/devices/a")).status_code == 200
    assert hub.asked == []


async def test_a_list_in_pages(hub: StandIn) -> None:
    async with client(hub) as rest:
        first = (await rest.get("/v1/devices?limit=2&kind=device&gateway_id=gw")).json()
        second = (await rest.get("/v1/devices", params={"limit": 2, "cursor": first["next_cursor"]})).json()
    assert [item["id"] for page in (first, second) for item in page["devices"]] == ["a", "b", "c"]
    assert second["next_cursor"] is None
    assert hub.asked == [("", 2, Filter(kind=Kind.DEVICE, gateway_id="gw")), ("b", 2, Filter())]


async def test_what_is_not_there(hub: StandIn) -> None:
    async with client(hub) as rest:
        problem(await rest.get("/v1/devices/unknown"), 404)
        problem(await rest.get("/v1/devices/_ingest"), 404)
        assert problem(await rest.get("/v1/nothing"), 404)["type"] == "/problems/not-found"
        problem(await rest.get("/schemas/nothing.json"), 404)
        response = await rest.delete("/v1/devices/a")
        assert problem(response, 405)["type"] == "/problems/method-not-allowed"
        assert "GET" in response.headers["allow"]


async def test_a_server_away_is_503_and_says_when_to_come_again(hub: StandIn) -> None:
    hub.trouble = Transient("Postgres does not answer", hint="look at it")
    async with client(hub) as rest:
        response = await rest.get("/v1/devices")
    detail = problem(response, 503)["detail"]
    assert "Postgres does not answer" in detail
    # A COMMIT whose answer was lost may have been done.
    assert "unless the connection broke" in detail
    assert int(response.headers["retry-after"]) > 0


@pytest.mark.parametrize("trouble", [Permanent("run hub migrate"), KeyError("a bug of ours")])
async def test_what_only_a_person_can_mend_is_500_and_tells_nothing(hub: StandIn, trouble: Exception) -> None:
    hub.trouble = trouble
    async with client(hub) as rest:
        body = problem(await rest.get("/v1/devices"), 500)
    assert "migrate" not in json.dumps(body)
    assert "bug" not in json.dumps(body)


async def test_windows_need_no_token(hub: StandIn) -> None:
    async with client(hub, role=None, readiness=["the broker is not connected"]) as rest:
        assert (await rest.get("/healthz")).json() == {"status": "ok"}
        response = await rest.get("/readyz")
        assert (response.status_code, response.json()["missing"]) == (503, ["the broker is not connected"])
        assert "registry_outbox_depth" in (await rest.get("/metrics")).text
        schema = (await rest.get("/schemas/iot.device.registry.v1.json")).json()
        jsonschema.Draft202012Validator.check_schema(schema)
    async with client(hub, role=None) as rest:
        assert (await rest.get("/readyz")).status_code == 200


async def test_requests_are_counted_by_route_and_not_by_id(hub: StandIn) -> None:
    async with client(hub) as rest:
        await rest.get("/v1/devices/a-device-of-mine")
        metrics = (await rest.get("/metrics")).text
    assert 'route="/v1/devices/{device_id}",status="404"' in metrics
    assert "a-device-of-mine" not in metrics


async def test_openapi_is_served_to_everybody(hub: StandIn) -> None:
    async with client(hub, role=None) as rest:
        document = (await rest.get("/openapi.json")).json()
    assert document["security"] == [{"token": []}]
    assert "application/problem+json" in document["components"]["responses"]["Refused401"]["content"]
