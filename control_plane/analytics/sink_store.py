"""A sink's rows and offsets in Postgres, written in one transaction.

Promises: a batch is stored once or not at all, whoever else believes to own its partition: the row of the offset is
locked, and a batch is stored only if it begins where that row stands. A commit whose answer was lost is found out in
the same way. A row that Postgres refuses for its content is skipped and said, and takes no other with it.
"""

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncpg

from control_plane.analytics.sink_events import RowRefused
from control_plane.analytics.sink_rows import ANOMALIES, Row, Table
from control_plane.db import queries
from control_plane.db.connect import Connection, Pool, acquire, transaction
from shared.errors import Transient

SQL = queries.parse((Path(__file__).parent / "sink_queries.sql").read_text(encoding="utf-8"))

_CONTENT = (asyncpg.DataError, ValueError, TypeError, OverflowError)
"""How server and driver refuse a value."""


class NoPartition(Transient):
    """There is no time partition for today's rows yet."""


@dataclass(frozen=True, slots=True)
class Batch:
    """Rows of one Kafka partition: from offset `first`, where the sink stands, to before `next_offset`.

    `parents`: traceparents of the records, where somebody collects traces.
    """

    partition: int
    first: int
    next_offset: int
    rows: Sequence[tuple[Table, Row]]
    parents: Sequence[str] = ()


class SinkStore:
    """Where the sink `name` stands in `topic`, and its tables."""

    def __init__(self, pool: Pool, name: str, topic: str) -> None:
        self._pool = pool
        self._name = name
        self._topic = topic

    async def offsets(self, partitions: Sequence[int]) -> dict[int, int]:
        """Where the sink stands, by partition; one that it never read is absent. Raises Transient."""
        async with acquire(self._pool) as connection:
            rows = await connection.fetch(SQL["load_offsets"], self._name, self._topic, list(partitions))
        return {row["partition"]: row["next_offset"] for row in rows}

    async def stand(self, partition: int, old: int | None, new: int) -> None:
        """Let the sink stand at `new` if it stands at `old` (None: nowhere yet). Raises Transient."""
        if old == new:
            return
        async with acquire(self._pool) as connection:
            if old is None:
                await connection.execute(SQL["begin_offset"], self._name, self._topic, partition, new)
            else:
                await connection.execute(SQL["skip_offset"], self._name, self._topic, partition, old, new)

    async def write(self, batches: Sequence[Batch]) -> set[int]:
        """Store all batches; the partitions whose batch was left because the sink stands elsewhere by now.

        Raises Transient (nothing is stored, or all of it: call again to know) and NoPartition.
        """
        try:
            return await self._write(batches, _copy)
        except asyncpg.CheckViolationError as error:
            raise NoPartition("no time partition for today") from error
        except _CONTENT:
            return await self._write(batches, self._copy_carefully)

    async def _write(self, batches: Sequence[Batch], copy: "Copy") -> set[int]:
        partitions = [batch.partition for batch in batches]
        async with transaction(self._pool) as connection:
            found = await connection.fetch(SQL["lock_offsets"], self._name, self._topic, partitions)
            stands = {row["partition"]: row["next_offset"] for row in found}
            ours = [batch for batch in batches if stands.get(batch.partition) == batch.first]
            tables: defaultdict[Table, list[Row]] = defaultdict(list)
            for batch in ours:
                for table, row in batch.rows:
                    tables[table].append(row)
            for table, rows in tables.items():
                await copy(connection, table, rows)
            await connection.execute(
                SQL["advance_offsets"],
                self._name,
                self._topic,
                [batch.partition for batch in ours],
                [batch.next_offset for batch in ours],
            )
        return set(partitions) - {batch.partition for batch in ours}

    async def _copy_carefully(self, connection: Connection, table: Table, rows: list[Row]) -> None:
        """Halves, each in a savepoint, until the row that is refused stands alone."""
        try:
            async with connection.transaction():
                await _copy(connection, table, rows)
        except _CONTENT as error:
            if len(rows) == 1:
                RowRefused(self._name, table.name, type(error).__name__).emit()
                return
            middle = len(rows) // 2
            await self._copy_carefully(connection, table, rows[:middle])
            await self._copy_carefully(connection, table, rows[middle:])


Copy = Callable[[Connection, Table, list[Row]], Any]


async def _copy(connection: Connection, table: Table, rows: list[Row]) -> None:
    if table is ANOMALIES:  # few, and a repeat of one is the same row
        await connection.executemany(SQL["insert_anomaly"], rows)
    else:
        await connection.copy_records_to_table(table.name, records=rows, columns=table.columns)
