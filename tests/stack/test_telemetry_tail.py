"""`hub telemetry tail` as a user sees it."""

import asyncio
import json
import os
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiokafka import AIOKafkaProducer

from deploy.stack import Stack
from tests.stack.analytics_bench import migrated, open_producer, reading, send_readings
from tests.stack.hub_process import CHECKOUT


@pytest.fixture
async def env(stack: Stack, database_url: str, server_dir: Path) -> dict[str, str]:
    return await migrated(stack.env(), server_dir, database_url)


@pytest.fixture
async def producer(env: dict[str, str]) -> AsyncIterator[AIOKafkaProducer]:
    async with open_producer(env["HUB_KAFKA_BOOTSTRAP"]) as producer:
        yield producer


@asynccontextmanager
async def tail(env: dict[str, str], *words: str) -> AsyncIterator[Process]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "control_plane", "telemetry", "tail", *words,
        cwd=CHECKOUT, env=os.environ | env, stdout=PIPE, stderr=PIPE,
    )  # fmt: skip
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def lines(process: Process, count: int) -> list[str]:
    assert process.stdout is not None
    async with asyncio.timeout(60):
        return [(await process.stdout.readline()).decode().rstrip("\n") for _ in range(count)]


async def test_it_shows_what_comes_and_ends_quietly_by_ctrl_c(
    env: dict[str, str], producer: AIOKafkaProducer, device_id: Callable[[], str]
) -> None:
    device, other = device_id(), device_id()
    await send_readings(producer, [reading(device, n) for n in range(5)])
    async with tail(env, "--device", device) as process:
        assert process.stdout is not None
        shown = asyncio.ensure_future(lines(process, 3))
        n = 100
        while not shown.done():  # it begins at the end, and nobody knows when it is there
            await send_readings(producer, [reading(other, n), reading(device, n)])
            n += 1
            await asyncio.wait([shown], timeout=0.2)
        numbers = [int(line.rpartition("n=")[2]) for line in shown.result()]
        assert all(f" {device} temperature=20.5 n=" in line for line in shown.result())
        assert numbers == list(range(numbers[0], numbers[0] + 3))
        assert numbers[0] >= 100, "only what came after its start"
        process.send_signal(signal.SIGINT)
        _, errors = await asyncio.wait_for(process.communicate(), 20)
        assert process.returncode == 0
        assert errors == b""


async def test_since_shows_what_was_and_json_is_the_event(
    env: dict[str, str], producer: AIOKafkaProducer, device_id: Callable[[], str]
) -> None:
    device = device_id()
    await send_readings(producer, [reading(device, n) for n in range(5)])
    async with tail(env, "--device", device, "--since", "1h", "--json", "--count", "5") as process:
        found = [json.loads(line) for line in await lines(process, 5)]
        assert [item["metrics"]["n"] for item in found] == [0, 1, 2, 3, 4]
        assert found[0]["device_id"] == device
        assert await asyncio.wait_for(process.wait(), 20) == 0


async def test_kafka_away_is_transient(env: dict[str, str]) -> None:
    async with tail(env | {"HUB_KAFKA_BOOTSTRAP": "127.0.0.1:1"}) as process:
        _, errors = await asyncio.wait_for(process.communicate(), 60)
        assert process.returncode == 4
        assert b"Kafka does not answer" in errors
