"""aiokafka's own consumer, assigned anew and stopped at once, as our readers do it."""

import asyncio

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from control_plane.db.kafka_reader import stop_reader
from deploy.stack import Stack

pytestmark = pytest.mark.stack
TIMES = 24


async def test_a_reader_assigned_anew_stops_at_once(stack: Stack) -> None:
    bootstrap = stack.env()["HUB_KAFKA_BOOTSTRAP"]
    topic = "stop-at-once"
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    await admin.create_topics([NewTopic(topic, 4, 1)])
    await admin.close()
    async with AIOKafkaProducer(bootstrap_servers=bootstrap) as producer:
        await producer.send_and_wait(topic, b"1", partition=0)
    partitions = [TopicPartition(topic, number) for number in range(4)]
    for turn in range(TIMES):
        consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap, enable_auto_commit=False)
        await consumer.start()
        consumer.assign(partitions[:1])
        await consumer.end_offsets(partitions[:1])
        consumer.assign(partitions)
        for _ in range(turn % 8):
            await asyncio.sleep(0)
        stopping = asyncio.ensure_future(stop_reader(consumer))
        done, _ = await asyncio.wait({stopping}, timeout=20)  # a cancellation would be the second word
        assert done
