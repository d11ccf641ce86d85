"""Kafka to Postgres: one topic's events as rows, each exactly once.

Promises: rows and the offset after them are one transaction, so a crash at any moment repeats and skips nothing;
Postgres away or Kafka away is waited out, with back-off, holding at most one batch beside the client's own buffer;
a partition that was lost is no longer written, even by a process that does not know it yet (`sink_store`).
Offsets are committed to Kafka too, now and then, for those who watch its groups; nobody reads them back.
"""

import asyncio
import contextlib
import functools
import random
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener, TopicPartition
from aiokafka.errors import (
    IllegalStateError,
    KafkaConnectionError,
    KafkaError,
    NoOffsetForPartitionError,
    OffsetOutOfRangeError,
)

from control_plane.analytics import placement
from control_plane.analytics.job_events import LAG
from control_plane.analytics.sink_events import (
    ROWS,
    SKIPPED,
    STORE_SECONDS,
    BatchStale,
    EventUnreadable,
    KafkaAway,
    OffsetsExpired,
    PartitionPlaced,
    StoreResumed,
    StoreWaits,
)
from control_plane.analytics.sink_rows import Row, Table
from control_plane.analytics.sink_store import Batch, NoPartition, SinkStore
from control_plane.db.kafka_reader import stop_reader
from shared.backoff import Backoff
from shared.errors import Permanent, Rejected, Transient
from shared.limits import MIB
from shared.topics import Kafka
from shared.tracing import Tracing

T = TypeVar("T")

RowOf = Callable[[bytes, bytes, bytes], tuple[Table, Row] | Rejected | None]
"""(ce_type, ce_id, value), as they stand in Kafka, to a table's row; None for a type that has none."""

_BACKOFF = Backoff(first_s=0.2, cap_s=5.0)
_AHEAD_S = 30.0
"""How long Kafka may show less than we stored (it recovers its log after a crash) before that is an error."""

_WATCH_S = 2.0
_COMMIT_S = 5.0
_FRESH_S = 15.0
_FETCH_BYTES = 8 * MIB


@dataclass(frozen=True, slots=True)
class SinkSettings:
    """Of one sink. `member` is this process's name in the consumer group, the same after a restart."""

    name: str
    topic: Kafka
    bootstrap: str
    member: str
    batch_rows: int
    linger_ms: int
    start_over: bool = False


class _Owned(ConsumerRebalanceListener):  # type: ignore[misc]  # aiokafka has no types
    """Tells the sink of every change of ownership; quick, because the group waits for it."""

    def __init__(self, sink: "Sink", consumer: Any) -> None:
        self._sink = sink
        self._consumer = consumer

    def on_partitions_revoked(self, revoked: Iterable[TopicPartition]) -> None:
        self._sink.lose(revoked)

    def on_partitions_assigned(self, assigned: Iterable[TopicPartition]) -> None:
        # Nothing is fetched before Postgres said where to begin.
        self._consumer.pause(*assigned)
        self._sink.gain(assigned)


