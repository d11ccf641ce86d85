"""What the registry topic says of limits, read into a `Book` as long as ingest runs.

Promises: nobody waits for it; while Kafka is away what is known stays in use; it never ends ingest. The topic is read
from its beginning at each start: it is compacted, so that is one record a device.
"""

import asyncio
import random
import time
from typing import Any

import msgspec
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from control_plane.db.kafka_reader import stop_reader
from control_plane.ingest import events
from control_plane.ingest.limits import Book
from shared.backoff import Backoff
from shared.device import decode_view
from shared.rates import RECORD_KEY, decode_defaults
from shared.topics import Kafka

_BACKOFF = Backoff(first_s=0.5, cap_s=10.0)
_STABLE_S = 60.0
_METADATA_S = 10.0
_AT_ONCE = 500
"""Records between two looks at what else ingest has to do; some milliseconds."""


class LimitsReader:
    """`serve` reads for ever."""

    def __init__(self, bootstrap: str, book: Book) -> None:
        self._bootstrap = bootstrap
        self._book = book

    async def serve(self) -> None:
        """Until cancelled."""
        attempt = 0
        while True:
            began = time.monotonic()
            try:
                await self._read()
            except (KafkaError, OSError, TimeoutError) as error:
                events.LimitsAway(repr(error)[:200]).emit()
            attempt = 0 if time.monotonic() - began > _STABLE_S else attempt + 1
            await asyncio.sleep(_BACKOFF.delay_s(attempt, random.random()))  # noqa: S311 - jitter, not secrecy

    async def _read(self) -> None:
        """Ends only by an exception."""
        consumer = AIOKafkaConsumer(
            bootstrap_servers=self._bootstrap,
            client_id="ingest-limits",
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            isolation_level="read_committed",
            retry_backoff_ms=500,
        )
        await consumer.start()
        try:
            partitions = await _partitions(consumer)
            consumer.assign(partitions)
            await consumer.seek_to_beginning(*partitions)
            while True:
                found = await consumer.getmany(timeout_ms=1_000, max_records=_AT_ONCE)
                for records in found.values():
                    for record in records:
                        take(self._book, record.key, record.value)
                if found:
                    events.LIMITS_KNOWN.set(len(self._book))
                    await asyncio.sleep(0)  # getmany does not wait while it has more
        finally:
            await stop_reader(consumer)


def take(book: Book, key: bytes | None, value: bytes | None) -> None:
    """One record of the topic into the book; what is none of ours is passed over."""
    if value is None:
        book.forget((key or b"").decode("utf-8", "replace"))
        return
    try:
        if key == RECORD_KEY:
            book.learn_defaults(decode_defaults(value))
        else:
            book.learn(decode_view(value))
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        events.LimitsUnreadable(str(error)[:200]).emit()


async def _partitions(consumer: Any) -> list[TopicPartition]:
    first = TopicPartition(Kafka.REGISTRY.value, 0)
    consumer.assign([first])  # has the client learn of the topic
    async with asyncio.timeout(_METADATA_S):
        await consumer.end_offsets([first])
    numbers = consumer.partitions_for_topic(Kafka.REGISTRY.value) or set()
    return [TopicPartition(Kafka.REGISTRY.value, number) for number in sorted(numbers)]
