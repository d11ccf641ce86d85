"""Makes time partitions ahead of need, drops the expired ones, and expires old anomalies.

Promises: any number of keepers may run; the database's clock decides which day it is; no long lock: a partition is
made beside its table and then attached, and dropping one waits at most LOCK_MS for readers, else until the next turn.
"""

import asyncio
import contextlib
from collections.abc import Sequence
from dataclasses import dataclass

from control_plane.analytics.partitions import Partition, plan
from control_plane.analytics.sink_events import KeeperWaits, PartitionDropped, PartitionMade
from control_plane.analytics.sink_rows import AGGREGATES, TELEMETRY
from control_plane.analytics.sink_store import SQL
from control_plane.db.connect import Connection, Pool, acquire, transaction
from shared.errors import Transient

AHEAD_DAYS = 3
LOCK_MS = 2_000
_EVERY_S = 600.0
_AGAIN_S = 2.0
_MOST_DELETES = 200  # chunks of 5,000 rows a turn


@dataclass(frozen=True, slots=True)
class Retention:
    """Days for which rows are kept after they were stored."""

    telemetry_days: int
    anomaly_days: int


class PartitionKeeper:
    """Looks after the partitioned tables. `ready` is true once they were in order in this process's life."""

    def __init__(self, pool: Pool, retention: Retention) -> None:
        self._pool = pool
        self._retention = retention
        self.ready = False

    async def serve(self, stopping: asyncio.Event) -> None:
        """Keep them in order until told to stop."""
        while not stopping.is_set():
            pause_s = _EVERY_S
            try:
                await self.keep()
            except Transient as error:
                KeeperWaits(str(error)).emit()
                pause_s = _AGAIN_S
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stopping.wait(), pause_s)

    async def keep(self) -> None:
        """Bring them in order now. Raises Transient; then some of it may be done, and doing it again is safe."""
        expired: list[Partition] = []
        for table in (TELEMETRY.name, AGGREGATES.name):
            expired += await self._make_ahead(table)
        self.ready = True
        for partition in expired:  # last, because readers may be in the way of it
            await self._drop(partition)
        async with acquire(self._pool) as connection:
            for _ in range(_MOST_DELETES):
                if await connection.execute(SQL["expire_anomalies"], self._retention.anomaly_days) == "DELETE 0":
                    break

    async def _make_ahead(self, table: str) -> Sequence[Partition]:
        """Make what the table lacks; what is to be dropped."""
        async with transaction(self._pool) as connection:
            await connection.execute(SQL["lock_keeper"])
            names = [row["relname"] for row in await connection.fetch(SQL["partitions_of"], table)]
            today = await connection.fetchval(SQL["today"])
            wanted = plan(table, names, today, ahead_days=AHEAD_DAYS, keep_days=self._retention.telemetry_days)
            for partition in wanted.create:
                await _create(connection, partition)
        for partition in wanted.create:
            PartitionMade(partition.name).emit()
        return wanted.drop

    async def _drop(self, partition: Partition) -> None:
        async with transaction(self._pool) as connection:
            await connection.execute(f"SET LOCAL lock_timeout = {LOCK_MS}")
            await connection.execute(f"DROP TABLE IF EXISTS {partition.name}")
        PartitionDropped(partition.name).emit()


async def _create(connection: Connection, partition: Partition) -> None:
    # Made apart and attached: that asks for a weaker lock on the table than `CREATE TABLE … PARTITION OF`.
    first, after = partition.bounds
    await connection.execute(f"CREATE TABLE {partition.name} (LIKE {partition.table})")
    await connection.execute(
        f"ALTER TABLE {partition.table} ATTACH PARTITION {partition.name} FOR VALUES FROM ('{first}') TO ('{after}')"
    )
