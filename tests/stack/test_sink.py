"""The sink on real servers: every row once, whatever is killed."""

import asyncio
import logging
import random
import signal
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

import asyncpg
import pytest
from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic, RecordsToDelete

from control_plane.analytics import sink as sink_module
from control_plane.analytics.partition_keeper import PartitionKeeper, Retention
from control_plane.analytics.records import Aggregate, Anomaly, EventType, Judge, Severity
from control_plane.analytics.sink import Sink, SinkSettings
from control_plane.analytics.sink_rows import telemetry_row
from control_plane.analytics.sink_store import SinkStore
from control_plane.db import connect
from deploy.stack import Stack
from shared.batch import Lane
from shared.envelope import rfc3339
from shared.errors import Permanent
from shared.topics import Kafka
from shared.tracing import NoTracing
from tests.stack.analytics_bench import START_MS, migrated, open_producer, reading, send, send_readings
from tests.stack.hub_process import HubProcess, until


@pytest.fixture
async def env(stack: Stack, database_url: str, server_dir: Path) -> dict[str, str]:
    """A hub of its own in fresh tables, on the shared Kafka."""
    return await migrated(stack.env(), server_dir, database_url)


@pytest.fixture
async def producer(env: dict[str, str]) -> AsyncIterator[AIOKafkaProducer]:
    async with open_producer(env["HUB_KAFKA_BOOTSTRAP"]) as producer:
        yield producer


@pytest.fixture
def sink(env: dict[str, str]) -> Iterator[HubProcess]:
    process = HubProcess(["analytics", "sink"], env, service="sink")
    with process:
        yield process


async def send_numbers(producer: AIOKafkaProducer, device: str, first: int, count: int) -> None:
    await send_readings(producer, [reading(device, n) for n in range(first, first + count)])


async def numbers(database_url: str, *devices: str) -> Counter[tuple[str, int]]:
    """How often each (device, n) is there; empty while Postgres is away."""
    try:
        connection = await asyncpg.connect(database_url, timeout=5)
    except (OSError, asyncpg.PostgresError):
        return Counter()
    try:
        rows = await connection.fetch(
            "SELECT device_id, (metrics->>'n')::bigint AS n FROM telemetry WHERE device_id = ANY ($1)", list(devices)
        )
        return Counter((row["device_id"], row["n"]) for row in rows)
    finally:
        await connection.close()


def once(devices: list[str], count: int) -> Counter[tuple[str, int]]:
    return Counter((device, n) for device in devices for n in range(count))


async def test_rows_as_they_were_sent(
    env: dict[str, str], producer: AIOKafkaProducer, sink: HubProcess, device_id: Callable[[], str]
) -> None:
    device = device_id()
    await send(producer, Kafka.NORMALIZED, EventType.READING, "1", reading(
        device, 1, gateway_id="gw-1", accepted_at=rfc3339(START_MS + 3), seq=9, status="O\0K", lane=Lane.REPLAY,
        metrics={"temperature": 20.5, "n": 1, "mode": "a\0b", "on": True},
    ))  # fmt: skip
    await send(producer, Kafka.NORMALIZED, EventType.AGGREGATE, "2", Aggregate(
        device_id=device, gateway_id="gw-1", metric="temperature", from_ts=rfc3339(START_MS),
        to_ts=rfc3339(START_MS + 9),
        count=7, min=1.0, max=3.0, mean=2.0, accepted_at=rfc3339(START_MS), received_at=rfc3339(START_MS),
        lane=Lane.LIVE,
    ))  # fmt: skip
    await producer.flush()
    connection = await asyncpg.connect(env["HUB_DATABASE_URL"])
    try:

        async def arrived() -> bool:
            return (
                await connection.fetchval("SELECT count(*) FROM telemetry_aggregates WHERE device_id = $1", device)
                > 0
            )

        await until(arrived, "the aggregate is stored")
        row = dict(await connection.fetchrow("SELECT * FROM telemetry WHERE device_id = $1", device))
        assert rfc3339(int(row["ts"].timestamp() * 1_000)) == rfc3339(START_MS + 200)
        assert (row["gateway_id"], row["seq"], row["status"], row["lane"]) == ("gw-1", 9, "O\ufffdK", "replay")
        assert row["metrics"] == '{"n": 1, "on": true, "mode": "a\ufffdb", "temperature": 20.5}'
        assert (row["clock"], row["skew_ms"], row["flags"], row["ts_raw"]) == ("synced", None, None, None)
        aggregate = dict(await connection.fetchrow("SELECT * FROM telemetry_aggregates WHERE device_id = $1", device))
        assert (aggregate["count"], aggregate["mean"]) == (7, 2.0)
    finally:
        await connection.close()


