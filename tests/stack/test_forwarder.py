"""The forwarder on real servers: the sum of deltas survives repeats and kills, and no device's name leaves."""

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from itertools import pairwise
from pathlib import Path

import jsonschema
import msgspec
import pytest
from aiokafka import AIOKafkaProducer

from control_plane.analytics.pseudonym_key import read_pseudonym_key
from control_plane.analytics.records import EventType, StockAdjusted, decode
from deploy.stack import Stack
from shared.batch import Lane
from shared.envelope import rfc3339
from shared.pseudonym import pseudonym
from shared.reading import MetricValue
from shared.topics import Kafka
from tests.stack.analytics_bench import (
    START_MS,
    STEP_MS,
    Seen,
    migrated,
    open_producer,
    read_topic,
    reading,
    send,
    send_readings,
)
from tests.stack.hub_process import CHECKOUT, HubProcess, until

RULES = """
[[rule]]
id = "gate"
device_type = "gate"
metric = "closed"
op = "=="
threshold = true
sku = "PALLET"
location = "dock-4"
unit = "pcs"
quantity = -1
late = "count"

[[rule]]
id = "silo"
device_type = "scale"
metric = "kg"
op = ">="
threshold = 0
sku = "FEED"
location = "barn"
unit = "kg"
reason = "consumed"
level = { metric = "kg", dead_band = 0.5 }
"""
TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.fixture
async def env(stack: Stack, database_url: str, server_dir: Path) -> dict[str, str]:
    own = await migrated(stack.env(), server_dir, database_url)
    rules = server_dir / "rules.toml"
    rules.write_text(RULES)
    return own | {"HUB_INVENTORY_RULES_FILE": str(rules)}


@pytest.fixture
async def producer(env: dict[str, str]) -> AsyncIterator[AIOKafkaProducer]:
    async with open_producer(env["HUB_KAFKA_BOOTSTRAP"]) as producer:
        yield producer


@pytest.fixture
def forwarder(env: dict[str, str]) -> Iterator[HubProcess]:
    with HubProcess(["analytics", "forwarder"], env, service="forwarder") as process:
        yield process


def write(path: str, text: str) -> None:
    Path(path).write_text(text, encoding="utf-8")


def name_of(env: dict[str, str], device: str) -> str:
    return pseudonym(read_pseudonym_key(Path(env["HUB_DATA_DIR"]), None), device)


async def adjustments(env: dict[str, str], *devices: str) -> list[tuple[Seen, StockAdjusted]]:
    names = {name_of(env, device) for device in devices}
    found = []
    for seen in await read_topic(env["HUB_KAFKA_BOOTSTRAP"], Kafka.STOCK):
        if seen.key in names:
            record = decode(EventType.STOCK, seen.value)
            assert isinstance(record, StockAdjusted)
            found.append((seen, record))
    return found


async def arrived(env: dict[str, str], count: int, *devices: str) -> list[tuple[Seen, StockAdjusted]]:
    found: list[tuple[Seen, StockAdjusted]] = []

    async def enough() -> bool:
        found[:] = await adjustments(env, *devices)
        return len(found) >= count

    await until(enough, f"{count} changes of stock are visible")
    return found


async def send_gate(
    producer: AIOKafkaProducer, device: str, n: int, closed: MetricValue, lane: Lane = Lane.LIVE
) -> None:
    item = reading(device, n, device_type="gate", metrics={"closed": closed, "n": n}, lane=lane)
    await send(producer, Kafka.NORMALIZED, EventType.READING, f"{device}:{n}", item, TRACE)


async def test_an_adjustment_is_fit_for_another_domain(
    env: dict[str, str], producer: AIOKafkaProducer, forwarder: HubProcess, device_id: Callable[[], str]
) -> None:
    device = device_id()
    for n in range(4):
        await send_gate(producer, device, n, n % 2 == 1)
    await producer.flush()
    found = await arrived(env, 2, device)
    seen, record = found[0]
    name = name_of(env, device)
    assert record == StockAdjusted(
        sku="PALLET", location="dock-4", delta=-1.0, unit="pcs", reason="sensor",
        occurred_at=rfc3339(START_MS + STEP_MS), source_pseudonym=name,
    )  # fmt: skip
    assert seen.key == name
    assert seen.headers["ce_type"] == "ecommerce.inventory.stock.adjusted.v1"
    assert seen.headers["ce_subject"] == name
    assert seen.headers["ce_source"] == "/analytics/forwarder"
    assert seen.headers["traceparent"] == TRACE
    schema = msgspec.json.decode((CHECKOUT / "shared/schemas" / f"{EventType.STOCK}.json").read_bytes())
    jsonschema.validate(msgspec.json.decode(seen.value), schema)
    for seen, _ in found:
        assert device not in repr(seen)
    await until(lambda: forwarder.metric("stock_adjustments_total", sku="PALLET") == 2.0, "they are counted")
    assert device not in forwarder.log_end()
    assert forwarder.stop() == 0


