"""A registry of its own for these tests: a fresh database, a broker of its own, the session's Kafka.

Its own broker, because a registry removes from its broker what its database does not know.
"""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiomqtt
import asyncpg
import httpx
import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition

from control_plane.db.connect import pool
from control_plane.db.kafka_reader import stop_reader
from control_plane.db.setup import SetupConfig, set_up
from control_plane.registry.broker import Broker, service_secret
from control_plane.registry.broker_restart import BrokerRestart
from control_plane.registry.dynsec import decode_page, list_clients
from control_plane.registry.projector import Projector
from control_plane.registry.rebuild import Rebuild
from control_plane.registry.reconciler import Reconciler
from control_plane.registry.registrar import Registrar
from control_plane.registry.store import Store
from deploy.stack import Stack, host
from deploy.stack.mosquitto import Mosquitto
from shared.config import load
from shared.topics import Kafka

DEADLINE_S = 30.0
NOT_AUTHORIZED = 135
PARTITIONS = 4


def until(condition: Callable[[], Any], what: str, within_s: float = DEADLINE_S) -> Any:
    """The condition's first true value."""
    deadline = time.monotonic() + within_s
    while not (found := condition()):
        assert time.monotonic() < deadline, f"not within {within_s} s: {what}"
        time.sleep(0.02)
    return found


async def until_async(condition: Callable[[], Any], what: str, within_s: float = DEADLINE_S) -> Any:
    """As `until`, the loop running meanwhile; an awaitable condition is awaited."""
    deadline = time.monotonic() + within_s
    while True:
        found = condition()
        found = await found if asyncio.iscoroutine(found) else found
        if found:
            return found
        assert time.monotonic() < deadline, f"not within {within_s} s: {what}"
        await asyncio.sleep(0.02)


@pytest.fixture
def broker_server(server_dir: Path) -> Iterator[Mosquitto]:
    """A broker that only this test uses."""
    server = Mosquitto(server_dir, host.free_port())
    server.start()
    yield server
    server.stop()


@pytest.fixture
def environment(stack: Stack, database_url: str, broker_server: Mosquitto, tmp_path: Path) -> dict[str, str]:
    """What the hub's programs read; migrated."""
    env = (
        stack.env()
        | broker_server.restart_env()
        | {
            "HUB_DATABASE_URL": database_url,
            "HUB_MQTT_URL": f"mqtt://127.0.0.1:{broker_server.port}",
            "HUB_API_URL": f"http://127.0.0.1:{host.free_port()}",
            "HUB_ADMIN_TOKEN_FILE": str(tmp_path / "admin-token"),
            "HUB_SERVICE_SECRETS_FILE": str(broker_server.secrets_file),
            "HUB_DATA_DIR": str(tmp_path),
            "HUB_BROKER_DEADLINE_S": "2",
        }
    )
    del env["HUB_API_TLS_URL"]  # tests run several of these processes at once; TLS has tests of its own
    asyncio.run(set_up(load(SetupConfig, env), wait_s=DEADLINE_S, say=print))
    # As if ingest had been there once: keys are given out only then (test_service.py).
    stack.postgres.psql(
        "INSERT INTO ingest_slots (slot, subscribed_at) VALUES (99, now())", database_url.rpartition("/")[2]
    )
    return env


