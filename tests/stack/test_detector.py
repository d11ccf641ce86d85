"""The detector on real servers: each anomaly once, whatever is killed."""

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import asyncpg
import msgspec
import pytest
from aiokafka import AIOKafkaProducer

from control_plane.analytics.records import Anomaly, EventType, NormalizedReading, Score, decode
from deploy.stack import Stack
from shared.batch import Lane
from shared.topics import Kafka
from tests.stack.analytics_bench import (
    START_MS,
    STEP_MS,
    Seen,
    migrated,
    open_producer,
    read_topic,
    reading,
    send,
    send_readings,
)
from tests.stack.hub_process import HubProcess, until

TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.fixture
async def env(stack: Stack, database_url: str, server_dir: Path) -> dict[str, str]:
    return await migrated(stack.env(), server_dir, database_url)


@pytest.fixture
async def producer(env: dict[str, str]) -> AsyncIterator[AIOKafkaProducer]:
    async with open_producer(env["HUB_KAFKA_BOOTSTRAP"]) as producer:
        yield producer


@pytest.fixture
def detector(env: dict[str, str]) -> Iterator[HubProcess]:
    with HubProcess(["analytics", "detector"], env, service="detector") as process:
        yield process


def series(device: str, count: int, spikes: set[int], seed: int = 1) -> list[NormalizedReading]:
    source = random.Random(seed)
    return [
        reading(device, n, metrics={"temperature": 20.0 + source.gauss(0.0, 0.2) + 15.0 * (n in spikes), "n": n})
        for n in range(count)
    ]


async def anomalies(env: dict[str, str], *devices: str) -> list[tuple[Seen, Anomaly]]:
    found = []
    for seen in await read_topic(env["HUB_KAFKA_BOOTSTRAP"], Kafka.ANOMALY):
        if seen.key in devices:
            anomaly = decode(EventType.ANOMALY, seen.value)
            assert isinstance(anomaly, Anomaly)
            found.append((seen, anomaly))
    return found


async def arrived(env: dict[str, str], count: int, *devices: str) -> list[tuple[Seen, Anomaly]]:
    """The anomalies of these devices, when there are so many."""
    found: list[tuple[Seen, Anomaly]] = []

    async def enough() -> bool:
        found[:] = await anomalies(env, *devices)
        return len(found) >= count

    await until(enough, f"{count} anomalies are visible")
    return found


async def test_what_the_hub_and_the_edge_find(
    env: dict[str, str], producer: AIOKafkaProducer, detector: HubProcess, device_id: Callable[[], str]
) -> None:
    direct, behind = device_id(), device_id()
    verdict = Score(value=6.5, metric="temperature", reason="noise", expected=20.0)
    await send_readings(producer, series(direct, 200, {150}))
    item = reading(behind, 1, gateway_id="gw-1", lane=Lane.REPLAY, score=verdict)
    await send(producer, Kafka.NORMALIZED, EventType.READING, f"{behind}:1", item, TRACE)
    await producer.flush()
    found = {seen.key: (seen, anomaly) for seen, anomaly in await arrived(env, 2, direct, behind)}
    seen, anomaly = found[direct]
    assert anomaly.episode_id == f"{direct}:temperature:{START_MS + 150 * STEP_MS}"
    assert seen.headers["ce_id"] == anomaly.episode_id + ":0"
    assert seen.headers["ce_type"] == "iot.anomaly.detected.v1"
    assert (seen.headers["ce_source"], seen.headers["ce_subject"]) == ("/analytics/detector", direct)
    assert anomaly.source == "hub"
    seen, anomaly = found[behind]
    assert (anomaly.source, anomaly.score, anomaly.reason) == ("edge", 6.5, "noise")
    assert seen.headers["traceparent"] == TRACE
    # The topic is shared, and so is the group: what other tests left unread is judged here too.
    await until(lambda: detector.metric("anomaly_events_total", source="edge") >= 1.0, "it is counted")
    assert detector.metric("anomaly_events_total", source="hub") >= 1.0
    # The anomalies may be there before the process says so: it knows its place in the group from librdkafka's
    # statistics, which come every two seconds.
    await until(detector.ready, "the detector is ready")
    log = detector.log_end()
    assert "anomaly_detected" in log
    assert direct not in log
    assert behind not in log
    assert detector.stop() == 0


