"""What `raw` already has, read from a real Kafka."""

import asyncio
import time

import pytest
from aiokafka import AIOKafkaProducer

from control_plane.ingest.tail import read_since, read_tail
from shared.errors import Transient
from shared.recent import identity
from shared.topics import Kafka
from tests.stack.ingest.conftest import own_times

pytestmark = pytest.mark.stack
NOW_MS = time.time_ns() // 1_000_000
WIDE = {"back_ms": 0, "limit": 1_000_000}


@pytest.fixture
async def bootstrap(migrated):
    """Kafka, `raw` bearing the times that these tests write instead of Kafka's own."""
    address = migrated["HUB_KAFKA_BOOTSTRAP"]
    async with own_times(address):
        yield address


async def put(bootstrap, *records, transactional_id=None):
    """(partition, stamp in ms, value) each, as ingest writes a device's."""
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap, transactional_id=transactional_id)
    await producer.start()
    try:
        if transactional_id:
            await producer.begin_transaction()
        for partition, ms, value in records:
            headers = [("ce_id", f"d:{identity(b'd', value).hex()}".encode()), ("topic_kind", b"telemetry")]
            await producer.send_and_wait(
                Kafka.RAW.value, value, b"d", partition=partition, timestamp_ms=ms, headers=headers
            )
        if transactional_id:
            await producer.commit_transaction()
    finally:
        await producer.stop()


def ids(*values):
    return [identity(b"d", value) for value in values]


def numbered(partition, numbers, tag=b"", step_ms=10, start_ms=NOW_MS):
    return [(partition, start_ms + step_ms * n, tag + b"%d" % n) for n in numbers]


async def test_at_least_the_minimum_of_each_partition_oldest_first(bootstrap):
    tag = b"minimum-"
    start = NOW_MS + 500_000  # later than what other tests wrote
    even, odd = (numbered(0, range(0, 40, 2), tag, start_ms=start), numbered(1, range(1, 41, 2), tag, start_ms=start))
    await put(bootstrap, *even, *odd)
    tail = await read_tail(bootstrap, minimum=5, **WIDE)
    ours = [found for found in tail.identities if found in ids(*(tag + b"%d" % n for n in range(41)))]
    assert ours == ids(*(tag + b"%d" % n for n in range(30, 40)))


async def test_all_since_some_time_before_the_last(bootstrap):
    tag = b"since-"
    start = NOW_MS + 1_000_000
    await put(bootstrap, *numbered(2, range(100), tag, start_ms=start))
    tail = await read_tail(bootstrap, minimum=3, back_ms=500, limit=1_000_000)
    ours = [found for found in tail.identities if found in ids(*(tag + b"%d" % n for n in range(100)))]
    assert ours == ids(*(tag + b"%d" % n for n in range(49, 100)))


async def test_a_busy_partition_may_have_all_the_room(bootstrap):
    """The limit is of all partitions together: what a quiet one leaves a busy one has."""
    tag = b"busy-"
    await put(bootstrap, *numbered(3, range(100), tag, start_ms=NOW_MS + 2_000_000))
    tail = await read_tail(bootstrap, minimum=5, back_ms=10_000, limit=115)
    ours = [found for found in tail.identities if found in ids(*(tag + b"%d" % n for n in range(100)))]
    assert ours == ids(*(tag + b"%d" % n for n in range(100)))
    assert tail.truncated == 0


async def test_beyond_the_limit_the_newest_of_all_partitions_are_known_and_the_rest_is_said(bootstrap):
    tag = b"limit-"
    start = NOW_MS + 3_000_000
    await put(bootstrap, *numbered(0, range(0, 200, 2), tag, start_ms=start))
    await put(bootstrap, *numbered(1, range(1, 200, 2), tag, start_ms=start))
    tail = await read_tail(bootstrap, minimum=5, back_ms=10_000, limit=60)
    numbers = {found: n for n in range(200) for found in ids(tag + b"%d" % n)}
    ours = [numbers[found] for found in tail.identities if found in numbers]
    assert ours == list(range(200 - len(ours), 200))
    # Of the partitions without a recent record five each are read as well.
    assert 48 <= len(ours) <= len(tail.identities) <= 60
    assert tail.truncated == 200 - len(ours)


async def test_a_transaction_s_markers_are_passed_over(bootstrap):
    """Dead letters that are replayed come in transactions: the last offset then holds no record."""
    await put(bootstrap, (1, NOW_MS, b"in a transaction"), transactional_id="test-tail")
    tail = await asyncio.wait_for(read_tail(bootstrap, minimum=2, **WIDE), 20)
    assert identity(b"d", b"in a transaction") in tail.identities


async def test_the_ends_say_where_to_look_afterwards(bootstrap):
    ends = (await read_tail(bootstrap, minimum=1, **WIDE)).ends
    assert len(ends) == 4
    await put(bootstrap, (1, NOW_MS, b"later-1"), (1, NOW_MS, b"later-2"), (2, NOW_MS, b"elsewhere"))
    end, found = await read_since(bootstrap, 1, ends[1])
    assert (end, found) == (ends[1] + 2, set(ids(b"later-1", b"later-2")))
    assert await read_since(bootstrap, 1, end) == (end, set())


async def test_nobody_answers():
    with pytest.raises(Transient):
        await read_tail("127.0.0.1:1", minimum=1, **WIDE)
    with pytest.raises(Transient):
        await read_since("127.0.0.1:1", 0, 0)
