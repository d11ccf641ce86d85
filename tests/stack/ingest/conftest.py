"""A broker and a database of its own for each test, the session's Kafka, and devices that the broker knows."""

import asyncio
import itertools
import json
import os
import secrets
import shutil
import subprocess
import sys
import uuid
from collections.abc import Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import aiomqtt
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from control_plane.db.kafka import Wanted, ensure_topics, wanted
from control_plane.db.kafka_reader import stop_reader
from control_plane.ingest.config import broker_password
from deploy.bench.mqtt_load import Client
from deploy.stack import Stack, host
from deploy.stack.host import reachable_temp_dir
from deploy.stack.mosquitto import Mosquitto
from shared.dynsec_document import SALT_BYTES, BrokerClient, hash_secret
from shared.ids import new_device_id
from shared.topics import Kafka
from tests.stack.hub_process import HubProcess, until

DEVICES, GATEWAYS = 8, 4
_SLOTS = itertools.count(1)
CALM_TESTS = 20
_CALM = itertools.count()


@dataclass
class Record:
    """One record of `raw`."""

    partition: int
    offset: int
    key: str
    value: bytes
    headers: dict[str, bytes]


@dataclass
class KnownBroker:
    """A broker, and the devices and gateways that it knows."""

    server: Mosquitto
    devices: list[Client]
    gateways: list[Client]

    @property
    def port(self) -> int:
        return self.server.port

    @property
    def password(self) -> str:
        """Of our own service."""
        return broker_password(self.server.secrets_file)

    @asynccontextmanager
    async def client(self, client: Client):
        """The device's own connection by an ordinary MQTT 5 client."""
        async with aiomqtt.Client(
            "127.0.0.1",
            self.port,
            identifier=client.client_id,
            username=client.username,
            password=client.password,
            protocol=aiomqtt.ProtocolVersion.V5,
        ) as connection:
            yield connection


@dataclass
class World:
    """What a test of ingest works with."""

    stack: Stack
    broker: KnownBroker
    env: dict[str, str]
    slot: int
    begin: dict[TopicPartition, int] = field(default_factory=dict)

    def ingest(self, data_dir: Path, **settings: str) -> HubProcess:
        """`hub ingest`, not started. Each data directory is another instance."""
        data_dir.mkdir(exist_ok=True)
        env = self.env | {"HUB_DATA_DIR": str(data_dir)} | settings
        return HubProcess(["ingest"], env, service="ingest")

    async def raw(self) -> list[Record]:
        """What `raw` got of this world's devices since the test began, in order within each partition."""
        ours = {client.client_id for client in (*self.broker.devices, *self.broker.gateways)}
        found = []
        async with self._consumer() as consumer:
            partitions = list(self.begin)
            ends = await consumer.end_offsets(partitions)
            for partition in partitions:
                consumer.assign([partition])
                consumer.seek(partition, self.begin[partition])
                while await consumer.position(partition) < ends[partition]:
                    records = await consumer.getmany(partition, timeout_ms=500)
                    found += [
                        Record(item.partition, item.offset, item.key.decode(), item.value, dict(item.headers))
                        for item in records.get(partition, [])
                        if item.key is not None and item.key.decode() in ours
                    ]
        return found

    async def mark(self) -> None:
        """From here on `raw` tells."""
        async with self._consumer() as consumer:
            first = TopicPartition(Kafka.RAW.value, 0)
            consumer.assign([first])
            await consumer.end_offsets([first])
            numbers = consumer.partitions_for_topic(Kafka.RAW.value)
            self.begin = await consumer.end_offsets([TopicPartition(Kafka.RAW.value, n) for n in numbers])

    @asynccontextmanager
    async def _consumer(self):
        consumer = AIOKafkaConsumer(
            bootstrap_servers=self.env["HUB_KAFKA_BOOTSTRAP"], enable_auto_commit=False, fetch_max_wait_ms=20
        )
        await consumer.start()
        try:
            yield consumer
        finally:
            await stop_reader(consumer)


@pytest.fixture
def broker(server_dir: Path) -> Iterator[KnownBroker]:
    """A broker of the test's own, running."""
    with running_broker(server_dir) as running:
        yield running


@contextmanager
def running_broker(server_dir: Path, most_tests: int = 1) -> Iterator[KnownBroker]:
    """A broker with devices and gateways that it knows."""
    server = Mosquitto(server_dir, host.free_port())
    devices = [_client("devices", "telemetry") for _ in range(DEVICES * most_tests)]
    gateways = [_client("gateways", "batches") for _ in range(GATEWAYS * most_tests)]
    server.write_clients(
        [
            BrokerClient(c.username, hash_secret(c.password, secrets.token_bytes(SALT_BYTES)), c.client_id)
            for c in (*devices, *gateways)
        ]
    )
    server.start()
    try:
        yield KnownBroker(server, devices, gateways)
    finally:
        server.stop()


