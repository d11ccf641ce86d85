"""Quarantine by REST on real servers: the session is closed while it is used, and everything is written down."""

import asyncio
import time

import aiomqtt
import pytest

from shared.topics import Kafka
from tests.stack.registry.conftest import NOT_AUTHORIZED, connect_code, read_records, until

pytestmark = pytest.mark.stack


def port(api):
    return int(api.env["HUB_MQTT_URL"].rpartition(":")[2])


async def cut_off_after_s(api, device, key):
    """Connected as the device; how long after the order its session was closed, and the answer."""
    key_id, _, secret = key.partition(".")
    async with aiomqtt.Client(
        "127.0.0.1", port(api), username=key_id, password=secret, identifier=device,
        protocol=aiomqtt.ProtocolVersion.V5,
    ) as client:  # fmt: skip
        ended = client._disconnected
        started = time.monotonic()
        order = {"reason": "floods", "for_s": 600}
        answer = await asyncio.to_thread(api.rest.post, f"/v1/devices/{device}:quarantine", json=order)
        await asyncio.wait({ended}, timeout=10)
        assert ended.done(), "the session lives on"
        return time.monotonic() - started, answer


def test_a_connected_device_is_cut_off_and_may_come_back_when_released(api):
    key = api.add("dev").json()["api_key"]
    assert asyncio.run(connect_code(port(api), "dev", key)) == 0
    took_s, answer = asyncio.run(_cut(api, key))
    assert answer.status_code == 200, answer.text
    shown = answer.json()
    assert (shown["status"], shown["reason"], shown["released_at"]) == ("quarantined", "floods", None)
    assert took_s < 5.0
    assert asyncio.run(connect_code(port(api), "dev", key)) == NOT_AUTHORIZED
    again = api.rest.post("/v1/devices/dev:quarantine", json={"reason": "again"})
    assert (again.status_code, again.json()["type"]) == (409, "/problems/illegal-move")
    listed = api.rest.get("/v1/quarantines").json()
    assert [item["id"] for item in listed["quarantines"]] == [shown["id"]]
    released = api.rest.post("/v1/devices/dev:release", json={"reason": "mended"}).json()
    assert (released["id"], released["released_at"] is not None) == (shown["id"], True)
    assert released["status"] in ("provisioned", "active")
    assert asyncio.run(connect_code(port(api), "dev", key)) == 0
    assert api.rest.get("/v1/quarantines").json()["quarantines"] == []
    assert len(api.rest.get("/v1/quarantines", params={"ended": "true"}).json()["quarantines"]) == 1
    bootstrap = api.env["HUB_KAFKA_BOOTSTRAP"]

    def changes():
        found = asyncio.run(read_records(bootstrap, Kafka.LIFECYCLE, "dev"))
        return [word for word in ("quarantined", "released") if any(f'"{word}"'.encode() in r.value for r in found)]

    until(lambda: changes() == ["quarantined", "released"], "both are events")


async def _cut(api, key):
    return await cut_off_after_s(api, "dev", key)


def test_the_time_runs_out_by_itself(api):
    key = api.add("late").json()["api_key"]
    assert api.rest.post("/v1/devices/late:quarantine", json={"reason": "short", "for_s": 2}).status_code == 200
    assert asyncio.run(connect_code(port(api), "late", key)) == NOT_AUTHORIZED
    until(lambda: api.rest.get("/v1/devices/late").json()["status"] != "quarantined", "its time is over")
    until(lambda: asyncio.run(connect_code(port(api), "late", key)) == 0, "it may connect")
    (over,) = api.rest.get("/v1/quarantines", params={"ended": "true", "device_id": "late"}).json()["quarantines"]
    assert over["released_by"] == "policy:expiry"


def test_pages_and_refusals(api):
    for name in ("a", "b", "c"):
        api.add(name)
        api.rest.post(f"/v1/devices/{name}:quarantine", json={"reason": name})
    first = api.rest.get("/v1/quarantines", params={"limit": 2}).json()
    rest = api.rest.get("/v1/quarantines", params={"limit": 2, "cursor": first["next_cursor"]}).json()
    assert [q["device_id"] for q in first["quarantines"] + rest["quarantines"]] == ["c", "b", "a"]
    assert rest["next_cursor"] is None
    assert api.rest.get("/v1/quarantines", params={"cursor": "Zm9v"}).status_code == 422
    assert api.rest.post("/v1/devices/nobody:quarantine", json={"reason": "x"}).status_code == 404
    assert api.rest.post("/v1/devices/no%00body:release", json={}).status_code == 404
    assert api.rest.post("/v1/devices/a:quarantine", json={"reason": "two\nlines"}).status_code == 422
    assert api.rest.post("/v1/devices/a:quarantine", json={"reason": "x", "for_s": 0}).status_code == 422
    api.add("fine")
    assert api.rest.post("/v1/devices/fine:release", json={}).status_code == 409
