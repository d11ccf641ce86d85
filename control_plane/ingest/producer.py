"""Messages into `raw`: one worker per partition, one batch in flight, acks=all, idempotent.

Promises: a message is reported as confirmed only after Kafka has it; within a partition messages are written in the
order in which they waited; none is given up, and only one that is too large is cut. Kafka away is waited out. A
producer that failed for good is replaced, and since the outcome of its last batch is unknown, the topic is read
before that batch is sent again.

With one batch in flight a Kafka batch is written wholly or not at all, and nothing overtakes it: this, not the
idempotence alone, keeps the order through every failure.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass

from aiokafka import AIOKafkaProducer
from aiokafka.errors import (
    InvalidTimestampError,
    KafkaError,
    MessageSizeTooLargeError,
    RecordListTooLargeError,
)
from aiokafka.producer.message_accumulator import BatchBuilder

from control_plane.ingest import events
from control_plane.ingest.flow import Arrival, Flow
from control_plane.ingest.tail import read_since
from shared.backoff import Backoff
from shared.clock import Clock
from shared.errors import Transient
from shared.topics import Kafka
from shared.tracing import Tracing

_REQUEST_TIMEOUT_MS = 10_000
_RETRY_MS = 100
_SILENCE_S = 2.0  # a batch unconfirmed for so long is news
_CLOSE_S = 5.0
_RETRY = Backoff(first_s=0.1, cap_s=5.0)
_TOO_LARGE = (MessageSizeTooLargeError, RecordListTooLargeError)
_NO_TIMESTAMP = -1  # of Kafka's record format: a record without a time, which no topic refuses


class _NotSentError(Exception):
    """The batch was not taken by the producer, so it is certain that Kafka does not have it."""


@dataclass(frozen=True, slots=True, eq=False)
class _Live:
    """A producer, and the future that tells its users that it is given up."""

    producer: AIOKafkaProducer
    retired: asyncio.Future[None]


class RawWriter:
    """Writes what waits in `flow`. `confirmed` is called with each list of messages that Kafka has, in order.

    `may_write` is awaited before each batch; it returns once this process may still be the only writer.
    """

    def __init__(
        self,
        bootstrap: str,
        flow: Flow,
        ends: Sequence[int],
        *,
        batch_bytes: int,
        linger_s: float,
        confirmed: Callable[[Sequence[Arrival]], None],
        may_write: Callable[[], Awaitable[None]],
        tracing: Tracing,
        clock: Clock,
        random_unit: Callable[[], float],
    ) -> None:
        self._bootstrap = bootstrap
        self._flow = flow
        self._ends = list(ends)
        self._batch_bytes = batch_bytes
        self._linger_s = linger_s
        self._confirmed = confirmed
        self._may_write = may_write
        self._tracing = tracing
        self._clock = clock
        self._random_unit = random_unit
        self._live: _Live | None = None
        self._replacing = asyncio.Lock()
        self._wake = [asyncio.Event() for _ in ends]
        self._woken: set[int] = set()
        self._away_since: float | None = None
        self._stamped = True
        """Whether records bear their time of receipt; not once Kafka refused one, until this process ends."""

    @property
    def reachable(self) -> bool:
        """False while Kafka has kept us waiting for more than 2 s."""
        return self._away_since is None

    def wake(self, partitions: set[int]) -> None:
        """Something new waits in these partitions' queues.

        The workers learn it together and a moment later: one request then carries several messages of several
        partitions. A worker whose batch was just confirmed goes on with what waits at once.
        """
        if not self._woken:
            asyncio.get_running_loop().call_later(self._linger_s, self._wake_workers)
        self._woken |= partitions

    def _wake_workers(self) -> None:
        for partition in self._woken:
            self._wake[partition].set()
        self._woken = set()

    async def run(self) -> None:
        """Write until cancelled; then nothing more is written."""
        try:
            async with asyncio.TaskGroup() as workers:
                for partition in range(len(self._ends)):
                    workers.create_task(self._work(partition), name=f"raw-{partition}")
        finally:
            if self._live is not None:
                await self._retire(self._live)

    async def _work(self, partition: int) -> None:
        queue = self._flow.queues[partition]
        wake = self._wake[partition]
        while True:
            await wake.wait()
            wake.clear()
            while queue:
                await self._may_write()
                live = await self._producer()
                builder, taken = self._fill(live, partition)
                await self._deliver(partition, live, builder, taken)

    def _fill(self, live: _Live, partition: int) -> tuple[BatchBuilder, list[Arrival]]:
        """As many waiting messages as one Kafka batch holds; at least one."""
        builder = live.producer.create_batch()
        queue = self._flow.queues[partition]
        taken: list[Arrival] = []
        while queue and self._append(builder, queue[0]):
            taken.append(queue.popleft())
        assert taken, "a Kafka batch takes its first record whatever its size"
        return builder, taken

    def _append(self, builder: BatchBuilder, arrival: Arrival) -> bool:
        headers = arrival.headers(self._traceparent(arrival))
        ms = arrival.received.ms if self._stamped else _NO_TIMESTAMP
        return builder.append(timestamp=ms, key=arrival.origin.key, value=arrival.value, headers=headers) is not None

    def _traceparent(self, arrival: Arrival) -> str | None:
        if not self._tracing.enabled:
            return arrival.properties.traceparent
        if arrival.trace is None:
            parent = arrival.properties.traceparent or self._tracing.start()
            start_ns = arrival.received.ms * 1_000_000
            kind = {"messaging.operation": "receive", "channel": arrival.origin.channel.value}
            arrival.trace = self._tracing.stage("ingest.receive", parent, start_ns, time.time_ns(), kind) or ""
        return arrival.trace or None

    async def _deliver(self, partition: int, live: _Live, builder: BatchBuilder, taken: list[Arrival]) -> None:
        """Until Kafka has all of `taken`."""
        attempt = 0
        while True:
            started_ns = time.time_ns()
            try:
                offset = await self._send(partition, live, builder)
            except InvalidTimestampError as error:
                # Kafka's clock and ours are apart, on a topic that `hub migrate` did not make. The time of receipt is
                # in a header of its own, so nothing is lost with Kafka's.
                await self._retire(live, error)
                self._stamped = False
                events.TimestampRefused(taken[0].received.ms).emit()
            except _TOO_LARGE as error:
                await self._retire(live, error)
                if len(taken) > 1:
                    for arrival in taken:
                        live, builder = await self._again([arrival])
                        await self._deliver(partition, live, builder, [arrival])
                    return
                _cut(taken[0], error)
            except _NotSentError as error:
                await self._retire(live, error)
            except (KafkaError, Transient) as error:
                await self._retire(live, error)
                taken = await self._reconcile(partition, taken)
            else:
                # A batch that Kafka knew already is confirmed without its offset.
                self._ends[partition] = max(self._ends[partition], offset + len(taken))
                self._done(taken, started_ns)
                return
            if not taken:
                return
            await self._pause(attempt)
            attempt += 1
            live, builder = await self._again(taken)

    async def _again(self, taken: Sequence[Arrival]) -> tuple[_Live, BatchBuilder]:
        await self._may_write()
        live = await self._producer()
        builder = live.producer.create_batch()
        for arrival in taken:
            fits = self._append(builder, arrival)
            assert fits, "what one batch held another holds"
        return live, builder

    async def _send(self, partition: int, live: _Live, builder: BatchBuilder) -> int:
        """The batch's first offset. Raises _NotSentError, or KafkaError with the outcome unknown."""
        try:
            delivery = await live.producer.send_batch(builder, Kafka.RAW.value, partition=partition)
        except KafkaError as error:
            raise _NotSentError(repr(error)) from error
        delivery.add_done_callback(_retrieve)  # should nobody wait for it any more
        done, _ = await asyncio.wait(
            (delivery, live.retired), timeout=_SILENCE_S, return_when=asyncio.FIRST_COMPLETED
        )
        if not done:
            self._away("no confirmation")
            done, _ = await asyncio.wait((delivery, live.retired), return_when=asyncio.FIRST_COMPLETED)
        if delivery not in done:
            raise Transient("the producer was given up while this batch was on its way")
        metadata = delivery.result()
        self._back()
        return int(metadata.offset)

    def _done(self, taken: Sequence[Arrival], started_ns: int) -> None:
        now_ns = time.time_ns()
        events.PRODUCED.inc(len(taken))
        events.ACK_LATENCY.observe(max(0.0, now_ns / 1e9 - taken[0].received.ms / 1e3))
        self._confirmed(taken)
        if self._tracing.enabled:
            for arrival in taken:
                if arrival.trace:
                    self._tracing.stage("ingest.produce", arrival.trace, started_ns, now_ns, {"records": len(taken)})

    async def _reconcile(self, partition: int, taken: list[Arrival]) -> list[Arrival]:
        """What of `taken` is not in the topic; the rest is confirmed."""
        attempt = 0
        while True:
            try:
                end, found = await read_since(self._bootstrap, partition, self._ends[partition])
            except Transient as error:
                self._away(str(error))
                await self._pause(attempt)
                attempt += 1
                continue
            self._back()
            self._ends[partition] = end
            there = [arrival for arrival in taken if arrival.identity in found]
            missing = [arrival for arrival in taken if arrival.identity not in found]
            events.BatchReconciled(len(there), len(missing)).emit()
            if there:
                self._done(there, time.time_ns())
            return missing

    async def _producer(self) -> _Live:
        """The present producer, or a fresh one, however long Kafka is away."""
        attempt = 0
        async with self._replacing:
            while self._live is None:
                producer = AIOKafkaProducer(
                    bootstrap_servers=self._bootstrap,
                    client_id="ingest",
                    acks="all",
                    enable_idempotence=True,
                    max_batch_size=self._batch_bytes,
                    request_timeout_ms=_REQUEST_TIMEOUT_MS,
                    retry_backoff_ms=_RETRY_MS,
                )
                try:
                    await producer.start()
                except KafkaError as error:
                    await _close(producer)
                    self._away(repr(error))
                    await self._pause(attempt)
                    attempt += 1
                except BaseException:
                    await _close(producer)
                    raise
                else:
                    self._live = _Live(producer, asyncio.get_running_loop().create_future())
            return self._live

    async def _retire(self, live: _Live, error: Exception | None = None) -> None:
        """Give a producer up: whoever waits for it is told, and it sends nothing more."""
        async with self._replacing:
            if self._live is live:
                self._live = None
                if error is not None:
                    events.ProducerRetired(repr(error)).emit()
                live.retired.set_result(None)
                await _close(live.producer)

    async def _pause(self, attempt: int) -> None:
        await asyncio.sleep(_RETRY.delay_s(attempt, self._random_unit()))

    def _away(self, detail: str) -> None:
        if self._away_since is None:
            self._away_since = self._clock.monotonic_s()
            events.KafkaAway(detail).emit()

    def _back(self) -> None:
        if self._away_since is not None:
            events.KafkaBack(round(self._clock.monotonic_s() - self._away_since, 1)).emit()
            self._away_since = None


def _cut(arrival: Arrival, error: KafkaError) -> None:
    if arrival.is_cut:
        events.CutFormRefused(repr(error), len(arrival.value)).emit()
    else:
        events.RecordRefused(repr(error), len(arrival.value)).emit()
        arrival.cut()


def _retrieve(delivery: "asyncio.Future[object]") -> None:
    if not delivery.cancelled():
        delivery.exception()


async def _close(producer: AIOKafkaProducer) -> None:
    """Cut it off. Its own `stop` waits until all is delivered, which may be never."""
    producer._closed = True
    with suppress(KafkaError, OSError):
        await producer.client.close()
    with suppress(TimeoutError, KafkaError):
        async with asyncio.timeout(_CLOSE_S):
            await producer._sender.close()
