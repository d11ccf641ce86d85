"""Rows and offsets in one transaction, on the real Postgres."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import asyncpg
import pytest

from control_plane.analytics.partition_keeper import PartitionKeeper, Retention
from control_plane.analytics.sink_rows import ANOMALIES, TELEMETRY, Row
from control_plane.analytics.sink_store import Batch, NoPartition, SinkStore
from control_plane.db import connect, migrate
from control_plane.db.connect import Pool

TOPIC = "iot.telemetry.normalized.v1"
MOMENT = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture
async def bare(database_url: str) -> AsyncIterator[Pool]:
    """Fresh tables without time partitions."""
    connection = await connect.connect(database_url)
    await migrate.apply(connection)
    await connection.close()
    pool = await connect.pool(database_url)
    yield pool
    await pool.close()


@pytest.fixture
async def pool(bare: Pool) -> Pool:
    await PartitionKeeper(bare, Retention(30, 365)).keep()
    return bare


def row(n: int, **changes: Any) -> Row:
    values: dict[str, Any] = dict.fromkeys(TELEMETRY.columns)
    values |= {
        "ts": MOMENT, "received_at": MOMENT, "device_id": "d", "lane": "live", "clock": "synced",
        "metrics": f'{{"n":{n}}}',
    }  # fmt: skip
    return tuple((values | changes).values())


def batch(first: int, count: int, partition: int = 0) -> Batch:
    rows = [(TELEMETRY, row(n)) for n in range(first, first + count)]
    return Batch(partition, first, first + count, rows)


async def stored(pool: Pool) -> list[int]:
    rows = await pool.fetch("SELECT (metrics->>'n')::int AS n FROM telemetry ORDER BY 1")
    return [found["n"] for found in rows]


async def test_a_batch_moves_the_offset_with_its_rows(pool: Pool) -> None:
    store = SinkStore(pool, "telemetry", TOPIC)
    await store.stand(0, None, 0)
    assert await store.write([batch(0, 5)]) == set()
    assert await store.offsets([0, 1]) == {0: 5}
    assert await stored(pool) == list(range(5))


async def test_a_batch_that_begins_elsewhere_is_left(pool: Pool) -> None:
    """Another owner was quicker, or the answer of our own commit was lost."""
    store, zombie = SinkStore(pool, "telemetry", TOPIC), SinkStore(pool, "telemetry", TOPIC)
    for partition in (0, 1):
        await store.stand(partition, None, 0)
    assert await store.write([batch(0, 5)]) == set()
    assert await zombie.write([batch(0, 3), batch(0, 2, partition=1)]) == {0}
    assert await store.offsets([0, 1]) == {0: 5, 1: 2}
    assert await stored(pool) == sorted([*range(5), *range(2)])
    assert await zombie.write([batch(7, 1)]) == {0}


async def test_where_nobody_stands_nothing_is_written(pool: Pool) -> None:
    assert await SinkStore(pool, "telemetry", TOPIC).write([batch(0, 5)]) == {0}
    assert await stored(pool) == []


async def test_sinks_and_topics_stand_apart(pool: Pool) -> None:
    store = SinkStore(pool, "telemetry", TOPIC)
    await store.stand(0, None, 7)
    assert await SinkStore(pool, "anomalies", TOPIC).offsets([0]) == {}
    assert await SinkStore(pool, "telemetry", "other").offsets([0]) == {}


async def test_only_the_sinks_own_offset_moves(pool: Pool) -> None:
    store, other = SinkStore(pool, "telemetry", TOPIC), SinkStore(pool, "other", TOPIC)
    for one in (store, other):
        await one.stand(0, None, 0)
    await store.write([batch(0, 5)])
    assert await other.offsets([0]) == {0: 0}


async def test_rows_do_not_stay_where_their_offset_does_not_move(pool: Pool) -> None:
    store = SinkStore(pool, "telemetry", TOPIC)
    await store.stand(0, None, 0)
    await pool.execute(
        "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'no'; END $$;"
        "CREATE TRIGGER refuse BEFORE UPDATE ON sink_offsets FOR EACH ROW EXECUTE FUNCTION refuse()"
    )
    with pytest.raises(asyncpg.RaiseError):
        await store.write([batch(0, 5)])
    assert await stored(pool) == []


async def test_standing_elsewhere_takes_where_it_stood(pool: Pool) -> None:
    store = SinkStore(pool, "telemetry", TOPIC)
    await store.stand(0, None, 5)
    await store.stand(0, None, 9)
    assert await store.offsets([0]) == {0: 5}, "who came second takes what is there"
    await store.stand(0, 4, 9)
    assert await store.offsets([0]) == {0: 5}
    await store.stand(0, 5, 9)
    assert await store.offsets([0]) == {0: 9}


async def test_a_row_that_is_refused_takes_no_other_with_it(pool: Pool) -> None:
    store = SinkStore(pool, "telemetry", TOPIC)
    await store.stand(0, None, 0)
    bad = [(TELEMETRY, row(3, status="a\0b")), (TELEMETRY, row(4, seq=2**70)), (TELEMETRY, row(5, metrics="{"))]
    rows = [*batch(0, 3).rows, *bad, *batch(6, 3).rows]
    assert await store.write([Batch(0, 0, 9, rows)]) == set()
    assert await stored(pool) == [0, 1, 2, 6, 7, 8]
    assert await store.offsets([0]) == {0: 9}


async def test_without_a_partition_for_today_nothing_is_stored(bare: Pool) -> None:
    store = SinkStore(bare, "telemetry", TOPIC)
    await store.stand(0, None, 0)
    with pytest.raises(NoPartition):
        await store.write([batch(0, 5)])
    assert await store.offsets([0]) == {0: 0}
    await PartitionKeeper(bare, Retention(30, 365)).keep()
    assert await store.write([batch(0, 5)]) == set()


async def test_an_anomaly_again_is_the_same_row(pool: Pool) -> None:
    store = SinkStore(pool, "anomalies", TOPIC)
    await store.stand(0, None, 0)
    values = ("id-1", MOMENT, "d", "m", 1.0, 2.0, "warning", "jump", None, "hub", "e")
    await store.write([Batch(0, 0, 2, [(ANOMALIES, values), (ANOMALIES, values)])])
    await store.write([Batch(0, 2, 3, [(ANOMALIES, values)])])
    assert await pool.fetchval("SELECT count(*) FROM anomalies") == 1
    assert await store.offsets([0]) == {0: 3}
