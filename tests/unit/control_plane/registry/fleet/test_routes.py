"""The device routes without servers: preconditions, tags and moves. The whole way: tests/stack/registry/fleet."""

from typing import Any

import pytest

from control_plane.registry.fleet.changes import Stale
from control_plane.registry.fleet.patch import Patch
from control_plane.registry.life import Illegal, Move
from control_plane.registry.registration import Refusal, Refused
from shared.authority import Role
from shared.device import Kind, Status
from tests.unit.control_plane.registry.test_api import StandIn, client, problem


@pytest.fixture
def hub() -> StandIn:
    return StandIn()


async def test_a_change_needs_to_say_what_it_builds_on(hub: StandIn) -> None:
    hub.done = 2
    async with client(hub) as rest:
        body = {"labels": {"a": "1"}}
        assert problem(await rest.patch("/v1/devices/a", json=body), 428)["type"] == "/problems/if-match-needed"
        assert hub.asked == []
        response = await rest.patch("/v1/devices/a", json=body, headers={"If-Match": '"1"'})
        assert (response.status_code, response.headers["etag"]) == (200, '"1"')
        merge = {"If-Match": "*", "Content-Type": "application/merge-patch+json"}
        assert (await rest.patch("/v1/devices/a", content=b'{"location": null}', headers=merge)).status_code == 200
    assert hub.asked == [("a", Patch(body), frozenset({1})), ("a", Patch({"location": None}), None)]


@pytest.mark.parametrize(
    ("done", "status", "kind"),
    [
        (Stale(7), 412, "stale"),
        (Refused(Refusal.SERIAL_TAKEN, "because"), 409, "serial-taken"),
        (Refused(Refusal.TOO_MANY_LABELS, "because"), 422, "too-many-labels"),
        (None, 404, "not-found"),
    ],
)
async def test_refused_changes(hub: StandIn, done: Any, status: int, kind: str) -> None:
    hub.done = done
    async with client(hub) as rest:
        response = await rest.patch("/v1/devices/a", json={}, headers={"If-Match": '"1"'})
    assert problem(response, status)["type"] == f"/problems/{kind}"
    assert response.headers.get("etag") == ('"7"' if status == 412 else None)


async def test_what_a_client_has_already_is_not_sent_again(hub: StandIn) -> None:
    async with client(hub) as rest:
        first = await rest.get("/v1/devices/a")
        again = await rest.get("/v1/devices/a", headers={"If-None-Match": first.headers["etag"]})
        assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", first.headers["etag"])
        assert (await rest.get("/v1/devices/a", headers={"If-None-Match": '"0"'})).status_code == 200
        problem(await rest.get("/v1/devices/unknown", headers={"If-None-Match": "*"}), 404)


@pytest.mark.parametrize("move", [Move.APPROVE, Move.SUSPEND, Move.RESUME, Move.RETIRE])
async def test_moves(hub: StandIn, move: Move) -> None:
    async with client(hub) as rest:
        hub.done = Status.ACTIVE
        assert (await rest.post(f"/v1/devices/a:{move}")).status_code == 200
        assert (await rest.post(f"/v1/devices/a:{move}", json={"reason": "sold"})).status_code == 200
        hub.done = Illegal(Status.RETIRED, move)
        assert problem(await rest.post(f"/v1/devices/a:{move}"), 409)["type"] == "/problems/illegal-move"
        hub.done = None
        problem(await rest.post(f"/v1/devices/unknown:{move}"), 404)
        problem(await rest.post(f"/v1/devices/_x:{move}"), 404)
    assert hub.asked[0] == ("a", move, None)
    assert hub.asked[1] == ("a", move, "sold")
    assert hub.projected == ["a", "a"], "what was not moved is not told to the broker"


async def test_the_search_reaches_the_finder_as_it_was_asked(hub: StandIn) -> None:
    async with client(hub) as rest:
        query = "kind=gateway&status=retired&type=t&gateway_id=gw&label=site%3Dberlin&label=mains&q=SN"
        assert (await rest.get(f"/v1/devices?{query}")).status_code == 200
        for wrong in ("q=x", "label=%3Dx", "status=dead", "type=-", "&".join(["label=a"] * 9)):
            problem(await rest.get(f"/v1/devices?{wrong}"), 422)
    wanted = hub.asked[0][2]
    assert (wanted.kind, wanted.status, wanted.type, wanted.gateway_id, wanted.text) == (
        Kind.GATEWAY, Status.RETIRED, "t", "gw", "SN",
    )  # fmt: skip
    assert [(label.name, label.value) for label in wanted.labels] == [("site", "berlin"), ("mains", None)]
    assert len(hub.asked) == 1


async def test_a_viewer_makes_no_move(hub: StandIn) -> None:
    async with client(hub, Role.VIEWER) as rest:
        problem(await rest.patch("/v1/devices/a", json={}, headers={"If-Match": "*"}), 403)
        problem(await rest.post("/v1/devices/a:retire"), 403)
        problem(await rest.post("/v1/groups", json={"name": "g"}), 403)
    assert hub.asked == []
