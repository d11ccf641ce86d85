"""The whole registry topic in memory, kept up to date by a thread of its own.

Promises: `get` never waits; `wait` returns when all is known that the topic held when it was first read; an older
version never replaces a newer one. `ask` puts the question to Postgres, 200 ms at most, each id once in 10 s. While
Kafka or Postgres is away, what is known stays in use.
"""

import asyncio
import threading
import time
from collections.abc import Collection
from concurrent.futures import Future
from contextlib import suppress
from typing import Any

import msgspec
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from control_plane.analytics.normalizer_events import (
    REGISTRY_DEVICES,
    RegistryAskFailed,
    RegistryAway,
    RegistryCaughtUp,
    RegistryRecordUnreadable,
)
from control_plane.db import connect
from control_plane.db.kafka_reader import stop_reader
from shared.backoff import Backoff
from shared.bounded import Bounded
from shared.device import DeviceView, decode_view
from shared.errors import HubError, Transient
from shared.rates import RECORD_KEY, Defaults, decode_defaults
from shared.topics import Kafka

ASK_S = 0.2
ASK_AGAIN_S = 10.0
QUIET_S = 5.0
"""How long nobody asks after Postgres did not answer in time: a stalled stream would be worse than a dead letter."""
_ASKED_LIMIT = 20_000
_BACKOFF = Backoff(first_s=0.5, cap_s=10.0)
_FIND = "SELECT view FROM device_view WHERE id = ANY($1::text[])"
_CLOSE_S = 5.0
_METADATA_S = 10.0


