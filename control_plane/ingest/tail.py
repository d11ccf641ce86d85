"""What `raw` already has: read from its end, at adoption of the slot and after a failed producer.

Promises: of each partition at least `minimum` records (if it has them) and all since `back_ms` before its last one,
but no more than `limit`; oldest first. The broker can deliver again what it had unacknowledged (Receive Maximum)
and what was acknowledged since it last saved its store (its autosave interval).
Leaves what an identity is to `raw_record`.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from control_plane.ingest.raw_record import recorded_identity
from shared.errors import Transient
from shared.topics import Kafka

_REQUEST_TIMEOUT_MS = 10_000
_METADATA_S = 15.0
_POLL_MS = 1_000
_MAX_EMPTY_POLLS = 30


@dataclass(frozen=True, slots=True)
class Tail:
    """The end of all partitions. `ends[partition]` is the offset of the next record; identities oldest first."""

    ends: tuple[int, ...]
    identities: list[bytes]


async def read_tail(bootstrap: str, *, minimum: int, back_ms: int, limit: int) -> Tail:
    """The tail of `raw`. Raises Transient."""
    async with _consumer(bootstrap) as consumer:
        partitions = await _partitions(consumer)
        ends = await consumer.end_offsets(partitions)
        begins = await consumer.beginning_offsets(partitions)
        stamped: list[tuple[int, bytes]] = []
        for partition in partitions:
            begin, end = begins[partition], ends[partition]
            begin = max(begin, end - limit // len(partitions))
            start = max(begin, end - minimum)
            newest = await _read(consumer, partition, start, end)
            if newest and start > begin:
                since = max(ms for ms, _ in newest) - back_ms
                earlier = (await consumer.offsets_for_times({partition: max(0, since)}))[partition]
                if earlier is not None and earlier.offset < start:
                    stamped += await _read(consumer, partition, max(begin, earlier.offset), start)
            stamped += newest
        stamped.sort(key=lambda pair: pair[0])
        return Tail(tuple(ends[partition] for partition in partitions), [identity for _, identity in stamped])


async def read_since(bootstrap: str, partition: int, offset: int) -> tuple[int, set[bytes]]:
    """The partition's end, and the identities from `offset` up to it. Raises Transient."""
    async with _consumer(bootstrap) as consumer:
        wanted = TopicPartition(Kafka.RAW.value, partition)
        await _partitions(consumer)
        end = (await consumer.end_offsets([wanted]))[wanted]
        begin = (await consumer.beginning_offsets([wanted]))[wanted]
        return end, {identity for _, identity in await _read(consumer, wanted, max(offset, begin), end)}


@asynccontextmanager
async def _consumer(bootstrap: str) -> AsyncIterator[AIOKafkaConsumer]:
    consumer = AIOKafkaConsumer(
        bootstrap_servers=bootstrap,
        client_id="ingest-tail",
        enable_auto_commit=False,
        auto_offset_reset="latest",
        request_timeout_ms=_REQUEST_TIMEOUT_MS,
        retry_backoff_ms=200,
        max_partition_fetch_bytes=4 * 1024 * 1024,
    )
    try:
        await consumer.start()
        yield consumer
    except KafkaError as error:
        raise Transient(f"the tail of {Kafka.RAW} cannot be read: {error!r}") from error
    finally:
        await consumer.stop()


async def _partitions(consumer: AIOKafkaConsumer) -> list[TopicPartition]:
    topic = Kafka.RAW.value
    first = TopicPartition(topic, 0)
    consumer.assign([first])  # has the client fetch the topic's metadata
    try:
        async with asyncio.timeout(_METADATA_S):
            await consumer.end_offsets([first])
    except TimeoutError as error:
        raise Transient(f"{topic} does not answer", hint="if it does not exist, run `hub migrate`") from error
    return [TopicPartition(topic, number) for number in sorted(consumer.partitions_for_topic(topic) or ())]


async def _read(
    consumer: AIOKafkaConsumer, partition: TopicPartition, start: int, end: int
) -> list[tuple[int, bytes]]:
    found: list[tuple[int, bytes]] = []
    if start >= end:
        return found
    consumer.assign([partition])  # one at a time: a partition without a position would be fetched from anywhere
    consumer.seek(partition, start)
    empty = 0
    while await consumer.position(partition) < end:
        records = (await consumer.getmany(partition, timeout_ms=_POLL_MS)).get(partition, [])
        empty = 0 if records else empty + 1
        if empty > _MAX_EMPTY_POLLS:
            raise Transient(f"{partition.topic} gave nothing for {_MAX_EMPTY_POLLS * _POLL_MS} ms")
        for record in records:
            if record.offset < end:
                identity = recorded_identity(record.key, record.value, record.headers)
                if identity is not None:
                    found.append((record.timestamp, identity))
    return found
