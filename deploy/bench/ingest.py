"""Ingest alone: MQTT in, Kafka confirmed, PUBACK out, as fast as it goes beside broker, Kafka and the load."""

import asyncio
import os
import time
from collections.abc import Sequence

from aiokafka import AIOKafkaConsumer

from control_plane.db.kafka_reader import stop_reader
from deploy.bench.mqtt_load import Client, Messages, Outcome, batches, publish, single
from deploy.bench.rig import Rig, cpu_s
from shared.errors import Permanent, Transient
from shared.topics import Kafka

SECONDS = 60.0
"""A rate is promised as sustained; DURATION_S makes a quick look shorter."""

SINGLE_CLIENTS = 8
BATCH_CLIENTS = 4
READINGS_PER_BATCH = 100
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
    before = await end_of(rig.bootstrap, Kafka.RAW)
    started = time.monotonic()
    port = rig.stack.mosquitto.port
    seconds = float(os.environ.get("DURATION_S") or SECONDS)
    outcomes: list[Outcome] = await publish("127.0.0.1", port, work, seconds=seconds)
    taken = sum(outcome.taken for outcome in outcomes)
    deadline = time.monotonic() + _DRAIN_S
    while (arrived := await end_of(rig.bootstrap, Kafka.RAW) - before) < taken:
        if time.monotonic() > deadline:
            raise Transient(
                f"{taken - arrived} of {taken} acknowledged messages are not in raw after {_DRAIN_S:.0f} s"
            )
        await asyncio.sleep(0.1)
    elapsed_s = time.monotonic() - started
    if arrived != taken:
        raise Permanent(f"{arrived} records in raw for {taken} acknowledged messages")
    return arrived, elapsed_s


async def end_of(bootstrap: str, topic: Kafka) -> int:
    """The sum of a topic's end offsets: its records so far, where no transaction wrote it."""
    client = AIOKafkaConsumer(topic, bootstrap_servers=bootstrap)
    await client.start()
    try:
        ends = await client.end_offsets(list(client.assignment()))
    finally:
        await stop_reader(client)
    return sum(ends.values())