class RegistryView:
    """`database_url` None: nobody is asked."""

    def __init__(self, bootstrap: str, database_url: str | None) -> None:
        self._bootstrap = bootstrap
        self._database_url = database_url
        self._views: dict[str, DeviceView] = {}
        self._defaults = Defaults()
        self._begun = threading.Event()
        self._caught_up = threading.Event()
        self._failure: BaseException | None = None
        self._loop: asyncio.AbstractEventLoop | None = None  # made and closed by the thread
        self._stopping = asyncio.Event()
        self._pool: Any = None
        self._asked: Bounded[str, float] = Bounded(_ASKED_LIMIT)
        self._quiet_until = 0.0
        self._thread = threading.Thread(target=self._run, name="registry-view", daemon=True)

    def start(self) -> None:
        """Begin to read."""
        self._thread.start()
        self._begun.wait(_CLOSE_S)

    def wait(self) -> None:
        """Until caught up. Raises what ended the thread, if it did. A signal handler may raise in here."""
        while not self._caught_up.wait(0.1):
            self.check()

    def check(self) -> None:
        """Raises Transient or Permanent if the thread ended: what it knew grows old."""
        if self._failure is not None:
            if isinstance(self._failure, HubError):
                raise self._failure
            raise Transient(f"the registry view ended: {self._failure!r}") from self._failure

    def missing(self) -> list[str]:
        """For readiness: why decisions cannot be trusted yet."""
        if self._failure is not None:
            return ["the registry view ended"]
        return [] if self._caught_up.is_set() else ["reads the registry"]

    def close(self) -> None:
        """End the thread; waits 5 s at most."""
        loop = self._loop
        if loop is not None and self._thread.is_alive():
            with suppress(RuntimeError):  # it ended in the meantime
                loop.call_soon_threadsafe(self._stopping.set)
            self._thread.join(_CLOSE_S)

    def __len__(self) -> int:
        return len(self._views)

    @property
    def defaults(self) -> Defaults:
        """What types and the policy say of limits, as far as it is known here."""
        return self._defaults

    def get(self, device_id: str) -> DeviceView | None:
        """The device as far as it is known here."""
        return self._views.get(device_id)

    def ask(self, device_ids: Collection[str]) -> None:
        """Ask Postgres for those that were not asked for lately; what it says is known to `get` afterwards."""
        now = time.monotonic()
        loop = self._loop
        if self._database_url is None or loop is None or now < self._quiet_until:
            return
        wanted = [name for name in device_ids if now - self._asked.get(name, -ASK_AGAIN_S) >= ASK_AGAIN_S]
        if not wanted:
            return
        answer: Future[list[str]] = asyncio.run_coroutine_threadsafe(self._find(wanted), loop)
        try:
            found = answer.result(ASK_S)
        except (TimeoutError, HubError) as error:
            answer.cancel()
            self._quiet_until = time.monotonic() + QUIET_S
            RegistryAskFailed(str(error) or f"no answer in {ASK_S} s", QUIET_S).emit()
            return
        for text in found:
            self._learn(decode_view(text.encode()))
        for name in wanted:
            self._asked.keep(name, now)

    async def _find(self, wanted: list[str]) -> list[str]:
        async with connect.acquire(self._pool) as connection:
            return [row["view"] for row in await connection.fetch(_FIND, wanted)]

    def _learn(self, view: DeviceView) -> None:
        known = self._views.get(view.id)
        if known is None or known.version <= view.version:
            self._views[view.id] = view

    def _run(self) -> None:
        try:
            with asyncio.Runner() as runner:
                self._loop = runner.get_loop()
                self._begun.set()
                runner.run(self._serve())
        except BaseExceptionGroup as group:
            self._failure = group.exceptions[0]
        except BaseException as error:  # noqa: BLE001 - told by `check` in the thread that can act on it
            self._failure = error

    async def _serve(self) -> None:
        if self._database_url is not None:
            self._pool = await connect.pool(self._database_url, size=2, application="hub-normalizer")
        try:
            async with asyncio.TaskGroup() as tasks:
                reading = tasks.create_task(self._read_for_ever())
                await self._warm_up()
                await self._stopping.wait()
                reading.cancel()
        finally:
            if self._pool is not None:
                self._pool.terminate()

    async def _warm_up(self) -> None:
        """Connect now, so that the first question need not."""
        if self._pool is not None:
            try:
                await self._find([])
            except HubError as error:
                RegistryAskFailed(str(error), 0.0).emit()

    async def _read_for_ever(self) -> None:
        attempt = 0
        while True:
            began = time.monotonic()
            try:
                await self._read()
            except (KafkaError, OSError) as error:
                RegistryAway(repr(error)[:300]).emit()
            attempt = 0 if time.monotonic() - began > 60 else attempt + 1
            await asyncio.sleep(_BACKOFF.bound_s(attempt))

    async def _read(self) -> None:
        """Read from the first record on; returns only by an exception."""
        consumer = AIOKafkaConsumer(
            bootstrap_servers=self._bootstrap,
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            isolation_level="read_committed",
            retry_backoff_ms=500,
        )
        await consumer.start()
        try:
            numbers = await self._partitions(consumer)
            partitions = [TopicPartition(Kafka.REGISTRY.value, number) for number in sorted(numbers)]
            consumer.assign(partitions)
            await consumer.seek_to_beginning(*partitions)
            ends = await consumer.end_offsets(partitions)
            while True:
                if not self._caught_up.is_set():
                    await self._look_whether_caught_up(consumer, ends)
                found = await consumer.getmany(timeout_ms=200, max_records=5_000)
                for records in found.values():
                    for record in records:
                        self._apply(record.key, record.value)
                if found:
                    REGISTRY_DEVICES.set(len(self._views))
        finally:
            await stop_reader(consumer)

    async def _partitions(self, consumer: Any) -> set[int]:
        # Without a group nothing makes the client learn of a topic; to ask for one of its partitions does.
        first = TopicPartition(Kafka.REGISTRY.value, 0)
        consumer.assign([first])
        try:
            async with asyncio.timeout(_METADATA_S):
                await consumer.end_offsets([first])
        except TimeoutError as error:
            hint = "if it does not exist, run `hub migrate`"
            raise Transient(f"Kafka's topic {Kafka.REGISTRY.value} does not answer", hint=hint) from error
        numbers: set[int] = consumer.partitions_for_topic(Kafka.REGISTRY.value) or set()
        return numbers

    async def _look_whether_caught_up(self, consumer: Any, ends: dict[Any, int]) -> None:
        for partition, end in ends.items():
            if await consumer.position(partition) < end:
                return
        self._caught_up.set()
        RegistryCaughtUp(len(self._views)).emit()

    def _apply(self, key: bytes | None, value: bytes | None) -> None:
        if value is None:
            self._views.pop((key or b"").decode("utf-8", "replace"), None)
            return
        try:
            if key == RECORD_KEY:
                told = decode_defaults(value)
                self._defaults = told if told.version >= self._defaults.version else self._defaults
            else:
                self._learn(decode_view(value))
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            RegistryRecordUnreadable(str(error)[:200]).emit()