async def test_an_anomaly_twice_is_one_row(
    env: dict[str, str], producer: AIOKafkaProducer, sink: HubProcess, device_id: Callable[[], str]
) -> None:
    device = device_id()
    anomaly = Anomaly(
        device_id=device, metric="temperature", ts=rfc3339(START_MS), value=80.0, score=12.5,
        severity=Severity.CRITICAL, reason="jump", expected=20.0, source=Judge.HUB,
        episode_id=f"{device}:temperature:1",
    )  # fmt: skip
    for ce_id in ("a", "a", "b"):
        await send(producer, Kafka.ANOMALY, EventType.ANOMALY, f"{device}:{ce_id}", anomaly)
    await producer.flush()
    connection = await asyncpg.connect(env["HUB_DATABASE_URL"])
    try:

        async def ids() -> list[str]:
            rows = await connection.fetch("SELECT id FROM anomalies WHERE device_id = $1 ORDER BY id", device)
            return [row["id"] for row in rows]

        async def arrived() -> bool:
            return len(await ids()) == 2

        await until(arrived, "both anomalies are stored")
        assert await ids() == [f"{device}:a", f"{device}:b"]
    finally:
        await connection.close()


async def test_sigkill_at_random_moments_loses_and_doubles_nothing(
    env: dict[str, str], producer: AIOKafkaProducer, sink: HubProcess, device_id: Callable[[], str]
) -> None:
    devices = [device_id() for _ in range(4)]
    count, kills = 6_000, 5
    source = random.Random(7)

    async def load() -> None:
        for first in range(0, count, 500):
            for device in devices:
                await send_numbers(producer, device, first, 500)
            await asyncio.sleep(0.2)

    async def crash() -> None:
        for _ in range(kills):
            await until(sink.ready, "the sink is ready")
            await asyncio.sleep(source.uniform(0.0, 0.6))
            sink.kill()
            sink.start()

    await asyncio.gather(load(), crash())

    async def complete() -> bool:
        return len(await numbers(env["HUB_DATABASE_URL"], *devices)) == len(devices) * count

    await until(complete, "all rows are stored")
    assert await numbers(env["HUB_DATABASE_URL"], *devices) == once(devices, count)
    await until(lambda: sink.metric("kafka_consumer_lag", job="telemetry") == 0.0, "lag sinks to nothing")
    assert sink.metric("sink_stale_batches_total") == 0.0, "nobody else was there"
    assert sink.stop() == 0


async def test_postgres_killed_and_started(
    stack: Stack, env: dict[str, str], producer: AIOKafkaProducer, sink: HubProcess, device_id: Callable[[], str]
) -> None:
    device = device_id()
    await until(sink.ready, "the sink is ready")
    try:
        await send_numbers(producer, device, 0, 3_000)
        await asyncio.to_thread(stack.postgres.kill)
        await send_numbers(producer, device, 3_000, 3_000)
        await until(lambda: not sink.ready(), "the sink says that it is not ready")
        assert "Postgres" in sink.get("/readyz")[1]
        assert sink.metric("sink_waiting", sink="telemetry") == 1.0
    finally:
        await asyncio.to_thread(stack.postgres.start)

    async def complete() -> bool:
        return len(await numbers(env["HUB_DATABASE_URL"], device)) == 6_000

    await until(complete, "all rows are stored")
    assert await numbers(env["HUB_DATABASE_URL"], device) == once([device], 6_000)
    await until(sink.ready, "the sink is ready again")


async def test_two_sinks_and_a_zombie_write_each_row_once(
    env: dict[str, str], producer: AIOKafkaProducer, sink: HubProcess, device_id: Callable[[], str], server_dir: Path
) -> None:
    """A process is stopped for longer than its session, another takes over, then the first one goes on."""
    devices = [device_id() for _ in range(8)]
    await until(sink.ready, "the first sink is ready")
    for device in devices:
        await send_numbers(producer, device, 0, 500)
    other_env = env | {"HUB_ANALYTICS_INSTANCE": "1", "HUB_DATA_DIR": str(server_dir)}
    with HubProcess(["analytics", "sink"], other_env, service="sink-1") as other:
        await until(other.ready, "the second sink is ready")
        sink.signal(signal.SIGSTOP)
        for device in devices:
            await send_numbers(producer, device, 500, 500)

        async def complete() -> bool:
            return len(await numbers(env["HUB_DATABASE_URL"], *devices)) == 8_000

        await until(complete, "the second sink stores what the first one owned")
        sink.signal(signal.SIGCONT)
        for device in devices:
            await send_numbers(producer, device, 1_000, 500)

        async def more() -> bool:
            return len(await numbers(env["HUB_DATABASE_URL"], *devices)) == 12_000

        await until(more, "the rest is stored")
    assert await numbers(env["HUB_DATABASE_URL"], *devices) == once(devices, 1_500)


