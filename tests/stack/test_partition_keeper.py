"""Time partitions on the real Postgres."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator
from datetime import UTC, date, datetime, timedelta

import pytest

from control_plane.analytics import partition_keeper
from control_plane.analytics.partition_keeper import AHEAD_DAYS, PartitionKeeper, Retention
from control_plane.analytics.partitions import Partition
from control_plane.db import connect, migrate
from control_plane.db.connect import Pool
from shared.errors import Transient
from tests.stack.hub_process import until


@pytest.fixture
async def pool(database_url: str) -> AsyncIterator[Pool]:
    connection = await connect.connect(database_url)
    await migrate.apply(connection)
    await connection.close()
    pool = await connect.pool(database_url)
    yield pool
    await pool.close()


async def names(pool: Pool, table: str) -> list[str]:
    rows = await pool.fetch(
        "SELECT inhrelid::regclass::text AS n FROM pg_inherits WHERE inhparent = $1::regclass", table
    )
    return sorted(row["n"] for row in rows)


async def today(pool: Pool) -> date:
    found: date = await pool.fetchval("SELECT (now() AT TIME ZONE 'UTC')::date")
    return found


async def old_partition(pool: Pool, day: date) -> Partition:
    partition = Partition("telemetry", day)
    first, after = partition.bounds
    await pool.execute(
        f"CREATE TABLE {partition.name} PARTITION OF telemetry FOR VALUES FROM ('{first}') TO ('{after}')"
    )
    return partition


async def test_today_and_the_days_ahead_exist_and_again_changes_nothing(pool: Pool) -> None:
    keeper = PartitionKeeper(pool, Retention(30, 365))
    assert not keeper.ready
    await keeper.keep()
    assert keeper.ready
    day = await today(pool)
    expected = [Partition("telemetry", day + timedelta(days=ahead)).name for ahead in range(AHEAD_DAYS + 1)]
    assert await names(pool, "telemetry") == expected
    assert len(await names(pool, "telemetry_aggregates")) == AHEAD_DAYS + 1
    await keeper.keep()
    assert await names(pool, "telemetry") == expected


async def test_a_partition_has_the_tables_index_and_default(pool: Pool) -> None:
    await PartitionKeeper(pool, Retention(30, 365)).keep()
    await pool.execute(
        "INSERT INTO telemetry (ts, received_at, device_id, lane, metrics, clock)"
        " VALUES (now(), now(), 'd', 'live', '{}', 'synced')"
    )
    name = Partition("telemetry", await today(pool)).name
    assert await pool.fetchval("SELECT tableoid::regclass::text FROM telemetry") == name
    assert await pool.fetchval("SELECT count(*) FROM pg_indexes WHERE tablename = $1", name) == 1


async def test_what_expired_is_dropped(pool: Pool) -> None:
    day = await today(pool)
    gone = await old_partition(pool, day - timedelta(days=8))
    kept = await old_partition(pool, day - timedelta(days=7))
    await PartitionKeeper(pool, Retention(7, 365)).keep()
    found = await names(pool, "telemetry")
    assert gone.name not in found
    assert kept.name in found


async def test_a_reader_in_the_way_puts_the_drop_off(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(partition_keeper, "LOCK_MS", 100)
    day = await today(pool)
    gone = await old_partition(pool, day - timedelta(days=40))
    keeper = PartitionKeeper(pool, Retention(7, 365))
    async with pool.acquire() as reader, reader.transaction():
        await reader.fetch("SELECT * FROM telemetry")
        began = time.monotonic()
        with pytest.raises(Transient):
            await keeper.keep()
        assert time.monotonic() - began < 15, "everybody who reads or writes stands in the queue behind it"
        assert Partition("telemetry", day).name in await names(pool, "telemetry"), "today's was made all the same"
    await keeper.keep()
    assert gone.name not in await names(pool, "telemetry")


async def test_many_keepers_at_once(pool: Pool) -> None:
    await asyncio.gather(*(PartitionKeeper(pool, Retention(30, 365)).keep() for _ in range(4)))
    assert len(await names(pool, "telemetry")) == AHEAD_DAYS + 1


async def test_old_anomalies_expire(pool: Pool) -> None:
    for name, age in (("old", 366), ("young", 364)):
        await pool.execute(
            "INSERT INTO anomalies (id, stored_at, ts, device_id, metric, value, score, severity, reason, source,"
            " episode_id) VALUES ($1, $2, now(), 'd', 'm', 1, 1, 'info', 'r', 'hub', 'e')",
            name,
            datetime.now(UTC) - timedelta(days=age),
        )
    await PartitionKeeper(pool, Retention(30, 365)).keep()
    assert [row["id"] for row in await pool.fetch("SELECT id FROM anomalies")] == ["young"]


async def test_serving_goes_on_until_it_is_done(
    pool: Pool, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(partition_keeper, "LOCK_MS", 50)
    monkeypatch.setattr(partition_keeper, "_AGAIN_S", 0.01)
    gone = await old_partition(pool, await today(pool) - timedelta(days=40))
    stopping = asyncio.Event()

    def said(event: str) -> bool:
        return any(record.message == event for record in caplog.records)

    with caplog.at_level(logging.INFO, "events"):
        async with asyncio.TaskGroup() as tasks:
            async with pool.acquire() as reader, reader.transaction():
                await reader.fetch("SELECT * FROM telemetry")
                tasks.create_task(PartitionKeeper(pool, Retention(7, 365)).serve(stopping))
                await until(lambda: said("keeper_waits"), "the keeper waits for the reader")
            await until(lambda: said("partition_dropped"), "it drops the partition")
            stopping.set()
    assert gone.name not in await names(pool, "telemetry")
