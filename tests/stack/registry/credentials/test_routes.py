"""Keys through REST on real servers: given out, overlapping, ended in time, cut, revoked; seen at the broker."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import aiomqtt
import httpx
import pytest

from deploy.stack import Stack
from deploy.stack.mosquitto import Mosquitto
from tests.stack.registry.conftest import NOT_AUTHORIZED, Api, connect_code, until, until_async


def rotate(api: Api, device: str, *, key: str | None = None, **body: Any) -> httpx.Response:
    headers = {"Idempotency-Key": key} if key else {}
    return api.rest.post(f"/v1/devices/{device}/credentials:rotate", json=body, headers=headers)


def keys(api: Api, device: str) -> dict[str, Any]:
    found = api.rest.get(f"/v1/devices/{device}/credentials").json()["keys"]
    return {key["key_id"]: key for key in found}


def answer(port: int, device: str, key: str) -> int:
    return asyncio.run(connect_code(port, device, key))


@asynccontextmanager
async def connected(port: int, device: str, key: str) -> AsyncIterator[asyncio.Task[float]]:
    """A session; the task ends, with the time, when the broker closes it."""
    name, _, secret = key.partition(".")
    client = aiomqtt.Client(
        "127.0.0.1", port, username=name, password=secret, identifier=device, protocol=aiomqtt.ProtocolVersion.V5
    )

    async def closed() -> float:
        try:
            async for _ in client.messages:
                pass
        except aiomqtt.MqttError:
            return time.monotonic()
        raise AssertionError("the session has no messages")

    try:
        async with client:
            task = asyncio.ensure_future(closed())
            yield task
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
    except aiomqtt.MqttError:
        pass


def test_both_keys_work_for_the_overlap_then_the_old_one_ends_and_its_session_with_it(
    api: Api, broker_server: Mosquitto
) -> None:
    old = api.add("dev").json()["api_key"]
    port = broker_server.port

    async def live() -> float:
        async with connected(port, "dev", old) as closing:
            response = await asyncio.to_thread(rotate, api, "dev", overlap_s=2)
            assert (response.status_code, response.headers["cache-control"]) == (201, "no-store")
            new = response.json()
            assert list(new["ending"]) == [old.split(".")[0]]
            ends = datetime.fromisoformat(new["ending"][old.split(".")[0]])
            ends_in_s = (ends - datetime.now(UTC)).total_seconds()
            began = time.monotonic()
            closed = await asyncio.wait_for(closing, 20)
            assert await connect_code(port, "dev", new["api_key"]) == 0
            return closed - began - ends_in_s

    late_s = asyncio.run(live())
    assert -0.2 < late_s < 1.0, "at its time, and within a second"
    assert answer(port, "dev", old) == NOT_AUTHORIZED
    assert len(keys(api, "dev")) == 1


def test_the_first_use_makes_a_device_active_and_is_shown_with_its_key(api: Api, broker_server: Mosquitto) -> None:
    key = api.add("dev").json()["api_key"]
    assert api.rest.get("/v1/devices/dev").json()["status"] == "provisioned"
    assert [one["last_used_at"] for one in keys(api, "dev").values()] == [None]
    assert answer(broker_server.port, "dev", key) == 0
    until(lambda: api.rest.get("/v1/devices/dev").json()["status"] == "active", "it was seen")
    assert all(one["last_used_at"] for one in keys(api, "dev").values())


def test_a_repeat_gets_another_secret_until_the_key_was_used(api: Api, broker_server: Mosquitto) -> None:
    api.add("dev")
    first = rotate(api, "dev", key="once", overlap_s=3600).json()
    second = rotate(api, "dev", key="once", overlap_s=3600)
    assert second.status_code == 201
    assert answer(broker_server.port, "dev", first["api_key"]) == NOT_AUTHORIZED, "nobody was seen with it"
    assert answer(broker_server.port, "dev", second.json()["api_key"]) == 0
    until(lambda: keys(api, "dev")[second.json()["key_id"]]["last_used_at"], "its use is noted")
    third = rotate(api, "dev", key="once", overlap_s=3600)
    assert (third.status_code, third.json()["api_key"]) == (200, None)
    assert third.json()["key_id"] == second.json()["key_id"]
    assert rotate(api, "dev", key="once", overlap_s=1).status_code == 422


def own(api: Api, key: str, path: str = "", **headers: str) -> httpx.Response:
    headers = {"Authorization": f"Bearer {key}", **headers}
    if path:
        return api.rest.post(f"/v1/self{path}", headers=headers)
    return api.rest.get("/v1/self", headers=headers)


def test_a_device_rotates_its_own_key_and_the_old_one_ends_by_the_use_of_the_new(
    api: Api, broker_server: Mosquitto, stack: Stack
) -> None:
    database = api.env["HUB_DATABASE_URL"].rpartition("/")[2]
    stack.postgres.psql("""INSERT INTO policies (name, value) VALUES ('credentials', '{"grace_s": 1}')""", database)
    old = api.add("gw", kind="gateway").json()["api_key"]
    lost = own(api, old, "/credentials:rotate", **{"Idempotency-Key": "r-1"}).json()["api_key"]
    new = own(api, old, "/credentials:rotate", **{"Idempotency-Key": "r-1"}).json()["api_key"]
    assert answer(broker_server.port, "gw", lost) == NOT_AUTHORIZED, "the answer that was lost"
    assert answer(broker_server.port, "gw", old) == 0, "the new one was not seen yet"
    assert keys(api, "gw")[old.split(".")[0]]["not_after"] is None
    assert answer(broker_server.port, "gw", new) == 0
    until(lambda: list(keys(api, "gw")) == [new.split(".")[0]], "the old one ends")
    assert answer(broker_server.port, "gw", old) == NOT_AUTHORIZED
    assert own(api, old).status_code == 401
    assert own(api, new).json()["rotate_due"] is False


def test_rotation_needs_an_idempotency_key_of_a_device(api: Api) -> None:
    key = api.add("dev").json()["api_key"]
    assert own(api, key, "/credentials:rotate").status_code == 422
    assert own(api, "k:nobody." + "x" * 43, "/credentials:rotate", **{"Idempotency-Key": "a"}).status_code == 401


def test_an_old_key_is_due_and_a_key_with_an_end_too(api: Api, stack: Stack) -> None:
    database = api.env["HUB_DATABASE_URL"].rpartition("/")[2]
    stack.postgres.psql(
        """INSERT INTO policies (name, value) VALUES ('credentials', '{"most_per_minute": 1}')""", database
    )
    key = api.add("gw", kind="gateway").json()["api_key"]
    assert own(api, key).json()["rotate_due"] is False
    stack.postgres.psql("UPDATE device_credentials SET created_at = now() - interval '91 days'", database)
    assert own(api, key).json()["rotate_due"] is True
    assert own(api, key).json()["rotate_due"] is False, "one at a time: the broker's pace"


def test_a_key_for_later_opens_nothing_before_its_time(api: Api, broker_server: Mosquitto) -> None:
    api.add("dev")
    begins = datetime.now(UTC) + timedelta(seconds=4)
    made = api.rest.post("/v1/devices/dev/credentials", json={"not_before": begins.isoformat()}).json()
    port = broker_server.port
    assert answer(port, "dev", made["api_key"]) == NOT_AUTHORIZED
    assert own(api, made["api_key"]).status_code == 401
    asyncio.run(until_async(lambda: _is_zero(port, made["api_key"]), "it works in time", within_s=20))
    assert datetime.now(UTC) >= begins


async def _is_zero(port: int, key: str) -> bool:
    return await connect_code(port, "dev", key) == 0


def test_four_keys_live_at_most_and_the_last_is_ended_by_force_alone(api: Api, broker_server: Mosquitto) -> None:
    first = api.add("dev").json()["api_key"]
    for _ in range(3):
        assert api.rest.post("/v1/devices/dev/credentials", json={}).status_code == 201
    full = api.rest.post("/v1/devices/dev/credentials", json={})
    assert (full.status_code, full.json()["type"]) == (409, "/problems/too-many-keys")
    others = [name for name in keys(api, "dev") if name != first.split(".")[0]]
    for name in others:
        ended = api.rest.delete(f"/v1/devices/dev/credentials/{name}")
        assert ended.json() == {"id": name, "closed": True}
    last = f"/v1/devices/dev/credentials/{first.split('.')[0]}"
    assert api.rest.delete(last).json()["type"] == "/problems/last-key"
    assert answer(broker_server.port, "dev", first) == 0
    assert api.rest.delete(last, params={"force": True}).json()["closed"] is True
    assert answer(broker_server.port, "dev", first) == NOT_AUTHORIZED
    assert api.rest.delete(last, params={"force": True}).status_code == 404


def test_a_stolen_device_is_cut_off_while_connected_and_never_comes_back(api: Api, broker_server: Mosquitto) -> None:
    key = api.add("dev").json()["api_key"]
    rotate(api, "dev", overlap_s=3600)

    async def stolen() -> float:
        async with connected(broker_server.port, "dev", key) as closing:
            began = time.monotonic()
            response = await asyncio.to_thread(api.rest.post, "/v1/devices/dev:revoke", json={"reason": "stolen"})
            assert response.json() == {"id": "dev", "closed": True}
            return await asyncio.wait_for(closing, 10) - began

    assert asyncio.run(stolen()) < 1.0
    assert answer(broker_server.port, "dev", key) == NOT_AUTHORIZED
    assert own(api, key).status_code == 401
    again = api.rest.post("/v1/devices/dev:revoke", json={"reason": "stolen"})
    assert (again.status_code, again.json()["type"]) == (409, "/problems/illegal-move")
    assert rotate(api, "dev").json()["type"] == "/problems/device-retired"
    assert keys(api, "dev") == {}


def test_with_the_broker_away_a_revocation_is_written_and_said_to_be_tried(
    api: Api, broker_server: Mosquitto
) -> None:
    key = api.add("dev").json()["api_key"]
    broker_server.stop()
    response = api.rest.post("/v1/devices/dev:revoke", json={"reason": "stolen"})
    assert response.json() == {"id": "dev", "closed": False}
    assert own(api, key).status_code == 401, "at REST it is closed at once"
    broker_server.start()
    asyncio.run(until_async(lambda: _is_refused(broker_server.port, key), "the reconciler closes it", within_s=30))


async def _is_refused(port: int, key: str) -> bool:
    return await connect_code(port, "dev", key) == NOT_AUTHORIZED


def test_with_the_broker_away_nothing_is_rotated_and_the_old_key_is_as_it_was(
    api: Api, broker_server: Mosquitto
) -> None:
    api.add("dev")
    before = keys(api, "dev")
    broker_server.stop()
    assert rotate(api, "dev", overlap_s=0).status_code == 503
    assert keys(api, "dev") == before


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("/v1/devices/nobody/credentials:rotate", {}, 404),
        ("/v1/devices/no%20body/credentials:rotate", {}, 404),
        ("/v1/devices/dev/credentials:rotate", {"overlap_s": -1}, 422),
        ("/v1/devices/dev/credentials:rotate", {"overlap": 1}, 422),
        ("/v1/devices/nobody:revoke", {"reason": "x"}, 404),
        ("/v1/devices/dev:revoke", {}, 422),
        ("/v1/devices/dev:revoke", {"reason": "a\nb"}, 422),
        ("/v1/devices/dev/credentials", {"not_before": "2026-01-01T00:00:00"}, 422),
    ],
)
def test_what_cannot_be_done(api: Api, path: str, body: dict[str, Any], status: int) -> None:
    api.add("dev")
    assert api.rest.post(path, json=body).status_code == status
