"""Ingest alone: MQTT in, Kafka confirmed, PUBACK out, as fast as it goes beside broker, Kafka and the load.

The load keeps at most BACKLOG messages between itself and Kafka, so there is always something to do, and the broker
is not measured filling its memory.
"""

import asyncio
import os
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from aiokafka import AIOKafkaConsumer

from control_plane.db.kafka_reader import stop_reader
from deploy.bench.mqtt_load import Client, Messages, Outcome, batches, publish, single
from deploy.bench.pace import LOOK_S, Followed, followed
from deploy.bench.rig import Rig, cpu_s
from shared.errors import Permanent, Transient
from shared.topics import Kafka

SECONDS = 60.0
"""A rate is promised as sustained; DURATION_S makes a quick look shorter."""

SINGLE_CLIENTS = 8
BATCH_CLIENTS = 4
READINGS_PER_BATCH = 100
BACKLOG = 20_000
_DRAIN_S = 120.0


def single_messages(runs: int) -> dict[str, list[float]]:
    """Single QoS 1 messages of 200 bytes: messages/s, and CPU per message of the ingest process."""
    rates, costs = [], []
    with Rig() as rig:
        people = rig.register(SINGLE_CLIENTS, 0, 0)
        work = [(client, single(client.client_id)) for client in people.direct_clients()]
        with rig.service("ingest") as process:
            for _ in range(runs):
                before = cpu_s(process)
                count, elapsed_s = _run(rig, work)
                rates.append(count / elapsed_s)
                costs.append((cpu_s(process) - before) / count * 1e6)
    return {"ingest_single_msgs_per_s": rates, "ingest_cpu_us_per_msg": costs}


def batched_readings(runs: int) -> dict[str, list[float]]:
    """Batches of 100 readings: readings/s."""
    rates = []
    with Rig() as rig:
        people = rig.register(0, BATCH_CLIENTS, 2)
        with rig.service("ingest"):
            for _ in range(runs):
                work = [
                    (client, batches(people.behind[client.client_id], READINGS_PER_BATCH))
                    for client in people.gateway_clients()
                ]
                count, elapsed_s = _run(rig, work)
                rates.append(count * READINGS_PER_BATCH / elapsed_s)
    return {"ingest_batched_readings_per_s": rates}


def _run(rig: Rig, work: Sequence[tuple[Client, Messages]]) -> tuple[int, float]:
    """Publish for SECONDS; messages in raw and the seconds until the last was there. Nothing may be missing."""
    return asyncio.run(_measure(rig, work))


async def _measure(rig: Rig, work: Sequence[tuple[Client, Messages]]) -> tuple[int, float]:
    seconds = float(os.environ.get("DURATION_S") or SECONDS)
    async with _following(rig.bootstrap, Kafka.RAW) as arrived:
        started = time.monotonic()
        outcomes: list[Outcome] = await publish(
            "127.0.0.1", rig.stack.mosquitto.port, work, seconds=seconds, most=lambda: arrived.count + BACKLOG
        )
        taken = sum(outcome.taken for outcome in outcomes)
        deadline = time.monotonic() + _DRAIN_S
        while arrived.count < taken:
            if time.monotonic() > deadline:
                missing = taken - arrived.count
                raise Transient(f"{missing} of {taken} acknowledged messages are not in raw after {_DRAIN_S:.0f} s")
            await asyncio.sleep(LOOK_S)
        elapsed_s = time.monotonic() - started
    if arrived.count != taken:
        raise Permanent(f"{arrived.count} records in raw for {taken} acknowledged messages")
    return taken, elapsed_s


@asynccontextmanager
async def _following(bootstrap: str, topic: Kafka) -> AsyncIterator[Followed]:
    """How much a topic has grown, where no transaction writes it."""
    client = AIOKafkaConsumer(topic, bootstrap_servers=bootstrap)
    await client.start()
    try:
        partitions = list(client.assignment())
        client.pause(*partitions)  # only its ends are asked for

        async def end() -> int:
            return sum((await client.end_offsets(partitions)).values())

        async with followed(end) as arrived:
            yield arrived
    finally:
        await stop_reader(client)
