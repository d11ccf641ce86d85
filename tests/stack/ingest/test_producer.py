"""The writer of `raw` on a real Kafka: producers that fail, with a batch on its way."""

import asyncio
import os
import random
import signal
from contextlib import asynccontextmanager

import pytest
from aiokafka import TopicPartition
from aiokafka.errors import OutOfOrderSequenceNumber

from control_plane.ingest.events import ACK_LATENCY, CUT_FOR_REFUSAL
from control_plane.ingest.flow import Flow
from control_plane.ingest.packets import Message
from control_plane.ingest.partition import partition_of
from control_plane.ingest.producer import RawWriter
from control_plane.ingest.raw_record import stamp
from control_plane.ingest.tail import read_tail
from shared.clock import SystemClock
from shared.topics import Kafka
from shared.tracing import NoTracing
from tests.stack.hub_process import until
from tests.stack.ingest.conftest import own_times

pytestmark = pytest.mark.stack


async def at_once():
    return


class Writing:
    """A writer with what it needs, and what it confirmed, in order."""

    def __init__(self, world, flow, ends, **changes):
        self.world, self.flow, self.confirmed = world, flow, []
        options = {
            "batch_bytes": 512 * 1024, "linger_s": 0.002, "may_write": at_once, "tracing": NoTracing(),
            "clock": SystemClock(), "random_unit": random.random, "confirmed": self._on_confirmed,
        } | changes  # fmt: skip
        self.writer = RawWriter(world.env["HUB_KAFKA_BOOTSTRAP"], flow, ends, **options)
        self._packet_id = 0

    def _on_confirmed(self, arrivals):
        self.flow.confirmed(arrivals)
        self.confirmed += [arrival.value for arrival in arrivals]

    def put(self, *values, client=0, ahead_ms=0):
        device = self.world.broker.devices[client]
        messages = []
        for value in values:
            self._packet_id += 1
            messages.append(Message(self._packet_id, device.topic.encode(), value))
        self.writer.wake(self.flow.received(1, messages, stamp(SystemClock().wall_ms() + ahead_ms)).partitions)

    async def have(self, *values):
        await until(lambda: len(self.confirmed) >= len(values), f"{len(values)} confirmed")
        assert self.confirmed == list(values)

    @property
    def live(self):
        return self.writer._live


@asynccontextmanager
async def writing(world, **changes):
    tail = await read_tail(world.env["HUB_KAFKA_BOOTSTRAP"], minimum=10, back_ms=0, limit=1_000)
    flow = Flow(len(tail.ends), remember=1_000, unacknowledged_limit=1_000)
    flow.opened(1)
    made = Writing(world, flow, tail.ends, **changes)
    task = asyncio.ensure_future(made.writer.run())
    try:
        yield made
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def values(world):
    return [record.value for record in await world.raw()]


async def test_batches_in_order(world):
    async with writing(world) as made:
        expected = [b"%d" % n for n in range(500)]
        for at in range(0, 500, 50):
            made.put(*expected[at : at + 50])
            await asyncio.sleep(0)
        await made.have(*expected)
    assert await values(world) == expected


