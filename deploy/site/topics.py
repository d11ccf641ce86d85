"""Reading Kafka as a data team would: read_committed, whole topics or from now on."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import msgspec
from aiokafka import AIOKafkaConsumer
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from control_plane.db.kafka_reader import stop_reader
from shared.envelope import text_headers
from shared.errors import Transient


@dataclass(frozen=True, slots=True)
class Record:
    """One record: where it stands, its headers as text, its data decoded if it is JSON (else None)."""

    topic: str
    partition: int
    offset: int
    key: str
    headers: dict[str, str]
    value: bytes

    def json(self) -> Any:
        """The data, decoded."""
        return msgspec.json.decode(self.value)


@asynccontextmanager
async def consumer(bootstrap: str, topics: Sequence[str], start: str) -> AsyncIterator[AIOKafkaConsumer]:
    """A read_committed consumer of all partitions, without a group; `start` is `earliest` or `latest`."""
    # Without a group, the client takes every partition of its topics when it starts.
    client = AIOKafkaConsumer(
        *topics,
        bootstrap_servers=bootstrap,
        isolation_level="read_committed",
        auto_offset_reset=start,
        enable_auto_commit=False,
        fetch_max_wait_ms=20,
        max_partition_fetch_bytes=8 * 1024 * 1024,
    )
    await client.start()
    try:
        absent = set(topics) - {partition.topic for partition in client.assignment()}
        if absent:
            raise Transient(f"no such topic: {', '.join(sorted(absent))}", hint="run `hub migrate`")
        for partition in client.assignment():
            await client.position(partition)  # settled, so that "from now on" means from here
        yield client
    finally:
        await stop_reader(client)


async def read_all(bootstrap: str, topics: Sequence[str], *, within_s: float = 60.0) -> list[Record]:
    """Every committed record of these topics up to now. Raises Transient if it takes longer than `within_s`."""
    found: list[Record] = []
    async with consumer(bootstrap, topics, "earliest") as client:
        ends = await client.end_offsets(list(client.assignment()))
        try:
            async with asyncio.timeout(within_s):
                while not await _read_up_to(client, ends):
                    for batch in (await client.getmany(timeout_ms=200)).values():
                        found += [record_of(item) for item in batch]
        except TimeoutError:
            late = {str(p): (await client.position(p), end) for p, end in ends.items()}
            raise Transient(f"topics not read within {within_s:.0f} s: {late}") from None
    return found


async def committed(bootstrap: str, group: str, topic: str) -> dict[int, int]:
    """How far a consumer group has come in a topic: by partition, the offset that it reads next.

    Raises Transient while nobody knows, as in the moments after Kafka's start.
    """
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    try:
        await admin.start()
        offsets = await admin.list_consumer_group_offsets(group)
    except KafkaError as error:
        raise Transient(f"how far {group} is cannot be asked: {error!r}") from error
    finally:
        await admin.close()
    return {place.partition: int(at.offset) for place, at in offsets.items() if place.topic == topic}


def record_of(item: Any) -> Record:
    """Our record of aiokafka's."""
    return Record(
        item.topic,
        item.partition,
        item.offset,
        (item.key or b"").decode("utf-8", "replace"),
        text_headers(item.headers),
        item.value or b"",
    )


async def _read_up_to(client: Any, ends: dict[Any, int]) -> bool:
    return all([await client.position(partition) >= end for partition, end in ends.items()])
