"""The transactional outbox's second half: from Postgres to Kafka.

Promises: every row reaches Kafka at least once, in order, in a Kafka transaction whose id is fixed: a relay that lost
its leadership unnoticed is fenced by its successor and can overwrite nothing newer in the compacted topic. A row is
deleted after Kafka confirmed; a crash in between repeats it, which its `version` and `ce_id` make harmless.
"""

import asyncio
import random
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from control_plane.db.connect import connect, database_errors
from control_plane.registry import events
from control_plane.registry.store import Store
from shared.backoff import Backoff
from shared.envelope import Envelope, dataschema, headers
from shared.errors import HubError, Transient
from shared.limits import KAFKA_MESSAGE_BYTES

CHANNEL = "registry_outbox"
SOURCE = "/registry"
_BATCH = 200
_POLL_S = 1.0
"""How late a row is at most if the database's wake-up is lost."""
_TRANSACTION_MS = 10_000
_STOP_S = 5.0
_BACKOFF = Backoff(first_s=0.2, cap_s=5.0)


class Relay:
    """Sends what waits. `serve` runs in one process at a time (`leader`)."""

    def __init__(self, store: Store, database_url: str, bootstrap: str) -> None:
        self._store = store
        self._database_url = database_url
        self._bootstrap = bootstrap
        self._failures = 0

    async def serve(self) -> None:
        """Relay until cancelled; whatever is away is tried again."""
        while True:
            try:
                await self._relay()
            except (HubError, KafkaError, OSError, TimeoutError) as error:
                delay_s = _BACKOFF.delay_s(self._failures, random.random())  # noqa: S311 - jitter
                self._failures += 1
                events.RelayFailed(str(error) or type(error).__name__, round(delay_s, 3)).emit()
                await asyncio.sleep(delay_s)

    async def _relay(self) -> None:
        """With one producer and one listening connection; ends only by an exception."""
        woken = asyncio.Event()
        listener = await connect(self._database_url, application="hub registry relay")
        try:
            with database_errors():
                await listener.add_listener(CHANNEL, lambda *_: woken.set())
            listener.add_termination_listener(lambda *_: woken.set())
            producer = self._producer()
            try:
                await producer.start()
                while True:
                    if listener.is_closed():
                        raise Transient("the connection to Postgres was lost")
                    woken.clear()
                    sent = await self._send_head(producer)
                    self._failures = 0
                    if sent < _BATCH:
                        await _woken(woken)
            finally:
                # What it still holds will be sent again by a fresh one.
                with suppress(TimeoutError, KafkaError):
                    await asyncio.wait_for(producer.stop(), _STOP_S)
        finally:
            listener.terminate()

    def _producer(self) -> Any:
        return AIOKafkaProducer(
            bootstrap_servers=self._bootstrap,
            client_id="_registry",
            transactional_id="registry-relay",
            transaction_timeout_ms=_TRANSACTION_MS,
            acks="all",
            request_timeout_ms=_TRANSACTION_MS,
            max_request_size=KAFKA_MESSAGE_BYTES,
        )

    async def _send_head(self, producer: Any) -> int:
        rows = await self._store.outbox_head(_BATCH)
        if not rows:
            return 0
        async with asyncio.timeout(2 * _TRANSACTION_MS / 1_000), producer.transaction():
            await _send(producer, rows)
        await self._store.outbox_done([row["seq"] for row in rows])
        events.Relayed(len(rows)).emit()
        return len(rows)


async def _send(producer: Any, rows: Sequence[Any]) -> None:
    sent = []
    for row in rows:
        envelope = Envelope(
            id=row["ce_id"],
            type=row["ce_type"],
            source=SOURCE,
            time_ms=int(row["created_at"].timestamp() * 1_000),
            subject=row["key"],
            dataschema=dataschema(row["ce_type"]),
        )
        # One task queues them one after the other, so a partition gets them in order.
        future = await producer.send(row["topic"], row["value"], row["key"].encode(), headers=headers(envelope))
        # The first failure is raised; those of the others say the same and must not be missed as "never retrieved".
        future.add_done_callback(lambda done: done.cancelled() or done.exception())
        sent.append(future)
    await asyncio.gather(*sent)


async def _woken(woken: asyncio.Event) -> None:
    with suppress(TimeoutError):
        async with asyncio.timeout(_POLL_S):
            await woken.wait()
