"""`hub telemetry tail`: what becomes visible on `normalized`, as it does.

Promises: only committed records; each of them that comes after the start, once; nothing is written anywhere, no
consumer group is made. The order is that of Kafka: per device and lane.
"""

import asyncio
import logging
import signal
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import msgspec
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from control_plane.analytics.records import EventType, NormalizedReading, decode_reading
from control_plane.db.kafka_reader import stop_reader
from shared.errors import Permanent, Transient
from shared.printable import printable
from shared.topics import Kafka

_METADATA_S = 10.0


@dataclass(frozen=True, slots=True)
class TailOptions:
    """`device`: only this one. `since_ms`: from this receive time on (epoch ms), else from now. `count`: then end."""

    device: str | None = None
    since_ms: int | None = None
    count: int | None = None


async def tail(bootstrap: str, options: TailOptions, say: Callable[[NormalizedReading, bytes], None]) -> None:
    """Give each reading and its JSON to `say`, until SIGINT, SIGTERM or the count. Raises Transient or Permanent."""
    # The client's own log lines are not for the person who looks at readings; what matters is raised.
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stopping.set)
    consumer = AIOKafkaConsumer(
        bootstrap_servers=bootstrap,
        client_id="_tail",
        isolation_level="read_committed",
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        fetch_max_wait_ms=100,
    )
    try:
        try:
            await consumer.start()  # within: one that could not start must be stopped too, or it complains at the end
            await _begin(consumer, options)
            await _follow(consumer, options, say, stopping)
        finally:
            await stop_reader(consumer)
    except KafkaError as error:
        if error.retriable or isinstance(error, ConnectionError) or "Connection" in type(error).__name__:
            raise Transient("Kafka does not answer", hint="is the server of HUB_KAFKA_BOOTSTRAP up?") from error
        raise Permanent(f"Kafka refused: {error}") from error


async def _begin(consumer: Any, options: TailOptions) -> None:
    topic = Kafka.NORMALIZED.value
    # Without a group nothing makes the client learn of a topic; to ask for one of its partitions does.
    first = TopicPartition(topic, 0)
    consumer.assign([first])
    try:
        async with asyncio.timeout(_METADATA_S):
            await consumer.end_offsets([first])
    except TimeoutError as error:
        raise Transient(f"Kafka's topic {topic} does not answer", hint="run `hub migrate`") from error
    partitions = [TopicPartition(topic, number) for number in sorted(consumer.partitions_for_topic(topic) or {0})]
    consumer.assign(partitions)
    ends = await consumer.end_offsets(partitions)
    found: dict[Any, Any] = {}
    if options.since_ms is not None:
        found = await consumer.offsets_for_times(dict.fromkeys(partitions, options.since_ms))
    for partition in partitions:
        at = found.get(partition)
        consumer.seek(partition, ends[partition] if at is None else at.offset)


async def _follow(
    consumer: Any,
    options: TailOptions,
    say: Callable[[NormalizedReading, bytes], None],
    stopping: asyncio.Event,
) -> None:
    left = options.count
    while not stopping.is_set() and left != 0:
        found = await consumer.getmany(timeout_ms=200, max_records=5_000)
        for record in (record for records in found.values() for record in records):
            if left == 0:
                return
            reading = _reading(record, options.device)
            if reading is not None:
                say(reading, record.value)
                left = None if left is None else left - 1


def _reading(record: Any, device: str | None) -> NormalizedReading | None:
    if device is not None and record.key != device.encode():
        return None
    if dict(record.headers).get("ce_type") != EventType.READING.encode():
        return None
    try:
        return decode_reading(record.value)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return None


def as_line(reading: NormalizedReading) -> str:
    """One reading for people: time, device, metrics, and what is out of the ordinary."""
    words = [reading.ts, reading.device_id]
    words += [f"{name}={_short(value)}" for name, value in reading.metrics.items()]
    if reading.status is not None:
        words.append(reading.status)
    if reading.lane.value != "live":
        words.append(f"[{reading.lane.value}]")
    words += [f"[{flag.value}]" for flag in reading.quality.flags]
    if reading.score is not None:
        words.append(f"[edge: {reading.score.metric} {reading.score.reason} {reading.score.value:.1f}]")
    return printable(" ".join(words))


def _short(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return f"{value:.6g}" if isinstance(value, float) else str(value)
