"""The outbox's second half, in this process: its wake-up, its poll, and that a predecessor is fenced."""

import asyncio
import gc
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiokafka.errors import KafkaError

from control_plane.registry import relay
from control_plane.registry.relay import Relay
from control_plane.registry.store import Store
from deploy.stack import Stack
from shared.topics import Kafka
from tests.stack.registry.conftest import Parts, read_records, until_async


@pytest.fixture
def device() -> str:
    return f"t-{uuid.uuid4().hex[:12]}"


async def put(parts: Parts, device: str, versions: range) -> None:
    """Rows for the outbox, as `store` writes them."""
    for version in versions:
        await parts.database.execute(
            "INSERT INTO registry_outbox (topic, key, value, ce_id, ce_type) VALUES ($1, $2, $3, $4, $5)",
            Kafka.REGISTRY.value,
            device,
            b"%d" % version,
            f"{device}:{version}",
            "test",
        )


async def waiting(parts: Parts) -> int:
    return (await parts.store.outbox_depth())[0]


@asynccontextmanager
async def relaying(environment: dict[str, str], store: Store) -> AsyncIterator[None]:
    task = asyncio.create_task(
        Relay(store, environment["HUB_DATABASE_URL"], environment["HUB_KAFKA_BOOTSTRAP"]).serve()
    )
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_a_change_wakes_it(
    parts: Parts, environment: dict[str, str], device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(relay, "_POLL_S", 3_600.0)
    async with relaying(environment, parts.store):
        for version in (1, 2):
            await put(parts, device, range(version, version + 1))
            await until_async(lambda: _is_empty(parts), "it is relayed without a poll")


async def test_a_lost_wake_up_costs_a_poll(parts: Parts, environment: dict[str, str], device: str) -> None:
    await parts.database.execute("DROP TRIGGER registry_outbox_wake ON registry_outbox")
    async with relaying(environment, parts.store):
        for version in (1, 2):
            await put(parts, device, range(version, version + 1))
            await until_async(lambda: _is_empty(parts), "it is relayed by the poll")


async def test_more_than_a_batch_in_order(
    parts: Parts, environment: dict[str, str], stack: Stack, device: str
) -> None:
    await put(parts, device, range(450))
    async with relaying(environment, parts.store):
        await until_async(lambda: _is_empty(parts), "all is relayed")
    assert await versions(stack, device) == list(range(450))


async def test_a_relay_that_lost_its_place_overwrites_nothing(
    parts: Parts, environment: dict[str, str], stack: Stack, device: str
) -> None:
    """It read version 1, then slept; its successor relayed 1 and 2; what it sends on waking is refused by Kafka."""
    sleeper = Relay(parts.store, environment["HUB_DATABASE_URL"], environment["HUB_KAFKA_BOOTSTRAP"])._producer()
    await sleeper.start()
    try:
        await put(parts, device, range(1, 2))
        stale = await parts.store.outbox_head(10)
        await put(parts, device, range(2, 3))
        async with relaying(environment, parts.store):
            await until_async(lambda: _is_empty(parts), "the successor relays")
        with pytest.raises(KafkaError):
            async with sleeper.transaction():
                await relay._send(sleeper, stale)
    finally:
        await asyncio.gather(asyncio.wait_for(sleeper.stop(), 5), return_exceptions=True)
        # The library leaves futures with the refusal; they complain when collected, which must not be in mid-parse.
        del sleeper
        gc.collect()
    assert await versions(stack, device) == [1, 2]


async def _is_empty(parts: Parts) -> bool:
    return await waiting(parts) == 0


async def versions(stack: Stack, device: str) -> list[int]:
    """The values of one device's records, in the topic's order, as a `read_committed` reader sees them."""
    found: list[Any] = await read_records(stack.env()["HUB_KAFKA_BOOTSTRAP"], Kafka.REGISTRY, device)
    return [int(record.value) for record in found]