@asynccontextmanager
async def kafka_asleep(world):
    os.kill(world.stack.kafka.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(world.stack.kafka.pid, signal.SIGCONT)


async def on_its_way(made):
    """Until the batch has left this process for the sleeping Kafka."""
    await until(lambda: bool(made.live.producer._message_accumulator._pending_batches), "a batch on its way")
    await asyncio.sleep(0.2)  # the kernel of a sleeping process says nothing of it


async def test_a_batch_whose_fate_is_unknown_is_looked_for_before_it_is_sent_again(world):
    """The producer is given up while the batch is with Kafka, which then writes it: it must not be written twice."""
    async with writing(world) as made:
        made.put(b"first")
        await made.have(b"first")
        async with kafka_asleep(world):
            made.put(b"second", b"third")
            await on_its_way(made)
            old = made.live
            closing = asyncio.ensure_future(made.writer._retire(old, OutOfOrderSequenceNumber()))
            await until(old.retired.done, "given up")
            made.put(b"fourth")
        await closing
        await made.have(b"first", b"second", b"third", b"fourth")
        assert made.live is not old
    assert await values(world) == [b"first", b"second", b"third", b"fourth"]


async def test_a_batch_that_kafka_never_had_is_sent_by_the_fresh_producer(world):
    async with writing(world) as made:
        made.put(b"first")
        await made.have(b"first")
        live = made.live
        # As if batches had been lost on the way: Kafka refuses what does not follow the last number that it has.
        device = world.broker.devices[0].client_id.encode()
        partition = TopicPartition(Kafka.RAW.value, partition_of(device, 4))
        live.producer._txn_manager.increment_sequence_number(partition, 1_000)
        made.put(b"second")
        await made.have(b"first", b"second")
        assert made.live is not live
    assert await values(world) == [b"first", b"second"]


DAY_MS = 86_400_000


@pytest.mark.parametrize("ahead_ms", [2 * DAY_MS, 27_000 * DAY_MS, -20_000 * DAY_MS])
async def test_a_clock_that_is_wrong_costs_no_message(world, ahead_ms):
    """Two days and some decades ahead, and back in 1971: whole in `raw`, with the time of receipt as it was told."""
    async with writing(world) as made:
        made.put(b"whole", ahead_ms=ahead_ms)
        await made.have(b"whole")
    (record,) = await world.raw()
    assert record.value == b"whole"
    assert "cut_length" not in record.headers
    assert abs(int(record.headers["received_ms"]) - SystemClock().wall_ms() - ahead_ms) < 60_000


async def test_a_time_that_kafka_refuses_is_left_out_and_nothing_is_cut(world):
    """A topic with Kafka's own defaults, as somebody else may have made it."""
    async with (
        own_times(world.env["HUB_KAFKA_BOOTSTRAP"], {"message.timestamp.after.max.ms": "3600000"}),
        writing(world) as made,
    ):
        made.put(b"1", b"2", ahead_ms=2 * DAY_MS)
        await made.have(b"1", b"2")
        made.put(b"3", ahead_ms=2 * DAY_MS)
        await made.have(b"1", b"2", b"3")
        assert not made.writer._stamped
    found = await world.raw()
    assert [record.value for record in found] == [b"1", b"2", b"3"]
    assert not any("cut_length" in record.headers for record in found)
    assert CUT_FOR_REFUSAL._value.get() == 0


async def test_nothing_is_written_while_this_process_may_not(world):
    gate, asked = asyncio.Event(), asyncio.Event()

    async def may_write():
        asked.set()
        await gate.wait()

    async with writing(world, may_write=may_write) as made:
        made.put(b"1")
        await asked.wait()
        assert made.live is None, "no producer before the word"
        assert await values(world) == []
        gate.set()
        await made.have(b"1")


class Spans:
    """Tracing that keeps what it is told; each stage is the parent of what follows."""

    enabled = True

    def __init__(self):
        self.stages = []

    def start(self):
        return trace(0) if not self.stages else None  # of messages without a parent only the first is sampled

    def stage(self, name, parent, start_ns, end_ns, attributes):
        assert start_ns <= end_ns + 1_000_000  # receipt is known to the millisecond
        if parent is None:
            return None
        made = trace(len(self.stages) + 1)
        self.stages.append((name, parent, made))
        return made

    def close(self):
        return


def trace(number):
    return f"00-{1:032x}-{number + 1:016x}-01"


async def test_a_trace_goes_on_from_the_message_to_its_record(world):
    spans = Spans()
    async with writing(world, tracing=spans) as made:
        made.put(b"sampled", b"not sampled")
        await made.have(b"sampled", b"not sampled")
        await until(lambda: len(spans.stages) == 2, "two stages")
    receive, produce = spans.stages
    assert receive[:2] == ("ingest.receive", trace(0))
    assert produce[:2] == ("ingest.produce", receive[2])
    sampled, other = await world.raw()
    assert sampled.headers["traceparent"] == receive[2].encode()
    assert "traceparent" not in other.headers


async def test_messages_of_one_moment_share_a_batch(world):
    async with writing(world, linger_s=0.2) as made:
        made.put(b"1")
        await made.have(b"1")  # the producer is connected
        before = batches_produced()
        for n in range(2, 12):
            made.put(b"%d" % n)
            await asyncio.sleep(0)
        await made.have(*(b"%d" % n for n in range(1, 12)))
        assert batches_produced() == before + 1


def batches_produced():
    return sum(bucket.get() for bucket in ACK_LATENCY._buckets)


async def test_a_batch_takes_what_fits_and_the_next_the_rest(world):
    async with writing(world, batch_bytes=16 * 1024) as made:
        expected = [bytes([65 + n]) * 6_000 for n in range(8)] + [b"z" * 200_000]
        made.put(*expected)
        await made.have(*expected)
    assert await values(world) == expected


async def test_kafka_is_away_before_the_first_producer(world):
    async with writing(world) as made:
        world.stack.kafka.kill()
        made.put(b"1")
        await until(lambda: not made.writer.reachable, "it is noticed")
        world.stack.kafka.start()
        await made.have(b"1")
        assert made.writer.reachable
    assert await values(world) == [b"1"]
