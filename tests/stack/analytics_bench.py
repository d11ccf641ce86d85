"""What the tests of stream jobs share: a hub of their own, readings onto `normalized`, and reading topics back."""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from control_plane.analytics.records import AnalyticsRecord, EventType, NormalizedReading, Quality, encode
from control_plane.db.kafka_reader import stop_reader
from control_plane.db.setup import SetupConfig, set_up
from shared.batch import ClockQuality, Lane
from shared.config import load
from shared.envelope import Envelope, headers, rfc3339
from shared.topics import Kafka

START_MS = 1_767_225_600_000
STEP_MS = 200


class Seen(NamedTuple):
    """One record of a topic."""

    key: str
    headers: dict[str, str]
    value: bytes
    partition: int
    offset: int


async def migrated(env: Mapping[str, str], directory: Any, database_url: str) -> dict[str, str]:
    """The environment of a hub with fresh tables and a directory of its own, on the shared Kafka."""
    own = dict(env) | {
        "HUB_DATABASE_URL": database_url,
        "HUB_DATA_DIR": str(directory),
        "HUB_ADMIN_TOKEN_FILE": str(directory / "admin-token"),
    }
    await set_up(load(SetupConfig, own), wait_s=30, say=print)
    return own


def reading(device: str, n: int, **changes: Any) -> NormalizedReading:
    """The `n`-th live reading of a direct device, one every STEP_MS."""
    facts: dict[str, Any] = {
        "device_id": device,
        "device_type": "thermometer",
        "ts": rfc3339(START_MS + n * STEP_MS),
        "ts_raw": START_MS + n * STEP_MS,
        "received_at": rfc3339(START_MS + n * STEP_MS + 7),
        "metrics": {"temperature": 20.5, "n": n},
        "lane": Lane.LIVE,
        "quality": Quality(ClockQuality.SYNCED, None, ()),
    }
    return NormalizedReading(**(facts | changes))


@asynccontextmanager
async def open_producer(bootstrap: str) -> AsyncIterator[AIOKafkaProducer]:
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap, acks="all", enable_idempotence=True, linger_ms=5)
    await producer.start()
    try:
        yield producer
    finally:
        await producer.stop()


async def send(
    producer: AIOKafkaProducer,
    topic: Kafka,
    event_type: EventType,
    ce_id: str,
    record: AnalyticsRecord,
    traceparent: str | None = None,
) -> None:
    """One event, keyed by its device; `producer.flush()` makes sure of it."""
    device = record.device_id  # type: ignore[union-attr]  # those sent here have one
    envelope = Envelope(ce_id, event_type.value, "/test", START_MS, device, traceparent=traceparent)
    await producer.send(topic.value, encode(record), key=device.encode(), headers=headers(envelope))


async def send_readings(producer: AIOKafkaProducer, readings: Sequence[NormalizedReading]) -> None:
    for item in readings:
        ce_id = f"{item.device_id}:{item.metrics.get('n')}"
        await send(producer, Kafka.NORMALIZED, EventType.READING, ce_id, item)
    await producer.flush()


async def read_topic(bootstrap: str, topic: Kafka) -> list[Seen]:
    """All that a read_committed reader sees of a topic now, in order per partition."""
    consumer = AIOKafkaConsumer(
        bootstrap_servers=bootstrap,
        isolation_level="read_committed",
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        fetch_max_wait_ms=50,
    )
    await consumer.start()
    try:
        consumer.assign([TopicPartition(topic.value, 0)])
        await consumer.end_offsets([TopicPartition(topic.value, 0)])
        numbers = consumer.partitions_for_topic(topic.value) or {0}
        partitions = [TopicPartition(topic.value, number) for number in sorted(numbers)]
        consumer.assign(partitions)
        ends = await consumer.end_offsets(partitions)
        await consumer.seek_to_beginning(*partitions)
        seen = []
        while any([await consumer.position(partition) < ends[partition] for partition in partitions]):
            for records in (await consumer.getmany(timeout_ms=100)).values():
                for record in records:
                    text = {name: value.decode() for name, value in record.headers}
                    seen.append(
                        Seen((record.key or b"").decode(), text, record.value, record.partition, record.offset)
                    )
        return seen
    finally:
        await stop_reader(consumer)
