"""From the broker to Kafka and back: one tenure of the session slot.

Promises: every message that comes goes through `flow`; what `flow` says is due leaves at once, on the connection
that it came by. Connecting again, however often, loses the order of nothing: what was not acknowledged comes again
and is recognised.
Leaves who may hold the slot to `lease_keeper`, what is due to `flow`, and Kafka to `producer`.
"""

import asyncio
import time
from collections.abc import Callable, Sequence

import msgspec

from control_plane.ingest import events
from control_plane.ingest.config import USERNAME, IngestConfig, broker_password
from control_plane.ingest.flow import Arrival, Flow
from control_plane.ingest.lease_keeper import LeaseKeeper
from control_plane.ingest.limits import Limiter
from control_plane.ingest.packets import Message
from control_plane.ingest.producer import RawWriter
from control_plane.ingest.raw_record import stamp
from control_plane.ingest.reader import Broker, ConnectFailed, Reader, Session
from control_plane.ingest.tail import Tail
from shared import topics
from shared.backoff import Backoff
from shared.batch import Hint
from shared.clock import Clock
from shared.envelope import rfc3339
from shared.errors import Transient
from shared.ids import DeviceId
from shared.tracing import Tracing

FILTERS = (
    topics.subscription(topics.Channel.TELEMETRY),
    topics.subscription(topics.Channel.BATCHES),
)
_RECONNECT = Backoff(first_s=0.25, cap_s=5.0)
_STABLE_S = 10.0  # a connection that lasted so long lets the next attempt be early again
_NO_SUBSCRIBER = 0x10
_FAILURE = 0x80