async def test_the_sum_survives_repeats_and_sigkill(
    env: dict[str, str], producer: AIOKafkaProducer, forwarder: HubProcess, device_id: Callable[[], str]
) -> None:
    source = random.Random(11)
    gates, scales = [device_id() for _ in range(4)], [device_id() for _ in range(4)]
    count, kills = 800, 4
    held = {device: [False] + [source.random() < 0.3 for _ in range(count - 1)] for device in gates}
    levels = {device: [100.0 + source.uniform(-40.0, 40.0) for _ in range(count)] for device in scales}

    async def load() -> None:
        for first in range(0, count, 40):
            # Each slice twice: what was delivered is delivered again.
            for _ in range(2):
                for n in range(first, first + 40):
                    for device in gates:
                        await send_gate(producer, device, n, held[device][n])
                    await send_readings(
                        producer,
                        [reading(d, n, device_type="scale", metrics={"kg": levels[d][n], "n": n}) for d in scales],
                    )
            await asyncio.sleep(0.2)

    async def crash() -> None:
        for _ in range(kills):
            await until(forwarder.ready, "the forwarder is ready")
            await asyncio.sleep(source.uniform(0.0, 0.8))
            forwarder.kill()
            forwarder.start()

    await asyncio.gather(load(), crash())
    onsets = {device: sum(not a and b for a, b in pairwise(held[device])) for device in gates}
    for device in gates:  # one more onset, which shows that all before it was seen
        await send_gate(producer, device, count, False)
        await send_gate(producer, device, count + 1, True)
    for device in scales:
        await send_readings(producer, [reading(device, count, device_type="scale", metrics={"kg": 1_000.0})])

    async def done() -> bool:
        found = await adjustments(env, *gates, *scales)
        last = {rfc3339(START_MS + (count + 1) * STEP_MS), rfc3339(START_MS + count * STEP_MS)}
        return sum(record.occurred_at in last for _, record in found) == len(gates) + len(scales)

    await until(done, "all was judged")
    found = await adjustments(env, *gates, *scales)
    assert len({seen.headers["ce_id"] for seen, _ in found}) == len(found)
    sums: Counter[str] = Counter()
    for _, record in found:
        sums[record.source_pseudonym] += record.delta  # type: ignore[assignment]  # a Counter of floats
    for device in gates:
        last = int(not held[device][-1])  # the closing False, True is an onset whatever came before
        assert sums[name_of(env, device)] == -(onsets[device] + 1), last
    for device in scales:
        assert sums[name_of(env, device)] == pytest.approx(1_000.0 - levels[device][0], abs=1e-6)


async def test_rules_may_change_while_it_runs_and_mistakes_change_nothing(
    env: dict[str, str], producer: AIOKafkaProducer, forwarder: HubProcess, device_id: Callable[[], str]
) -> None:
    await until(forwarder.ready, "the forwarder is ready")
    rules = env["HUB_INVENTORY_RULES_FILE"]
    write(rules, RULES.replace('sku = "PALLET"', 'sku = ""'))
    device = device_id()
    n = 0

    async def sent_one_more(sku: str) -> bool:
        nonlocal n
        for closed in (False, True):
            await send_gate(producer, device, n, closed)
            n += 1
        await producer.flush()
        found = await adjustments(env, device)
        return bool(found) and found[-1][1].sku == sku

    async def complained() -> bool:
        await sent_one_more("PALLET")
        return "rules_unfit" in forwarder.log_end()

    await until(complained, "it says that the file has mistakes")
    assert forwarder.metric("forwarder_rules_unfit") == 1.0
    assert forwarder.ready(), "work goes on"
    write(rules, RULES.replace('sku = "PALLET"', 'sku = "BOX"'))
    await until(lambda: sent_one_more("BOX"), "the new rule is used")
    assert {record.sku for _, record in await adjustments(env, device)} == {"PALLET", "BOX"}
    assert forwarder.metric("forwarder_rules_unfit") == 0.0


async def test_unfit_rules_at_the_start_are_a_mistake_of_configuration(env: dict[str, str]) -> None:
    write(env["HUB_INVENTORY_RULES_FILE"], "[[rule]]\nid = 7\n")
    with HubProcess(["analytics", "forwarder"], env, service="forwarder") as forwarder:
        await until(lambda: forwarder.returncode() is not None, "it ends")
        assert forwarder.returncode() == 2
        assert "rule 1" in forwarder.log_end()