class Sink:
    """One sink of one process. `serve` runs it; `missing` says why it does no work, in any thread."""

    def __init__(
        self,
        settings: SinkSettings,
        store: SinkStore,
        row_of: RowOf,
        make_room: Callable[[], Awaitable[None]],
        tracing: Tracing,
    ) -> None:
        """`make_room` is awaited when there is no time partition for today's rows."""
        self._settings = settings
        self._store = store
        self._row_of = row_of
        self._make_room = make_room
        self._tracing = tracing
        self._next: dict[TopicPartition, int] = {}  # placed partitions: the offset after what is stored
        self._unplaced: dict[TopicPartition, float] = {}  # owned, but not placed yet, since (monotonic seconds)
        self._joined = False
        self._waits_since: float | None = None  # for Postgres; monotonic seconds
        self._writing = False
        self._kafka_seen = 0.0

    def missing(self) -> list[str]:
        """Why this sink does no work; empty if it does, or if others own all partitions."""
        found = []
        if not self._joined:
            found.append(f"{self._settings.name}: has not joined its consumer group")
        elif time.monotonic() - self._kafka_seen > _FRESH_S:
            found.append(f"{self._settings.name}: Kafka does not answer")
        if self._waits_since is not None:
            found.append(f"{self._settings.name}: Postgres does not take rows")
        if self._unplaced:
            found.append(f"{self._settings.name}: does not know yet where to begin")
        return found

    def lose(self, partitions: Iterable[TopicPartition]) -> None:
        """These are somebody else's now."""
        for partition in partitions:
            self._next.pop(partition, None)
            self._unplaced.pop(partition, None)
            if (self._settings.name, partition.topic, str(partition.partition)) in LAG._metrics:
                LAG.remove(self._settings.name, partition.topic, str(partition.partition))

    def gain(self, partitions: Iterable[TopicPartition]) -> None:
        """These are ours, from an offset that is to be asked for."""
        self._joined = True
        self._kafka_seen = time.monotonic()
        for partition in partitions:
            self._next.pop(partition, None)
            self._unplaced[partition] = time.monotonic()

    async def serve(self, stopping: asyncio.Event) -> None:
        """Work until told to stop; raises Permanent when only a person can help."""
        attempt = 0
        while not stopping.is_set():
            started = time.monotonic()
            try:
                await self._session(stopping)
            except (KafkaError, OSError, TimeoutError, Transient) as error:
                if isinstance(error, KafkaError) and not _passes(error):
                    raise Permanent(f"Kafka refused: {error!r}") from error
                KafkaAway(self._settings.name, repr(error)[:200]).emit()
            attempt = 0 if time.monotonic() - started > 60 else attempt + 1
            await _wait(stopping, _BACKOFF.delay_s(attempt, random.random()))  # noqa: S311 - jitter, not secrecy

    async def _session(self, stopping: asyncio.Event) -> None:
        consumer = self._consumer()
        try:
            await consumer.start()
            async with asyncio.TaskGroup() as tasks:
                watch = tasks.create_task(self._watch(consumer))
                await self._work(consumer, stopping)
                watch.cancel()
        except ExceptionGroup as group:
            raise group.exceptions[0] from group
        finally:
            self._joined = False
            self.lose([*self._next, *self._unplaced])
            await stop_reader(consumer)

    def _consumer(self) -> Any:
        settings = self._settings
        consumer = AIOKafkaConsumer(
            bootstrap_servers=settings.bootstrap,
            client_id=f"_sink-{settings.name}",
            group_id=f"hub-sink-{settings.name}",
            group_instance_id=settings.member,
            isolation_level="read_committed",
            enable_auto_commit=False,
            auto_offset_reset="none",
            session_timeout_ms=6_000,
            heartbeat_interval_ms=1_000,
            fetch_max_wait_ms=100,
            max_partition_fetch_bytes=_FETCH_BYTES,
        )
        consumer.subscribe([settings.topic.value], listener=_Owned(self, consumer))
        return consumer

    async def _work(self, consumer: Any, stopping: asyncio.Event) -> None:
        """Take what waits, store it, again. The linger bounds how many transactions a trickle costs."""
        linger_s = self._settings.linger_ms / 1_000
        while not stopping.is_set():
            try:
                await self._place(consumer, stopping)
                began = time.monotonic()
                taken = await consumer.getmany(timeout_ms=250, max_records=self._settings.batch_rows)
                # What came for a partition that was lost meanwhile, or won again, is left.
                batches = [self._batch(at, records) for at, records in taken.items() if at in self._next]
                if batches:
                    await self._write(consumer, batches, stopping)
            except (NoOffsetForPartitionError, OffsetOutOfRangeError):
                self._place_again(consumer, list(self._next))
                continue
            except _Stopped:
                return
            full = 2 * sum(len(records) for records in taken.values()) >= self._settings.batch_rows
            if batches and not full:
                await _wait(stopping, linger_s - (time.monotonic() - began))

    async def _place(self, consumer: Any, stopping: asyncio.Event) -> None:
        """Ask Postgres where to begin in the partitions that are new, as long as it takes, and begin there."""
        wanted = list(self._unplaced)
        if not wanted:
            return
        numbers = [partition.partition for partition in wanted]
        stored = await self._insist(lambda: self._store.offsets(numbers), stopping)
        try:
            begins = await consumer.beginning_offsets(wanted)
            ends = await consumer.end_offsets(wanted)
            for partition in wanted:
                old = stored.get(partition.partition)
                where = placement.place(old, begins[partition], max(begins[partition], ends[partition]))
                if isinstance(where, placement.Place) or self._starts_over(partition, where):
                    offset = where.offset if isinstance(where, placement.Place) else begins[partition]
                    await self._insist(
                        functools.partial(self._store.stand, partition.partition, old, offset), stopping
                    )
                    consumer.seek(partition, offset)
                    consumer.resume(partition)
                    self._unplaced.pop(partition)
                    self._next[partition] = offset
                    PartitionPlaced(self._settings.name, partition.partition, offset).emit()
                    if isinstance(where, placement.Place) and where.expired:
                        OffsetsExpired(self._settings.name, partition.partition, where.expired).emit()
        except (IllegalStateError, KeyError):
            return  # lost meanwhile: whoever owns it now places it

    def _starts_over(self, partition: TopicPartition, ahead: placement.Ahead) -> bool:
        """Whether to begin a log anew that ends before what was stored; False: look again soon. Raises Permanent."""
        if self._settings.start_over:
            return True
        if time.monotonic() - self._unplaced[partition] < _AHEAD_S:
            return False
        raise Permanent(
            f"{partition.topic}-{partition.partition} ends {ahead.offsets} offsets before what was stored of it",
            hint="if Kafka's log was replaced, run `hub analytics sink --start-over` once",
        )

    def _place_again(self, consumer: Any, partitions: Iterable[TopicPartition]) -> None:
        for partition in partitions:
            self._next.pop(partition, None)
            with contextlib.suppress(IllegalStateError):  # lost meanwhile
                consumer.pause(partition)
                self._unplaced[partition] = time.monotonic()

    def _batch(self, partition: TopicPartition, records: Sequence[Any]) -> Batch:
        rows, parents = [], []
        for record in records:
            event_type, ce_id, parent = b"", b"", None
            for name, value in record.headers:
                if name == "ce_type":
                    event_type = value
                elif name == "ce_id":
                    ce_id = value
                elif name == "traceparent":
                    parent = value
            row = self._row_of(event_type, ce_id, record.value or b"")
            if row is None:
                SKIPPED.labels(self._settings.name, "no_table").inc()
            elif isinstance(row, Rejected):
                EventUnreadable(self._settings.name, partition.partition, record.offset, row.reason).emit()
            else:
                rows.append(row)
            if parent and self._tracing.enabled:
                parents.append(parent.decode("ascii", "replace"))
        return Batch(partition.partition, self._next[partition], records[-1].offset + 1, rows, parents)

    async def _write(self, consumer: Any, batches: Sequence[Batch], stopping: asyncio.Event) -> None:
        name, topic = self._settings.name, self._settings.topic.value
        began_ns, began = time.time_ns(), time.monotonic()
        self._writing = True
        try:
            stale = await self._insist(lambda: self._store.write(batches), stopping)
        finally:
            self._writing = False
        STORE_SECONDS.labels(name).observe(time.monotonic() - began)
        for batch in batches:
            partition = TopicPartition(topic, batch.partition)
            if batch.partition in stale:
                BatchStale(name, batch.partition).emit()
                if partition in self._next:
                    self._place_again(consumer, [partition])
                continue
            for table, count in Counter(table.name for table, _ in batch.rows).items():
                ROWS.labels(name, table).inc(count)
            for parent in batch.parents:
                self._tracing.stage("store", parent, began_ns, time.time_ns(), {"sink": name})
            if partition in self._next:
                self._next[partition] = batch.next_offset

    async def _insist(self, attempt: Callable[[], Awaitable[T]], stopping: asyncio.Event) -> T:
        """The result of `attempt` when Postgres gives one. Raises _Stopped, and Permanent as `attempt` does."""
        tries = 0
        while True:
            try:
                result = await attempt()
            except Transient as error:
                if self._waits_since is None:
                    self._waits_since = time.monotonic()
                    StoreWaits(self._settings.name, str(error)).emit()
                if isinstance(error, NoPartition):
                    with contextlib.suppress(Transient):
                        await self._make_room()
            else:
                if self._waits_since is not None:
                    StoreResumed(self._settings.name, round(time.monotonic() - self._waits_since, 1)).emit()
                    self._waits_since = None
                return result
            await _wait(stopping, _BACKOFF.delay_s(tries, random.random()))  # noqa: S311 - jitter, not secrecy
            tries += 1
            if stopping.is_set():
                raise _Stopped

    async def _watch(self, consumer: Any) -> None:
        """Lag, and whether Kafka answers; now and then the offsets for those who watch Kafka's groups."""
        committed = 0.0
        while True:
            await asyncio.sleep(_WATCH_S)
            with contextlib.suppress(KafkaError, TimeoutError):
                ends = await asyncio.wait_for(consumer.end_offsets(consumer.assignment()), _FRESH_S)
                self._kafka_seen = time.monotonic()
                for partition, next_offset in list(self._next.items()):
                    # The client's position also passes the transactions' markers, which are no records.
                    done = next_offset if self._writing else await consumer.position(partition)
                    lag = max(0, ends.get(partition, done) - done)
                    LAG.labels(self._settings.name, partition.topic, str(partition.partition)).set(lag)
                if self._next and time.monotonic() - committed > _COMMIT_S:
                    await consumer.commit(dict(self._next))
                    committed = time.monotonic()


class _Stopped(Exception):  # noqa: N818 - no error: somebody asked
    """A wait was ended because the process is to stop."""


def _passes(error: KafkaError) -> bool:
    return bool(error.retriable) or isinstance(error, KafkaConnectionError | IllegalStateError)


async def _wait(stopping: asyncio.Event, seconds: float) -> None:
    if seconds > 0:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(stopping.wait(), seconds)
