"""Read the rejected topic, and write dead letters back to `raw`.

Promises: a scan ends where the topic ended when it began; a replay writes each dead letter once, in the order of the
rejections per partition, and returns when Kafka has confirmed all. What was cut is counted and left.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.errors import KafkaError

from control_plane.analytics import dead_letter
from control_plane.analytics.records import EventType, RejectedRecord, decode, text_ms
from control_plane.db.kafka_reader import stop_reader
from shared import envelope
from shared.errors import Transient
from shared.limits import KAFKA_MESSAGE_BYTES
from shared.topics import Kafka

_ASK_S = 10.0
_SILENCE_S = 30.0
_IN_FLIGHT = 500


class DeadLetter(NamedTuple):
    """One rejected record."""

    ce_id: str
    key: str
    record: RejectedRecord


@dataclass(frozen=True, slots=True)
class Choice:
    """Which dead letters; a field that is None chooses all. `since_ms`: received at the hub since."""

    reason: str | None = None
    device: str | None = None
    ce_id: str | None = None
    since_ms: int | None = None

    def holds(self, letter: DeadLetter) -> bool:
        """True if it is one of them. `device` is also the sender: a gateway means all that came through it."""
        origin = letter.record.origin
        return (
            (self.reason is None or letter.record.reason == self.reason)
            and (self.device is None or self.device in (letter.key, origin.device_id, origin.sender))
            and (self.ce_id is None or letter.ce_id == self.ce_id)
            and (self.since_ms is None or text_ms(origin.received_at) >= self.since_ms)
        )


@dataclass(slots=True)
class Replayed:
    """What a replay did. `cut`: chosen, but only their beginning was kept. `last_id`: the last that was written."""

    written: int = 0
    cut: int = 0
    last_id: str | None = None


async def scan(bootstrap: str, choice: Choice) -> AsyncIterator[DeadLetter]:
    """The dead letters of this choice; in order within each partition. Raises Transient if Kafka is away."""
    async with _consumer(bootstrap) as consumer:
        partitions = await _partitions(consumer)
        starts = await _starts(consumer, partitions, choice.since_ms)
        ends = await consumer.end_offsets(partitions)
        for partition in partitions:
            if starts[partition] >= ends[partition]:
                continue
            consumer.assign([partition])
            consumer.seek(partition, starts[partition])
            async for record in _until(consumer, partition, ends[partition]):
                letter = _letter(record)
                if letter is not None and choice.holds(letter):
                    yield letter


async def find(bootstrap: str, ce_id: str) -> DeadLetter | None:
    """The newest dead letter of this ce_id, or None."""
    found = None
    async for letter in scan(bootstrap, Choice(ce_id=ce_id)):
        found = letter
    return found


async def replay(
    bootstrap: str,
    choice: Choice,
    *,
    limit: int | None = None,
    per_s: float = 500.0,
    say: Callable[[DeadLetter], None] = lambda _: None,
) -> Replayed:
    """Write the chosen ones to `raw`, `per_s` a second at most so that live readings go first.

    `say` hears of each that is written. Raises Transient if Kafka is away; what was written by then stays written,
    and the normaliser knows it again if the command is repeated.
    """
    _quiet()
    done = Replayed()
    producer = AIOKafkaProducer(
        bootstrap_servers=bootstrap,
        acks="all",
        enable_idempotence=True,
        max_request_size=KAFKA_MESSAGE_BYTES,
        client_id="_deadletters",
    )
    try:
        try:
            await producer.start()  # within: one that could not start must be stopped too, or it complains at the end
            await _replay(producer, scan(bootstrap, choice), done, limit, per_s, say)
        finally:
            await producer.stop()
    except (KafkaError, OSError) as error:
        raise _away(error, bootstrap) from error
    return done


async def _replay(
    producer: Any,
    letters: AsyncIterator[DeadLetter],
    done: Replayed,
    limit: int | None,
    per_s: float,
    say: Callable[[DeadLetter], None],
) -> None:
    loop = asyncio.get_running_loop()
    began = loop.time()
    waiting: list[asyncio.Future[Any]] = []
    async for letter in letters:
        if dead_letter.was_cut(letter.record):
            done.cut += 1
            continue
        made = dead_letter.replay(letter.ce_id, letter.record)
        await asyncio.sleep(max(0.0, began + done.written / per_s - loop.time()))
        waiting.append(await producer.send(Kafka.RAW.value, made.value, made.key, headers=made.headers))
        done.written += 1
        done.last_id = letter.ce_id
        say(letter)
        if len(waiting) >= _IN_FLIGHT:
            await asyncio.gather(*waiting)
            waiting.clear()
        if limit is not None and done.written >= limit:
            break
    await asyncio.gather(*waiting)


@asynccontextmanager
async def _consumer(bootstrap: str) -> AsyncIterator[Any]:
    _quiet()
    consumer = AIOKafkaConsumer(
        bootstrap_servers=bootstrap,
        enable_auto_commit=False,
        isolation_level="read_committed",
        client_id="_deadletters",
        max_partition_fetch_bytes=2 * KAFKA_MESSAGE_BYTES,
    )
    try:
        await consumer.start()
        yield consumer
    except (KafkaError, OSError) as error:
        raise _away(error, bootstrap) from error
    finally:
        await stop_reader(consumer)


async def _partitions(consumer: Any) -> list[TopicPartition]:
    # Without a group nothing makes the client learn of a topic; to ask for one of its partitions does.
    first = TopicPartition(Kafka.REJECTED.value, 0)
    consumer.assign([first])
    try:
        async with asyncio.timeout(_ASK_S):
            await consumer.end_offsets([first])
    except TimeoutError as error:
        hint = "if it does not exist, run `hub migrate`"
        raise Transient(f"Kafka's topic {Kafka.REJECTED.value} does not answer", hint=hint) from error
    numbers = consumer.partitions_for_topic(Kafka.REJECTED.value) or set()
    return [TopicPartition(Kafka.REJECTED.value, number) for number in sorted(numbers)]


async def _starts(consumer: Any, partitions: list[TopicPartition], since_ms: int | None) -> dict[TopicPartition, int]:
    starts: dict[TopicPartition, int] = await consumer.beginning_offsets(partitions)
    if since_ms is None:
        return starts
    # Kafka's own times are those of the raw records: near the receipt, never long before it.
    found = await consumer.offsets_for_times(dict.fromkeys(partitions, since_ms))
    ends = await consumer.end_offsets(partitions)
    return {
        partition: found[partition].offset if found[partition] is not None else ends[partition]
        for partition in partitions
    }


async def _until(consumer: Any, partition: TopicPartition, end: int) -> AsyncIterator[Any]:
    loop = asyncio.get_running_loop()
    heard = loop.time()
    while await consumer.position(partition) < end:
        batches = await consumer.getmany(partition, timeout_ms=500)
        records = batches.get(partition, [])
        if records:
            heard = loop.time()
        elif loop.time() - heard > _SILENCE_S:
            raise Transient(f"Kafka sent nothing of {partition.topic} for {_SILENCE_S:.0f} s")
        for record in records:
            if record.offset < end:
                yield record


def _letter(record: Any) -> DeadLetter | None:
    found = envelope.text_headers(record.headers)
    data = decode(EventType.REJECTED, record.value or b"")
    if not isinstance(data, RejectedRecord):
        return None
    return DeadLetter(found.get("ce_id", ""), (record.key or b"").decode("utf-8", "replace"), data)


def _quiet() -> None:
    # The client's own log lines are not for the person who reads dead letters; what matters is raised.
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)


def _away(error: Exception, bootstrap: str) -> Transient:
    return Transient(f"Kafka does not answer at {bootstrap} ({type(error).__name__})", hint="is it running?")
