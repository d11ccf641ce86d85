"""The whole path, device to visible in `normalized`: latency at a steady rate, and whether a rate holds.

Latency counts from the moment at which a message was due, which is its `ts`.
"""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from deploy.bench.agent import local_clients
from deploy.bench.conditions import rate_held
from deploy.bench.mqtt_load import Client, Outcome, publish, single
from deploy.bench.rig import Rig
from deploy.demo.judge import percentile
from deploy.site.topics import consumer, record_of
from shared.errors import Permanent, Transient
from shared.topics import Kafka

RATE = 1_000.0
SECONDS = 20.0
WARM_S = 3.0
"""Messages of the first seconds are sent and must arrive, but their latency does not count."""

DEVICES = 20
GATEWAYS = 4
"""So many that each one's local broker, saving every change as shipped, has half of what it can take (some 430/s)."""
_DRAIN_S = 60.0


@dataclass(slots=True)
class Seen:
    """What a read_committed reader saw: latency by (device, number), and what it saw again."""

    latency_ms: dict[tuple[str, int], float] = field(default_factory=dict)
    due_ms: dict[tuple[str, int], int] = field(default_factory=dict)
    again: int = 0
    rejected: int = 0


def direct(runs: int) -> dict[str, list[float]]:
    """1,000 messages/s from 20 devices attached straight to the hub."""
    with Rig() as rig:
        people = rig.register(DEVICES, 0, 0)
        rig.serve()
        port = rig.stack.mosquitto.port
        values = [_latencies(rig, [(port, people.direct_clients())]) for _ in range(runs)]
    return {
        "e2e_direct_p50_ms": [_percentile(item, 0.5) for item in values],
        "e2e_direct_p99_ms": [_percentile(item, 0.99) for item in values],
    }


def through_gateways(runs: int) -> dict[str, list[float]]:
    """1,000 messages/s from 20 devices behind four gateways as shipped, scored there."""
    with Rig() as rig:
        people = rig.register(0, GATEWAYS, DEVICES // GATEWAYS)
        rig.serve()
        targets = []
        for identity in people.gateways:
            gateway = rig.gateway(identity, rig.env["HUB_MQTT_URL"])
            gateway.start()
            targets.append((gateway.broker.port, local_clients(people.behind[identity.id])))
        values = [_latencies(rig, targets) for _ in range(runs)]
    return {"e2e_gateway_p99_ms": [_percentile(item, 0.99) for item in values]}


def sustained(target: float, duration_s: float) -> dict[str, list[float]]:
    """Half direct, half through gateways, for `duration_s` at `target` messages/s.

    Raises Permanent if anything is lost or doubled, or if the whole path needs more than a tenth longer than the
    load lasted: a path that only queues does not hold its target.
    """
    with Rig() as rig:
        people = rig.register(DEVICES // 2, GATEWAYS, DEVICES // 2 // GATEWAYS)
        rig.serve()
        direct = people.direct_clients()
        targets = [(rig.stack.mosquitto.port, direct[number::GATEWAYS]) for number in range(GATEWAYS)]
        for identity in people.gateways:
            gateway = rig.gateway(identity, rig.env["HUB_MQTT_URL"])
            gateway.start()
            targets.append((gateway.broker.port, local_clients(people.behind[identity.id])))
        seen, taken, elapsed_s = asyncio.run(_observe(rig, targets, target, duration_s))
    if len(seen.latency_ms) < taken or seen.again:
        raise Permanent(f"{taken - len(seen.latency_ms)} of {taken} readings lost, {seen.again} doubled")
    rate_held(taken, target, duration_s)
    rate = taken / elapsed_s
    if rate < 0.9 * target:
        raise Permanent(f"{rate:,.0f} readings/s over the whole path; {target:,.0f} were asked for")
    return {
        "sustained_readings_per_s": [rate],
        "sustained_p99_ms": [_percentile(list(seen.latency_ms.values()), 0.99)],
    }


def _latencies(rig: Rig, targets: Sequence[tuple[int, Sequence[Client]]]) -> list[float]:
    seen, taken, _ = asyncio.run(_observe(rig, targets, RATE, SECONDS))
    rate_held(taken, RATE, SECONDS)
    if len(seen.latency_ms) != taken or seen.again:
        raise Permanent(f"{taken} readings taken, {len(seen.latency_ms)} visible, {seen.again} of them again")
    begin_ms = min(seen.due_ms.values()) + WARM_S * 1_000
    return [latency for key, latency in seen.latency_ms.items() if seen.due_ms[key] >= begin_ms]


async def _observe(
    rig: Rig, targets: Sequence[tuple[int, Sequence[Client]]], rate: float, seconds: float
) -> tuple[Seen, int, float]:
    """Publish at `rate` in all while a reader looks.

    What it saw, how many messages were acknowledged, and the seconds from the first one until all were seen.
    """
    seen = Seen()
    devices = {client.client_id for _, clients in targets for client in clients}
    async with consumer(rig.bootstrap, (Kafka.NORMALIZED, Kafka.REJECTED), "latest") as reader:
        looking = asyncio.create_task(_look(reader, seen, devices))
        started = time.monotonic()
        loads: list[list[Outcome]] = await asyncio.gather(
            *(
                publish(
                    "127.0.0.1", port, [(client, single(client.client_id, 120)) for client in clients],
                    seconds=seconds, rate=rate / len(targets),
                )
                for port, clients in targets
            )
        )  # fmt: skip
        taken = sum(outcome.taken for outcomes in loads for outcome in outcomes)
        deadline = time.monotonic() + _DRAIN_S
        while len(seen.latency_ms) < taken and time.monotonic() < deadline:
            if looking.done():
                looking.result()
            await asyncio.sleep(0.02)
        elapsed_s = time.monotonic() - started
        looking.cancel()
    if seen.rejected:
        raise Transient(f"{seen.rejected} readings were rejected")
    return seen, taken, elapsed_s


async def _look(reader: object, seen: Seen, devices: set[str]) -> None:
    while True:
        batches = await reader.getmany(timeout_ms=1_000)  # type: ignore[attr-defined]  # aiokafka is untyped
        now_ms = time.time_ns() / 1e6
        for records in batches.values():
            for item in records:
                record = record_of(item)
                if record.key not in devices:
                    continue
                if record.topic == Kafka.REJECTED:
                    seen.rejected += 1
                    continue
                data = record.json()
                key = (record.key, int(data["metrics"]["n"]))
                seen.again += key in seen.latency_ms
                seen.due_ms[key] = int(data["ts_raw"])
                seen.latency_ms[key] = now_ms - int(data["ts_raw"])


def _percentile(values: Sequence[float], share: float) -> float:
    found = percentile(values, share)
    if found is None:
        raise Transient("nothing was measured")
    return found
