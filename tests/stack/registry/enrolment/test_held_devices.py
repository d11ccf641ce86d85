"""A device that nobody registered speaks at a gateway: real hub, real local broker, a real agent that is killed."""

import sqlite3
from pathlib import Path

import pytest

from deploy.site import Gateway, Identity
from shared.config import Secret
from tests.stack.gateway_kit import NOWHERE, device, gateway_status, numbers, reading, until
from tests.stack.registry.conftest import Api
from tests.stack.registry.enrolment.test_behind_routes import set_policy


def held(gateway: Gateway) -> int:
    db = sqlite3.connect(f"file:{gateway.data_dir / 'outbox.db'}?mode=ro", uri=True)
    try:
        return int(db.execute("SELECT count(*) FROM held").fetchone()[0])
    finally:
        db.close()


@pytest.fixture
def gateway(api: Api, server_dir: Path) -> Gateway:
    set_policy(api, unknown_devices="pending")
    key_id, _, secret = api.add("gw", kind="gateway").json()["api_key"].partition(".")
    settings = {"HUB_API_URL": api.env["HUB_API_URL"], "AGENT_DEVICES_EVERY_S": "1", "AGENT_HEALTH_READINGS_S": "0"}
    return Gateway(server_dir / "gw", Identity("gw", key_id, Secret(secret)), NOWHERE, settings)


async def say(gateway: Gateway, name: str, *ns: int) -> None:
    async with device(gateway, name) as publish:
        for n in ns:
            assert await publish(reading(n)) == 0


async def test_its_readings_wait_until_it_is_approved_and_none_is_lost(api: Api, gateway: Gateway) -> None:
    try:
        gateway.start()
        await until((gateway.data_dir / "devices.json").exists)
        await say(gateway, "new", *range(50))
        await until(lambda: held(gateway) == 50)
        await until(lambda: api.rest.get("/v1/devices/new").status_code == 200)
        assert api.rest.get("/v1/devices/new").json()["status"] == "pending"
        gateway.kill_agent()
        gateway.start_agent()
        await say(gateway, "new", *range(50, 60))
        await until(lambda: held(gateway) == 60)
        assert "new" not in numbers(gateway)
        told = gateway_status(gateway)
        assert (told["held"], told["pending_devices"]) == ({"rows": 60, "devices": 1}, 1)
        assert api.rest.post("/v1/devices/new:approve").status_code == 200
        await until(lambda: held(gateway) == 0)
        await say(gateway, "new", *range(60, 65))
        await until(lambda: len(numbers(gateway).get("new", [])) == 65)
        assert numbers(gateway)["new"] == list(range(65)), "in order, none twice"
    finally:
        gateway.stop()


async def test_its_gateway_is_told_of_the_approval_and_need_not_wait_to_ask(api: Api, server_dir: Path) -> None:
    set_policy(api, unknown_devices="pending")
    key_id, _, secret = api.add("gw", kind="gateway").json()["api_key"].partition(".")
    settings = {
        "HUB_API_URL": api.env["HUB_API_URL"],
        "AGENT_DEVICES_EVERY_S": "3600",
        "AGENT_KEY_CHECK_S": "0",
        "AGENT_HEALTH_READINGS_S": "0",
    }
    gateway = Gateway(server_dir / "gw", Identity("gw", key_id, Secret(secret)), api.env["HUB_MQTT_URL"], settings)
    try:
        gateway.start()
        await until(lambda: "hub_connected" in gateway.log_path.read_text())
        await until((gateway.data_dir / "devices.json").exists)
        await say(gateway, "new", 1, 2)
        await until(lambda: held(gateway) == 2)
        await until(lambda: api.rest.get("/v1/devices/new").status_code == 200)
        assert api.rest.post("/v1/devices/new:approve").status_code == 200
        await until(lambda: numbers(gateway).get("new") == [1, 2], 15)
        # An operator's rotation is begun by the gateway as soon as it is told, though it never asks by itself.
        before = (gateway.data_dir / "key").read_text()
        assert api.rest.post("/v1/devices/gw/credentials:rotate", json={}).status_code < 300
        await until(lambda: (gateway.data_dir / "key").read_text() != before, 60)
    finally:
        gateway.stop()


async def test_a_refused_devices_readings_are_given_up(api: Api, gateway: Gateway) -> None:
    try:
        gateway.start()
        await until((gateway.data_dir / "devices.json").exists)
        await say(gateway, "bad", 1, 2)
        await until(lambda: api.rest.get("/v1/devices/bad").status_code == 200)
        assert api.rest.post("/v1/devices/bad:retire").status_code == 200
        await say(gateway, "bad", 3)
        # Told anew as a stranger, refused, and what was held of it given up.
        await until(lambda: "held_dropped" in gateway.log_path.read_text(), 60)
        await until(lambda: held(gateway) == 0)
        await say(gateway, "bad", 4)
        await until(lambda: "messages_unwanted" in gateway.log_path.read_text())
        assert "bad" not in numbers(gateway)
    finally:
        gateway.stop()