@pytest.fixture(scope="session")
def migrated(stack: Stack) -> Iterator[dict[str, str]]:
    """A database for all tests of ingest, its schema made, and the topics."""
    name = f"test_{uuid.uuid4().hex}"
    stack.postgres.psql(f"CREATE DATABASE {name}")
    directory = reachable_temp_dir("hub-test-")
    env = stack.env() | {
        "HUB_DATABASE_URL": stack.postgres.database_url(name),
        "HUB_ADMIN_TOKEN_FILE": str(directory / "admin-token"),
        "HUB_DATA_DIR": str(directory),
    }
    migrate = [sys.executable, "-m", "control_plane", "migrate"]
    subprocess.run(migrate, env=os.environ | env, check=True, capture_output=True)
    yield env
    stack.postgres.psql(f"DROP DATABASE {name} WITH (FORCE)")
    shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture
def world(stack: Stack, migrated: dict[str, str], broker: KnownBroker) -> World:
    """Servers up, schema and topics made, a slot that no other test uses; no ingest yet."""
    return make_world(stack, migrated, broker)


def make_world(stack: Stack, migrated: dict[str, str], broker: KnownBroker) -> World:
    slot = next(_SLOTS)
    env = migrated | {
        "HUB_MQTT_URL": f"mqtt://127.0.0.1:{broker.port}",
        "HUB_SERVICE_SECRETS_FILE": str(broker.server.secrets_file),
        "HUB_INGEST_SLOT": str(slot),
    }
    made = World(stack, broker, env, slot)
    asyncio.run(made.mark())
    return made


@pytest.fixture
def ingest(world: World, tmp_path: Path) -> Iterator[HubProcess]:
    """The ingest of most tests, running and ready."""
    with world.ingest(tmp_path / "first") as process:
        asyncio.run(ready(process))
        yield process


@asynccontextmanager
async def raw_settings(bootstrap: str, settings: Mapping[str, str]):
    """`raw` with these settings beside its own, for a while."""
    ours = {topic.name: topic for topic in wanted(4, 1, 1, 7, 30)}[Kafka.RAW.value]
    await ensure_topics(bootstrap, [Wanted(ours.name, ours.partitions, 1, settings)])
    try:
        yield
    finally:
        await ensure_topics(bootstrap, [ours])


@asynccontextmanager
async def own_times(bootstrap: str, settings: Mapping[str, str] | None = None):
    """`raw` bears the times that producers write, not Kafka's own, for a while."""
    async with raw_settings(bootstrap, {"message.timestamp.type": "CreateTime"} | dict(settings or {})):
        await _until_stamped(bootstrap, by_kafka=False)
        yield
    await _until_stamped(bootstrap, by_kafka=True)


async def _until_stamped(bootstrap: str, *, by_kafka: bool) -> None:
    """A setting holds a moment after Kafka took it: until each partition has shown that it does."""
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap)
    await producer.start()
    try:
        for partition in range(4):

            async def stamped(partition: int = partition) -> bool:
                written = await producer.send_and_wait(Kafka.RAW.value, b"", b"probe", partition)
                return (written.timestamp_type == 1) is by_kafka

            await until(stamped, "the setting holds")
    finally:
        await producer.stop()


@pytest.fixture(scope="module")
def calm_process(
    stack: Stack, migrated: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[World, HubProcess]]:
    """An ingest for all tests of a module that leave it and its broker as they are."""
    directory = reachable_temp_dir("hub-test-")
    with running_broker(directory, most_tests=CALM_TESTS) as broker:
        world = make_world(stack, migrated, broker)
        with world.ingest(tmp_path_factory.mktemp("calm") / "first") as process:
            asyncio.run(ready(process))
            yield world, process
    shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture
def calm(calm_process: tuple[World, HubProcess]) -> tuple[World, HubProcess]:
    """Its world with devices that no other test used, and the ingest, whose counters go on from other tests."""
    world, process = calm_process
    known, at = world.broker, next(_CALM)
    mine = KnownBroker(
        known.server,
        known.devices[at * DEVICES : (at + 1) * DEVICES],
        known.gateways[at * GATEWAYS : (at + 1) * GATEWAYS],
    )
    assert mine.devices, "more tests than devices"
    own = replace(world, broker=mine)
    asyncio.run(own.mark())
    return own, process


async def ready(process: HubProcess) -> None:
    await until(process.ready, "ingest is ready")


def events(process: HubProcess, name: str) -> list[Mapping[str, object]]:
    """The events of this name that it logged."""
    lines = [json.loads(line) for line in process.log.read_text().splitlines() if line.startswith("{")]
    return [line for line in lines if line["event"] == name]


def _client(root: str, last: str) -> Client:
    name = new_device_id()
    return Client(name, f"k:{name}", secrets.token_urlsafe(16), f"{root}/{name}/{last}")