class Bridge:
    """Call `run` once; `drain` before it is cancelled."""

    def __init__(
        self,
        config: IngestConfig,
        reader: Reader,
        keeper: LeaseKeeper,
        tail: Tail,
        *,
        limiter: Limiter,
        tracing: Tracing,
        clock: Clock,
        random_unit: Callable[[], float],
    ) -> None:
        self._config = config
        self._reader = reader
        self._keeper = keeper
        self._clock = clock
        self._random_unit = random_unit
        self._flow = Flow(
            len(tail.ends),
            remember=config.remember,
            seed=tail.identities,
            unacknowledged_limit=config.unacknowledged_limit,
            limiter=limiter,
        )
        self._writer = RawWriter(
            config.kafka_bootstrap,
            self._flow,
            tail.ends,
            batch_bytes=config.kafka_batch_bytes,
            linger_s=config.linger_ms / 1_000,
            confirmed=self._confirmed,
            may_write=self._may_write,
            tracing=tracing,
            clock=clock,
            random_unit=random_unit,
        )
        self._session: Session | None = None
        self._subscribed = False
        self._paused = False
        self._generation = 0
        self._writable = asyncio.Event()  # set while connected: see _may_write
        self._empty = asyncio.Event()
        events.UNACKNOWLEDGED.set_function(lambda: len(self._flow.window))
        events.UNCONFIRMED.set_function(lambda: len(self._flow))
        events.HINTED.set_function(lambda: limiter.hinted)

    def missing(self) -> list[str]:
        """What stands in the way of doing the work."""
        found = []
        if self._session is None:
            found.append("not connected to the broker")
        elif not self._subscribed:
            found.append("not subscribed")
        if not self._writer.reachable:
            found.append("Kafka does not confirm")
        return found

    async def run(self) -> None:
        """Read and write until cancelled, or until the slot is another's."""
        async with asyncio.TaskGroup() as tasks:
            writing = tasks.create_task(self._writer.run(), name="raw-writer")
            await self._stay_connected()
            writing.cancel()

    async def drain(self, limit_s: float) -> None:
        """Take nothing more, and wait, at most `limit_s`, until what was taken is confirmed and acknowledged."""
        self._flow.close()
        self._empty.clear()
        if len(self._flow):
            try:
                async with asyncio.timeout(limit_s):
                    await self._empty.wait()
            except TimeoutError:
                pass  # the broker keeps what is not acknowledged, and `raw` tells what was written
        events.Drained(len(self._flow)).emit()

    async def _stay_connected(self) -> None:
        attempt = 0
        while True:
            await self._keeper.confirm()
            if not self._keeper.held:
                return
            lasted_s = await self._connection()
            attempt = 0 if lasted_s >= _STABLE_S else attempt + 1
            await asyncio.sleep(_RECONNECT.delay_s(attempt, self._random_unit()))

    async def _connection(self) -> float:
        """One connection from its opening to its end; the seconds that it lasted."""
        self._generation += 1
        generation = self._generation
        started_s = self._clock.monotonic_s()
        self._flow.opened(generation, started_s)
        try:
            async with self._reader.connect(
                self._broker(), lambda messages: self._received(generation, messages), self._published
            ) as session:
                self._session = session
                self._flow.limiter.connected(self._clock.monotonic_s())
                self._writable.set()
                self._acknowledge()
                if not session.session_present:
                    events.SessionAbsent(self._config.slot).emit()
                ended = await self._until_ended(session, generation)
                unacknowledged = len(self._flow.window)
                events.BrokerDisconnected(ended, unacknowledged).emit()
        except ConnectFailed as error:
            events.BrokerConnectFailed(error.kind, error.detail).emit()
        except Transient as error:
            events.BrokerConnectFailed("refused", str(error)).emit()
        finally:
            self._session = None
            self._subscribed = self._paused = False
            self._writable.clear()
        return self._clock.monotonic_s() - started_s

    async def _until_ended(self, session: Session, generation: int) -> str:
        """Subscribe, and wait for the end. Raises Transient if the broker refuses the subscription."""
        ending = asyncio.ensure_future(session.ended())
        subscribing = asyncio.ensure_future(session.subscribe(FILTERS))
        try:
            await asyncio.wait((ending, subscribing), return_when=asyncio.FIRST_COMPLETED)
            if not ending.done():
                subscribing.result()
                self._subscribed = True
                self._keeper.subscribed()
                self._acknowledge()  # what waited for the subscription
                events.BrokerConnected(generation, session.session_present).emit()
            return await ending
        finally:
            for task in (ending, subscribing):
                task.cancel()
            await asyncio.gather(ending, subscribing, return_exceptions=True)

    def _broker(self) -> Broker:
        host, port = self._config.broker_address()
        return Broker(
            host,
            port,
            client_id=f"_ingest-{self._config.slot}",
            username=USERNAME,
            password=broker_password(self._config.secrets_file),
            receive_maximum=self._config.receive_maximum,
            tls=self._config.broker_tls(),
        )

    def _received(self, generation: int, messages: Sequence[Message]) -> None:
        now_ms = self._clock.wall_ms()
        tally = self._flow.received(generation, messages, stamp(now_ms), self._clock.monotonic_s())
        events.RATE.add(time.monotonic(), len(messages))
        if tally.new:
            events.NEW.inc(tally.new)
            events.CUT_FOR_SIZE.inc(tally.cut)
            events.HEADERS_CUT.inc(tally.headers_cut)
            self._writer.wake(tally.partitions)
        if tally.throttled or tally.ignored_hints:
            events.RATE_LIMITED.inc(tally.throttled)
            events.HINTS_IGNORED.inc(tally.ignored_hints)
            self._notify(now_ms)
        if tally.repeats or tally.foreign or tally.dropped:
            events.REPEAT.inc(tally.repeats)
            events.FOREIGN.inc(tally.foreign)
            events.DROPPED.inc(tally.dropped)
            self._acknowledge()
        if len(self._flow.window) > self._config.unacknowledged_limit and self._session and not self._paused:
            self._paused = True
            self._session.pause()
            events.PAUSES.inc()

    def _confirmed(self, arrivals: Sequence[Arrival]) -> None:
        self._flow.confirmed(arrivals)
        self._acknowledge()
        if not len(self._flow):
            self._empty.set()

    def _acknowledge(self) -> None:
        session = self._session
        if session is None:
            return
        waiting = self._flow.hub_acks
        # Of an earlier connection's batches too not before the subscription stands: a gateway takes an
        # acknowledgement for the word that somebody listens.
        if len(waiting) and self._subscribed:
            for gateway, payload in waiting.take(session.publish_room(), self._hint_for):
                session.publish(topics.build(topics.Channel.ACKS, gateway), payload)
            events.HUB_ACKS_FORGOTTEN.set(waiting.forgotten)
        # Behind the hub's acknowledgements: killed in between, ingest gets the batches again and acknowledges them
        # again. The other way round their gateway would wait for its back-stop timer.
        session.acknowledge(self._flow.window.due())
        if self._paused and len(self._flow.window) < self._config.receive_maximum:
            self._paused = False
            session.resume()

    def _notify(self, now_ms: int) -> None:
        """Tell devices that they are over their limit; not often, and only those that listen now."""
        session = self._session
        for device, pause_s in self._flow.limiter.notices().items():
            if session is not None:
                until = rfc3339(now_ms + int(pause_s * 1_000))
                notice = msgspec.json.encode({"notice": "throttled", "until": until})
                session.tell(topics.build(topics.Channel.NOTICES, device), notice)
                events.NOTICES.inc()

    def _hint_for(self, gateway: DeviceId) -> Hint | None:
        hint = self._flow.limiter.hint_for(gateway)
        if hint is not None:
            events.HINTS.inc()
        return hint

    def _published(self, reason_code: int) -> None:
        if reason_code >= _FAILURE:
            events.REFUSED.inc()
        elif reason_code == _NO_SUBSCRIBER:
            events.NOBODY.inc()
        else:
            events.TAKEN.inc()
        if len(self._flow.hub_acks):
            self._acknowledge()

    async def _may_write(self) -> None:
        """Until this process may be the only writer: certain of its slot, or connected with Postgres away."""
        while not self._keeper.certain():
            if self._writable.is_set():
                if self._keeper.may_write():
                    return
                await self._keeper.wait_until_writable()
            else:
                await self._writable.wait()
