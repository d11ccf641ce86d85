"""`hub ingest`: stands by for the session slot, holds it, and bridges the broker to Kafka while it does.

Promises: at adoption of the slot the tail of `raw` is read before the first message is judged; on SIGTERM what was
taken is confirmed and acknowledged (at most 3 s), the session stays with the broker, and the slot is given back.
"""

import asyncio
import logging
import os
import random
import time
from collections.abc import Coroutine, Mapping
from pathlib import Path
from typing import Any

import msgspec

from control_plane.ingest import broker_watch, events
from control_plane.ingest.aiomqtt_reader import AiomqttReader
from control_plane.ingest.bridge import Bridge
from control_plane.ingest.broker_watch import BrokerWatch
from control_plane.ingest.config import USERNAME, IngestConfig, broker_password
from control_plane.ingest.lease_keeper import HolderName, LeaseKeeper
from control_plane.ingest.limits import LONGEST_CREDIT_S, Book, Limiter
from control_plane.ingest.limits_reader import LimitsReader
from control_plane.ingest.tail import Tail, read_tail
from shared.backoff import Backoff
from shared.clock import SystemClock
from shared.config import load
from shared.errors import Transient
from shared.events import configure_logging
from shared.health import Beat, Health
from shared.lifecycle import run
from shared.tracing import Tracing, open_tracing

NAME = "ingest"
_DRAIN_S = 3.0
_TAIL_MARGIN_S = 5.0  # beyond the broker's autosave interval: its saving takes time too
_RETRY = Backoff(first_s=0.5, cap_s=5.0)


class Ingest:
    """The process's one service."""

    def __init__(self, config: IngestConfig, holder: str, tracing: Tracing) -> None:
        self._config = config
        self._holder = holder
        self._tracing = tracing
        self._clock = SystemClock()
        self._keeper: LeaseKeeper | None = None
        self._bridge: Bridge | None = None
        self._book = Book()

    def missing(self) -> list[str]:
        """What stands in the way of doing the work; asked by /readyz in its own thread."""
        if self._keeper is None or not self._keeper.held:
            return ["the session slot is not held: standing by"]
        bridge = self._bridge
        return ["the tail of raw is being read"] if bridge is None else bridge.missing()

    async def serve(self, stopping: asyncio.Event) -> None:
        """Until `stopping`."""
        config = self._config
        keeper = LeaseKeeper(config.database_url, config.slot, self._holder, config.lease_s, self._clock)
        self._keeper = keeper
        events.LEASE_CERTAIN.set_function(keeper.certain)
        try:
            async with asyncio.TaskGroup() as tasks:
                keeping = tasks.create_task(keeper.run(), name="lease-keeper")
                watching = tasks.create_task(self._watch().run(), name="broker-watch")
                limits = LimitsReader(self._config.kafka_bootstrap, self._book)
                reading = tasks.create_task(limits.serve(), name="limits")
                while not stopping.is_set():
                    await _either(stopping.wait(), keeper.wait(held=True))
                    if keeper.held:
                        await self._tenure(keeper, stopping)
                await keeper.release()
                keeping.cancel()
                watching.cancel()
                reading.cancel()
        except BaseExceptionGroup as group:
            raise _first(group) from group

    def _watch(self) -> BrokerWatch:
        host, port = self._config.broker_address()
        password = broker_password(self._config.secrets_file, broker_watch.USERNAME)
        return BrokerWatch(host, port, password, self._holder, self._config.broker_tls())

    async def _tenure(self, keeper: LeaseKeeper, stopping: asyncio.Event) -> None:
        tail = await self._tail(stopping)
        if tail is None:
            return
        bridge = self._bridge = Bridge(
            self._config,
            AiomqttReader(),
            keeper,
            tail,
            limiter=Limiter(self._book, self._clock.monotonic_s() - self._unread_s(tail)),
            tracing=self._tracing,
            clock=self._clock,
            random_unit=random.random,
        )
        try:
            async with asyncio.TaskGroup() as tasks:
                running = tasks.create_task(bridge.run(), name="bridge")
                await _either(stopping.wait(), keeper.wait(held=False), asyncio.wait({running}))
                if keeper.held and not running.done():
                    await bridge.drain(_DRAIN_S)
                running.cancel()
        finally:
            self._bridge = None
            for gauge in (events.UNACKNOWLEDGED, events.UNCONFIRMED, events.HINTED):
                gauge.set_function(lambda: 0)

    def _unread_s(self, tail: Tail) -> float:
        """How long the broker may have kept messages for us: at most since the newest of `raw`."""
        if tail.last_ms is None:
            return 0.0
        return min(LONGEST_CREDIT_S, max(0.0, (self._clock.wall_ms() - tail.last_ms) / 1_000))

    async def _tail(self, stopping: asyncio.Event) -> Tail | None:
        """The tail of `raw`, however long Kafka is away; None if we are to stop or lost the slot meanwhile."""
        attempt = 0
        away_since: float | None = None
        assert self._keeper is not None
        while self._keeper.held and not stopping.is_set():
            started = time.monotonic()
            try:
                tail = await read_tail(
                    self._config.kafka_bootstrap,
                    minimum=self._config.tail_minimum,
                    back_ms=int((self._config.autosave_s + _TAIL_MARGIN_S) * 1_000),
                    limit=self._config.remember,
                )
            except Transient as error:
                if away_since is None:
                    away_since = started
                    events.KafkaAway(str(error)).emit()
                delay = _RETRY.delay_s(attempt, random.random())  # noqa: S311 - jitter, not secrecy
                await _either(stopping.wait(), asyncio.sleep(delay))
                attempt += 1
            else:
                if away_since is not None:
                    events.KafkaBack(round(started - away_since, 1)).emit()
                seconds = round(time.monotonic() - started, 2)
                events.TailRead(len(tail.identities), tail.truncated, seconds).emit()
                return tail
        return None


async def _either(*waits: Coroutine[Any, Any, Any]) -> None:
    """Until one of them is over; the others are cancelled."""
    tasks = [asyncio.ensure_future(wait) for wait in waits]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """The first cause: one process says one reason why it ended."""
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def main(env: Mapping[str, str]) -> int:
    """Run the ingest process; its exit status. Raises ConfigError."""
    config = load(IngestConfig, env)
    for username in (USERNAME, broker_watch.USERNAME):
        broker_password(config.secrets_file, username)  # a mistake is told before anything is started
    configure_logging(config.log_level)
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)  # our events say that Kafka is away, once
    with HolderName(config.data_dir, config.holder) as holder:
        tracing = open_tracing("hub-ingest", env)
        ingest = Ingest(config, holder.name, tracing)
        beat = Beat()
        health = Health(config.health_host, config.health_port, ingest.missing, beat=beat)
        try:
            _write_run_file(config.data_dir, health.port)
            events.HealthListening(config.health_host, health.port).emit()
            return run({NAME: ingest.serve}, beat=beat.stamp)
        finally:
            health.close()
            tracing.close()


def _write_run_file(data_dir: Path, port: int) -> None:
    path = data_dir / "run" / f"{NAME}.json"
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    unfinished = path.with_suffix(".new")
    unfinished.write_bytes(msgspec.json.encode({"pid": os.getpid(), "health_port": port}))
    unfinished.replace(path)