async def test_limits_come_from_postgres_and_may_change(
    env: dict[str, str], producer: AIOKafkaProducer, detector: HubProcess, device_id: Callable[[], str]
) -> None:
    devices = [device_id() for _ in range(60)]
    await until(detector.ready, "the detector is ready")
    connection = await asyncpg.connect(env["HUB_DATABASE_URL"])
    try:
        limits = msgspec.json.encode({"temperature": {"unit": "°C", "max": 60}}).decode()
        await connection.execute("INSERT INTO device_types (name, metrics) VALUES ('oven', $1)", limits)
    finally:
        await connection.close()
    waiting = iter(devices)

    async def alarmed() -> bool:
        # Each time another device, so that no hold-down hides the answer.
        await send_readings(producer, [reading(next(waiting), 1, device_type="oven", metrics={"temperature": 61.0})])
        await asyncio.sleep(0.5)
        return bool(await anomalies(env, *devices))

    await until(alarmed, "a limit set while it runs is used")
    assert (await anomalies(env, *devices))[0][1].reason == "above_max"


async def test_a_detector_without_postgres_waits_and_says_so(
    stack: Stack, env: dict[str, str], producer: AIOKafkaProducer, device_id: Callable[[], str]
) -> None:
    device = device_id()
    verdict = Score(value=6.5, metric="temperature", reason="noise")
    await send_readings(producer, [reading(device, 1, gateway_id="gw-1", score=verdict)])
    await asyncio.to_thread(stack.postgres.kill)
    try:
        with HubProcess(["analytics", "detector"], env, service="detector") as detector:
            await until(lambda: "limits_away" in detector.log_end(), "it says that Postgres is away")
            assert detector.get("/readyz")[0] == 503
            assert "limits" in detector.get("/readyz")[1]
            await asyncio.to_thread(stack.postgres.start)
            assert len(await arrived(env, 1, device)) == 1
    finally:
        await asyncio.to_thread(stack.postgres.start)


async def test_sigkill_at_random_moments_neither_loses_nor_doubles_an_anomaly(
    env: dict[str, str], producer: AIOKafkaProducer, detector: HubProcess, device_id: Callable[[], str]
) -> None:
    devices = [device_id() for _ in range(6)]
    count, kills = 1_200, 4
    spikes = set(range(150, count, 100))
    source = random.Random(3)
    streams = [series(device, count, spikes, seed=index) for index, device in enumerate(devices)]

    async def load() -> None:
        for first in range(0, count, 50):
            for stream in streams:
                await send_readings(producer, stream[first : first + 50])
            await asyncio.sleep(0.3)

    async def crash() -> None:
        for _ in range(kills):
            await until(detector.ready, "the detector is ready")
            await asyncio.sleep(source.uniform(0.0, 0.8))
            detector.kill()
            detector.start()

    await asyncio.gather(load(), crash())
    # An edge verdict of the same device ends its stream: what comes before it in the partition has been judged.
    end = Score(value=9.0, metric="temperature", reason="end")
    for device in devices:
        await send_readings(producer, [reading(device, count + 10_000, gateway_id="gw", score=end)])

    async def done() -> bool:
        return {seen.key for seen, anomaly in await anomalies(env, *devices) if anomaly.reason == "end"} == set(
            devices
        )

    await until(done, "all streams are judged")
    found = [(seen, anomaly) for seen, anomaly in await anomalies(env, *devices) if anomaly.reason != "end"]
    ids = [seen.headers["ce_id"] for seen, _ in found]
    assert len(ids) == len(set(ids))
    # The same streams judged without a crash: exactly the same anomalies, in the same order per device.
    for device, stream in zip(devices, streams, strict=True):
        ours = [(seen.headers["ce_id"], anomaly.value) for seen, anomaly in found if seen.key == device]
        assert ours == undisturbed(stream)
        assert ours


def undisturbed(stream: list[NormalizedReading]) -> list[tuple[str, float]]:
    from control_plane.analytics.detector import Detector
    from control_plane.analytics.job import MemoryState

    detector, state = Detector(lambda _: {}), MemoryState()
    return [(found.ce_id, found.anomaly.value) for item in stream for found in detector.judge(item, state)]
