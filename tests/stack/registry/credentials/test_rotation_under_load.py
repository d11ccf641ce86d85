"""200 devices get new keys at the broker's pace while all publish, and a gateway is killed in its own rotation.

A publish has failed if the broker refused it, or if it was never acknowledged to the device, or never came to who
listens. A device that changes its key reconnects and sends again what was not acknowledged, as any client does.
"""

import asyncio
import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from control_plane.registry.broker import service_secret
from deploy.site import Gateway, Identity
from deploy.stack import Stack
from edge_agent.mqtt import Connection, Options
from shared.batch import Ack, ReadingRecord, decode_header, decode_records, encode_ack, unpack
from shared.config import Secret
from shared.errors import HubError, Rejected
from shared.topics import Channel, build, parse
from tests.stack.gateway_kit import device as local_device
from tests.stack.gateway_kit import reading
from tests.stack.registry.conftest import Api, until_async

DEVICES = 200
EVERY_S = 2.0
AT_ONCE = 4
DYING = "tests.stack.registry.credentials.dying_agent"
ROOT = Path(__file__).parents[4]
pytestmark = pytest.mark.timeout(400)


class Load:
    """One device: publishes `n` = 0, 1, 2 … under the key that it has, and takes another when it is told."""

    def __init__(self, url: str, name: str, key: str) -> None:
        self._url, self.name, self.key = url, name, key
        self.acknowledged: set[int] = set()
        self.refused = 0
        self.connected_with: list[str] = []
        self._again = asyncio.Event()

    def rekey(self, key: str) -> None:
        self.key = key
        self._again.set()

    async def run(self, stopping: asyncio.Event) -> None:
        n = 0
        topic = build(Channel.TELEMETRY, self.name)  # type: ignore[arg-type]
        while not (stopping.is_set() and n in self.acknowledged):
            self._again.clear()
            key_id, _, secret = self.key.partition(".")
            with contextlib.suppress(HubError):
                async with Connection(Options(self._url, self.name, key_id, Secret(secret))) as connection:
                    self.connected_with.append(self.key)
                    while not self._again.is_set() and not (stopping.is_set() and n in self.acknowledged):
                        n += n in self.acknowledged
                        code = await connection.publish(topic, json.dumps({"ts": 1, "n": n}).encode())
                        self.refused += code >= 0x80
                        self.acknowledged.add(n)
                        with contextlib.suppress(TimeoutError):
                            async with asyncio.timeout(EVERY_S):
                                await self._again.wait()


class Listener:
    """In ingest's place: hears all, acknowledges batches."""

    def __init__(self, url: str, secret: str) -> None:
        self._options = Options(url, "_ingest-1", "_ingest", Secret(secret), session=True, receive_maximum=1_000)
        self.direct: dict[str, set[int]] = {}
        self.behind: set[int] = set()
        self.ready = asyncio.Event()

    async def run(self) -> None:
        async with Connection(self._options) as connection:
            for topic in ("devices/+/telemetry", "gateways/+/batches"):
                await connection.subscribe(topic)
            self.ready.set()
            while True:
                for message in await connection.receive():
                    address = parse(message.topic)
                    assert address is not None
                    if message.topic.startswith("devices/"):
                        self.direct.setdefault(address.owner, set()).add(json.loads(message.payload).get("n", -1))
                    else:
                        header = decode_header(dict(message.user_properties))
                        unpacked = unpack(message.payload)
                        assert not isinstance(header, Rejected)
                        assert not isinstance(unpacked, Rejected)
                        records = decode_records(unpacked)
                        assert not isinstance(records, Rejected)
                        self.behind |= {int(r.metrics["n"]) for r in records if isinstance(r, ReadingRecord)}
                        acks = build(Channel.ACKS, address.owner)
                        connection.publish(acks, encode_ack(Ack({header.epoch: [header.number]})))
                    connection.ack(message)


@pytest.fixture
def gateway(api: Api, stack: Stack, server_dir: Path) -> Iterator[Gateway]:
    key_id, _, secret = api.add("gw", kind="gateway").json()["api_key"].partition(".")
    settings = {"HUB_API_URL": api.env["HUB_API_URL"], "AGENT_HEALTH_READINGS_S": "0"}
    made = Gateway(server_dir / "gw", Identity("gw", key_id, Secret(secret)), api.env["HUB_MQTT_URL"], settings)
    made.start()
    yield made
    if made.running:
        made.kill_agent()
    made.broker.stop()