async def test_kafka_killed_and_started(
    stack: Stack, env: dict[str, str], sink: HubProcess, device_id: Callable[[], str]
) -> None:
    device = device_id()
    await until(sink.ready, "the sink is ready")
    pid = sink.pid
    try:
        async with open_producer(env["HUB_KAFKA_BOOTSTRAP"]) as producer:
            await send_numbers(producer, device, 0, 3_000)
        await asyncio.to_thread(stack.kafka.kill)
    finally:
        await asyncio.to_thread(stack.kafka.start)
    async with open_producer(env["HUB_KAFKA_BOOTSTRAP"]) as producer:
        await send_numbers(producer, device, 3_000, 3_000)

    async def complete() -> bool:
        return len(await numbers(env["HUB_DATABASE_URL"], device)) == 6_000

    await until(complete, "all rows are stored", wait_s=90)
    assert await numbers(env["HUB_DATABASE_URL"], device) == once([device], 6_000)
    assert sink.pid == pid
    assert sink.returncode() is None, "it waited Kafka out"
    # What Kafka's client says of it, some forty times a second, is not for our log; the sink's own word is.
    assert "aiokafka" not in sink.log.read_text()


class OwnTopic(NamedTuple):
    """A topic that only one test uses: one partition, ten readings. It stands in for a member of `Kafka`."""

    value: str
    admin: AIOKafkaAdminClient


@pytest.fixture
async def own_topic(env: dict[str, str], device_id: Callable[[], str]) -> AsyncIterator[OwnTopic]:
    admin = AIOKafkaAdminClient(bootstrap_servers=env["HUB_KAFKA_BOOTSTRAP"])
    await admin.start()
    topic = OwnTopic(f"test.sink.{uuid.uuid4().hex}", admin)
    await admin.create_topics([NewTopic(topic.value, 1, 1)])
    device = device_id()
    async with open_producer(env["HUB_KAFKA_BOOTSTRAP"]) as producer:
        for n in range(10):
            await send(producer, topic, EventType.READING, f"{n}", reading(device, n))  # type: ignore[arg-type]
        await producer.flush()
    yield topic
    await admin.delete_topics([topic.value])
    await admin.close()


@asynccontextmanager
async def in_process(
    env: dict[str, str], topic: OwnTopic, stands: int, *, start_over: bool = False
) -> AsyncIterator[tuple[Sink, Any]]:
    """A sink of the own topic that stands at an offset, in this process."""
    pool = await connect.pool(env["HUB_DATABASE_URL"])
    store = SinkStore(pool, "own", topic.value)
    await store.stand(0, None, stands)
    settings = SinkSettings(
        name="own",
        topic=topic,  # type: ignore[arg-type]
        bootstrap=env["HUB_KAFKA_BOOTSTRAP"],
        member=f"own-{uuid.uuid4().hex}",
        batch_rows=100,
        linger_ms=10,
        start_over=start_over,
    )
    keeper = PartitionKeeper(pool, Retention(30, 365))
    try:
        yield Sink(settings, store, telemetry_row, keeper.keep, NoTracing()), pool
    finally:
        await pool.close()


async def stored_when(
    env: dict[str, str], topic: OwnTopic, stands: int, count: int, *, start_over: bool = False
) -> list[int]:
    """The numbers that a sink which stands there stores, when there are so many."""
    stopping = asyncio.Event()
    async with in_process(env, topic, stands, start_over=start_over) as (sink, pool), asyncio.TaskGroup() as tasks:
        tasks.create_task(sink.serve(stopping))

        async def enough() -> bool:
            return await pool.fetchval("SELECT count(*) FROM telemetry") >= count

        try:
            await until(enough, f"{count} rows")
            assert sink.missing() == []
        finally:
            stopping.set()
        return [row["n"] for row in await pool.fetch("SELECT (metrics->>'n')::int AS n FROM telemetry ORDER BY n")]


async def test_it_goes_on_where_it_stands(env: dict[str, str], own_topic: OwnTopic) -> None:
    assert await stored_when(env, own_topic, 7, 3) == [7, 8, 9]


async def test_a_log_that_ends_before_what_was_stored_wants_a_person(
    env: dict[str, str], own_topic: OwnTopic, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sink_module, "_AHEAD_S", 1.0)
    async with in_process(env, own_topic, 5_000) as (sink, _):
        with pytest.raises(Permanent, match="--start-over"):
            await asyncio.wait_for(sink.serve(asyncio.Event()), 60)


async def test_starting_over_is_an_order(env: dict[str, str], own_topic: OwnTopic) -> None:
    assert await stored_when(env, own_topic, 5_000, 10, start_over=True) == list(range(10))


async def test_records_that_kafka_dropped_unread_are_said(
    env: dict[str, str], own_topic: OwnTopic, caplog: pytest.LogCaptureFixture
) -> None:
    await own_topic.admin.delete_records({TopicPartition(own_topic.value, 0): RecordsToDelete(before_offset=6)})
    with caplog.at_level(logging.INFO, "events"):
        assert await stored_when(env, own_topic, 2, 4) == [6, 7, 8, 9]
    said = [record.event_fields for record in caplog.records if record.message == "offsets_expired"]  # type: ignore[attr-defined]
    assert said == [{"sink": "own", "partition": 0, "offsets": 4}]
