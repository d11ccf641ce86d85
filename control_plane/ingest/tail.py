"""What `raw` already has: read from its end, at adoption of the slot and after a failed producer.

Promises: of each partition at least `minimum` records (if it has them) and all since `back_ms` before the last one of
all, oldest first; where that is more than `limit`, the newest of all partitions together, and how many were left out.
The broker can deliver again what it had unacknowledged (Receive Maximum) and what was acknowledged since it last
saved its store (its autosave interval).
Leaves what an identity is to `raw_record`.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from control_plane.db.kafka_reader import stop_reader
from control_plane.ingest.raw_record import recorded_identity
from shared.errors import Transient
from shared.topics import Kafka

_REQUEST_TIMEOUT_MS = 10_000
_METADATA_S = 15.0
_POLL_MS = 1_000
_FETCH_WAIT_MS = 20
_MAX_EMPTY_POLLS = 30

Offsets = Mapping[TopicPartition, int]


@dataclass(frozen=True, slots=True)
class Tail:
    """The end of all partitions. `ends[partition]` is the offset of the next record; identities oldest first.

    `truncated`: records that should be known and are not, because they are more than `limit`.
    """

    ends: tuple[int, ...]
    identities: list[bytes]
    truncated: int = 0
    last_ms: int | None = None
    """Epoch milliseconds of the newest record; None if there is none."""


async def read_tail(bootstrap: str, *, minimum: int, back_ms: int, limit: int) -> Tail:
    """The tail of `raw`. Raises Transient."""
    async with _consumer(bootstrap) as consumer:
        partitions = await _partitions(consumer)
        ends = await consumer.end_offsets(partitions)
        begins = await consumer.beginning_offsets(partitions)
        newest = {part: max(begins[part], ends[part] - min(minimum, limit)) for part in partitions}
        stamped: list[tuple[int, bytes]] = []
        for partition in partitions:
            stamped += await _read(consumer, partition, newest[partition], ends[partition])
        truncated = 0
        last_ms = None
        if stamped:
            last_ms = max(ms for ms, _ in stamped)
            wanted = await _since(consumer, newest, last_ms - back_ms)
            starts = await _within(consumer, wanted, newest, (last_ms - back_ms, last_ms), limit - len(stamped))
            truncated = sum(starts[part] - wanted[part] for part in partitions)
            for partition in partitions:
                stamped += await _read(consumer, partition, starts[partition], newest[partition])
        stamped.sort(key=lambda pair: pair[0])
        truncated += max(0, len(stamped) - limit)
        kept = [identity for _, identity in stamped[-limit:]]
        return Tail(tuple(ends[partition] for partition in partitions), kept, truncated, last_ms)


async def _since(consumer: AIOKafkaConsumer, before: Offsets, ms: int) -> Offsets:
    """Of each partition the first record at or after `ms`, if it comes before `before`; else that."""
    found = await consumer.offsets_for_times(dict.fromkeys(before, max(0, ms)))
    return {part: min(found[part].offset, end) if found[part] else end for part, end in before.items()}


async def _within(
    consumer: AIOKafkaConsumer, starts: Offsets, ends: Offsets, between_ms: tuple[int, int], room: int
) -> Offsets:
    """The earliest starts, at one time in all partitions, from which at most `room` records remain."""

    def fits(found: Offsets) -> bool:
        return sum(ends[part] - found[part] for part in ends) <= room

    if fits(starts):
        return starts
    (early_ms, late_ms), latest = between_ms, ends
    while late_ms - early_ms > 1:
        middle_ms = (early_ms + late_ms) // 2
        tried = await _since(consumer, ends, middle_ms)
        if fits(tried):
            late_ms, latest = middle_ms, tried
        else:
            early_ms = middle_ms
    return latest


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
        # What is fetched ahead of the end waits so long for news before the next partition is read.
        fetch_max_wait_ms=_FETCH_WAIT_MS,
    )
    try:
        await consumer.start()
        yield consumer
    except KafkaError as error:
        raise Transient(f"the tail of {Kafka.RAW} cannot be read: {error!r}") from error
    finally:
        await stop_reader(consumer)


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