async def register_all(api: Api, names: list[str]) -> dict[str, str]:
    headers = dict(api.rest.headers)
    async with httpx.AsyncClient(base_url=str(api.rest.base_url), headers=headers, timeout=60) as rest:

        async def one(name: str) -> tuple[str, str]:
            body = {"id": name, "serial": f"SN-{name}", "type": "thermometer"}
            return name, (await rest.post("/v1/devices", json=body)).json()["api_key"]

        found: dict[str, str] = {}
        for first in range(0, len(names), AT_ONCE):
            found |= dict(await asyncio.gather(*map(one, names[first : first + AT_ONCE])))
    return found


async def rotate_all(api: Api, loads: list[Load]) -> float:
    headers = dict(api.rest.headers)
    waiting = list(loads)
    began = time.monotonic()
    async with httpx.AsyncClient(base_url=str(api.rest.base_url), headers=headers, timeout=60) as rest:

        async def work() -> None:
            while waiting:
                load = waiting.pop()
                path = f"/v1/devices/{load.name}/credentials:rotate"
                once = {"Idempotency-Key": load.name}
                while True:  # the broker's pace: 503 asks to come again
                    response = await rest.post(path, json={"overlap_s": 5}, headers=once)
                    if response.status_code != 503:
                        break
                assert response.status_code == 201, response.text
                load.rekey(response.json()["api_key"])

        await asyncio.gather(*(work() for _ in range(AT_ONCE)))
    return time.monotonic() - began


async def send_through(gateway: Gateway, stopping: asyncio.Event) -> set[int]:
    sent: set[int] = set()
    async with local_device(gateway, "thermo") as publish:
        while not stopping.is_set():
            n = len(sent)
            assert await publish(reading(n)) == 0, "taken for the agent, whose session is there"
            sent.add(n)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(0.05):
                    await stopping.wait()
    return sent


async def die_in_rotation(gateway: Gateway) -> None:
    """The agent is killed, begins its rotation at its start, is killed once its new key is stored, and starts."""
    await asyncio.to_thread(gateway.kill_agent)
    await asyncio.to_thread(gateway.command, "rotate")
    dying = await asyncio.to_thread(
        subprocess.run, [sys.executable, "-m", DYING, "after", "keep_new"], cwd=ROOT, env=os.environ | gateway.env,
        capture_output=True, timeout=90, check=False,
    )  # fmt: skip
    assert dying.returncode == -9, dying.stderr.decode()
    await asyncio.to_thread(gateway.start_agent)


async def test_200_devices_and_a_killed_gateway_rotate_and_no_publish_fails(api: Api, gateway: Gateway) -> None:
    url = api.env["HUB_MQTT_URL"]
    old = (gateway.data_dir / "key").read_text().strip()
    listener = Listener(url, service_secret(Path(api.env["HUB_SERVICE_SECRETS_FILE"]), "_ingest"))
    keys = await register_all(api, [f"d{n:03}" for n in range(DEVICES)])
    loads = [Load(url, name, key) for name, key in keys.items()]
    stopping = asyncio.Event()
    async with asyncio.TaskGroup() as tasks:
        listening = tasks.create_task(listener.run())
        await asyncio.wait_for(listener.ready.wait(), 30)
        running = [tasks.create_task(load.run(stopping)) for load in loads]
        behind = tasks.create_task(send_through(gateway, stopping))
        await until_async(lambda: len(listener.direct) == DEVICES, "all devices speak", within_s=60)
        took_s, _ = await asyncio.gather(rotate_all(api, loads), die_in_rotation(gateway))
        await until_async(
            lambda: all(load.connected_with[-1] == load.key for load in loads), "all use their new keys"
        )
        await until_async(lambda: (gateway.data_dir / "key").read_text().strip() != old, "the gateway too", 60)
        stopping.set()
        sent = await behind
        await asyncio.gather(*running)
        await until_async(lambda: sent <= listener.behind, "nothing that the gateway took is missing", within_s=60)
        missing: dict[str, Any] = {
            load.name: gone for load in loads if (gone := load.acknowledged - listener.direct[load.name])
        }
        listening.cancel()
    assert missing == {}
    assert sum(load.refused for load in loads) == 0
    assert all(len(load.acknowledged) == max(load.acknowledged) + 1 for load in loads), "each one, in a row"
    assert took_s < 120, "the broker's pace, on a busy machine"