class Api:
    """`hub api` as a process of its own, and a client with the admin token."""

    def __init__(self, env: Mapping[str, str]) -> None:
        self.env = dict(env)
        self.log = Path(env["HUB_DATA_DIR"]) / "api.log"
        self._process: subprocess.Popen[bytes] | None = None
        token = Path(env["HUB_ADMIN_TOKEN_FILE"]).read_text().strip()
        self.rest = httpx.Client(
            base_url=env["HUB_API_URL"], headers={"Authorization": f"Bearer {token}"}, timeout=DEADLINE_S
        )

    def start(self, *, ready: bool = True) -> None:
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "control_plane", "api"], env=os.environ | self.env, stderr=log
            )
        if ready:
            until(self.is_ready, "the API is ready")

    def missing(self) -> list[str] | None:
        """What /readyz says is missing; None while nobody answers."""
        try:
            missing: list[str] = self.rest.get("/readyz").json()["missing"]
        except httpx.TransportError:
            return None
        return missing

    def is_ready(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, self.log.read_text()
        try:
            return self.rest.get("/readyz").status_code == 200
        except httpx.TransportError:
            return False

    def stop(self, how: signal.Signals = signal.SIGTERM) -> int:
        assert self._process is not None
        self._process.send_signal(how)
        return self._process.wait(DEADLINE_S)

    def close(self) -> None:
        self.rest.close()
        if self._process is not None and self._process.poll() is None:
            self.stop(signal.SIGKILL)

    def add(self, device_id: str, **more: Any) -> httpx.Response:
        """POST /v1/devices; `key` is the Idempotency-Key."""
        key = more.pop("key", None)
        body = {"id": device_id, "serial": f"SN-{device_id}", "type": "thermometer"} | more
        return self.rest.post("/v1/devices", json=body, headers={"Idempotency-Key": key} if key else {})

    def metric(self, name: str) -> float | None:
        for line in self.rest.get("/metrics").text.splitlines():
            if line.startswith(f"{name} "):
                return float(line.split()[1])
        return None

    def events(self, name: str) -> list[dict[str, Any]]:
        lines = [json.loads(line) for line in self.log.read_text().splitlines() if line.startswith("{")]
        return [line for line in lines if line["event"] == name]


@pytest.fixture
def api(environment: dict[str, str]) -> Iterator[Api]:
    running = Api(environment)
    try:
        running.start()
        yield running
    finally:
        running.close()


async def connect_code(port: int, client_id: str, api_key: str) -> int:
    """The CONNACK's reason code for this key under this client id."""
    key_id, _, secret = api_key.partition(".")
    try:
        async with aiomqtt.Client(
            "127.0.0.1",
            port,
            username=key_id,
            password=secret,
            identifier=client_id,
            protocol=aiomqtt.ProtocolVersion.V5,
            timeout=10,
        ):
            return 0
    except aiomqtt.exceptions.MqttConnectError as error:
        return int(getattr(error.rc, "value", error.rc))


async def read_records(bootstrap: str, topic: Kafka, key: str) -> list[Any]:
    """All records of one key in a topic, as a `read_committed` reader sees them now, in order."""
    return [record for record in await read_all(bootstrap, topic) if record.key == key.encode()]


async def read_all(bootstrap: str, topic: Kafka) -> list[Any]:
    """All that a `read_committed` reader sees now, each partition in order."""
    consumer = AIOKafkaConsumer(
        bootstrap_servers=bootstrap, isolation_level="read_committed", enable_auto_commit=False
    )
    await consumer.start()
    try:
        parts = [TopicPartition(topic.value, number) for number in range(PARTITIONS)]
        consumer.assign(parts)
        await consumer.seek_to_beginning(*parts)
        ends = await consumer.end_offsets(parts)
        found: list[Any] = []
        while any([await consumer.position(part) < end for part, end in ends.items()]):
            batch = await consumer.getmany(timeout_ms=200)
            found += [record for part in batch.values() for record in part]
        return found
    finally:
        await stop_reader(consumer)


@dataclass
class Parts:
    """The registry's parts in this process, on real servers."""

    database: asyncpg.Pool
    store: Store
    broker: Broker
    reconciler: Reconciler
    registrar: Registrar
    port: int
    projector: Projector
    rebuild: Rebuild
    woken: list[None] = field(default_factory=list)

    async def broker_names(self) -> set[str]:
        """The keys that the broker holds now."""
        names: list[str] = []
        while True:
            page = decode_page(await self.broker.command(list_clients(500, len(names))))
            names += [record.username for record in page.records]
            if len(names) >= page.total:
                return {name for name in names if name.startswith("k:")}


@asynccontextmanager
async def open_parts(env: Mapping[str, str]) -> AsyncIterator[Parts]:
    secret = service_secret(Path(env["HUB_SERVICE_SECRETS_FILE"]), "_registry")
    stopping = asyncio.Event()
    woken: list[None] = []
    async with await pool(env["HUB_DATABASE_URL"]) as database, asyncio.TaskGroup() as tasks:
        store = Store(database)
        broker = Broker(env["HUB_MQTT_URL"], secret, deadline_s=5, on_connect=lambda: None)
        tasks.create_task(broker.serve(stopping))
        projector = Projector(store, broker, lambda: woken.append(None))
        rebuild = Rebuild(
            database,
            env["HUB_DATABASE_URL"],
            store,
            broker,
            BrokerRestart(Path(env["HUB_BROKER_FILE"]), env["HUB_BROKER_RESTART_COMMAND"]),
            Path(env["HUB_SERVICE_SECRETS_FILE"]),
            projector.device,
        )
        reconciler = Reconciler(store, broker, env["HUB_DATABASE_URL"], rebuild)
        registrar = Registrar(store, broker, b"p" * 32, lambda: woken.append(None))
        try:
            await until_async(lambda: broker.connected, "the broker is connected")
            port = int(env["HUB_MQTT_URL"].rpartition(":")[2])
            yield Parts(database, store, broker, reconciler, registrar, port, projector, rebuild, woken)
        finally:
            stopping.set()


@pytest.fixture
async def parts(environment: dict[str, str]) -> AsyncIterator[Parts]:
    async with open_parts(environment) as opened:
        yield opened
