"""From the local broker into the outbox: take, stamp, recognise repeats, commit, acknowledge.

Promises (docs/agent.md):
- A message is acknowledged to the broker only after all of it is durable, in order of receipt, and only over the
  connection by which it came. What is killed in between is delivered again and recognised by its identity.
- One commit is under way at a time, so rows are stored in order of receipt even when a commit fails and is repeated;
  what arrives meanwhile is parsed and joins the next one.
- Nothing here looks at the uplink: an outage of the hub does not slow intake.
- Of a device that the hub does not know yet (`gate`) the rows are held back: durable, not sent before it is approved.
What waits in memory is bounded by Receive Maximum, since nothing of it is acknowledged: so many messages as they came
until they are taken, then their records until they are committed (of what is too large, the first 64 KiB).
"""

import asyncio
import random
import time
from collections import Counter, deque
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Protocol

from edge_agent.device_book import Gate, passes_all
from edge_agent.dispatch import HeldRow
from edge_agent.events import CommitFailed, Committed, LocalBrokerConnected, LocalBrokerDropped, LocalBrokerLost
from edge_agent.held import as_held
from edge_agent.held_events import MessagesUnwanted
from edge_agent.mqtt import Connection, Incoming, Options
from edge_agent.pipeline import Message, Pipeline, Stamp
from edge_agent.row import Row
from shared import topics
from shared.backoff import Backoff
from shared.batch import ClockQuality
from shared.batch import traceparent as valid_traceparent
from shared.clock import Clock
from shared.errors import Permanent, Transient
from shared.reading import Refused
from shared.recent import Recent, identity
from shared.tracing import Tracing

RECENT = 10_000
"""Identities remembered; redelivery reaches back Receive Maximum messages, resends of devices somewhat further."""

DROPPED = "$SYS/broker/publish/messages/dropped"
"""Where Mosquitto counts what it dropped since its start; retained."""

OFFERS = 16

RECONNECT = Backoff(first_s=0.5, cap_s=10.0)
COMMIT_AGAIN = Backoff(first_s=0.2, cap_s=10.0)
STABLE_S = 30.0
DRY_S = 0.02
CATCH_UP_S = 60.0
_TOPICS_KNOWN = 10_000


class Store(Protocol):
    """What intake asks of the outbox (edge_agent.outbox_writer.OutboxWriter)."""

    def submit(
        self, rows: Sequence[Row], identities: Sequence[bytes], held: Sequence[HeldRow] = ()
    ) -> asyncio.Future[None]:
        """Durable when the future resolves; nothing stored when it fails with Transient."""
        ...

    def recent_identities(self) -> list[bytes]:
        """The newest identities stored, oldest first."""
        ...


@dataclass(slots=True)
class _Group:
    """What one commit holds: rows and identities in order of receipt, and the messages that wait for it."""

    rows: list[Row] = field(default_factory=list)
    held: list[HeldRow] = field(default_factory=list)
    identities: list[bytes] = field(default_factory=list)
    messages: list[Incoming] = field(default_factory=list)
    traces: list[str] = field(default_factory=list)
    refused: Counter[str] = field(default_factory=Counter)
    taken: int = 0
    repeats: int = 0
    foreign: int = 0
    unwanted: int = 0

    def __bool__(self) -> bool:
        return bool(self.messages or self.rows or self.held or self.taken)


class Intake:
    """One gateway's intake; `serve` it once. `quality` says how far the wall clock is to be trusted now, `gate`
    what is done with a device's messages; of the devices in `following` rows are held already.
    """

    def __init__(
        self,
        options: Options,
        pipeline: Pipeline,
        store: Store,
        *,
        clock: Clock,
        tracing: Tracing,
        quality: Callable[[], ClockQuality],
        gate: Callable[[str], Gate] = passes_all,
        following: Collection[str] = (),
        reconnect: Backoff = RECONNECT,
        connect: Callable[[Options], Connection] = Connection,
    ) -> None:
        assert 2 * options.receive_maximum <= RECENT, "what is delivered again must be known again"
        assert options.session, "without a session the broker forgets what waits for us"
        self._options = options
        self._pipeline = pipeline
        self._store = store
        self._clock = clock
        self._boot_id = clock.boot_id()
        self._tracing = tracing
        self._quality = quality
        self._gate = gate
        self._following = set(following)
        self._reconnect = reconnect
        self._connect = connect
        self._recent = Recent(RECENT, store.recent_identities())
        self._owners: dict[str, str | None] = {}
        self._dropped = 0
        self._offers: deque[tuple[str, bytes, Stamp]] = deque(maxlen=OFFERS)
        self._pending = _Group()
        self._arrived = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._closing = asyncio.Event()
        self.connected = False
        """The broker is connected and subscribed."""
        self.trouble: str | None = "not connected to the local broker yet"
        """Why messages cannot be taken now."""
        self.store_trouble: str | None = None
        """Why the latest commit stored nothing."""

    async def serve(self, stopping: asyncio.Event) -> None:
        """Take messages until `stopping`; then commit and acknowledge what was taken, and return."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._commit(), name="intake commit")
            try:
                await self._stay_connected(stopping)
            finally:
                self._close()

    def offer(self, device: str, payload: bytes) -> None:
        """Accept a message of the gateway's own; nobody waits for its acknowledgement.

        While commits fail the newest `OFFERS` are kept: no broker holds them, and memory must not grow.
        """
        self._offers.append((device, payload, self._stamp()))
        self._announce()

    # -- connection ---------------------------------------------------------------------------------------------

    async def _stay_connected(self, stopping: asyncio.Event) -> None:
        attempt = 0
        while not stopping.is_set():
            started_s = self._clock.monotonic_s()
            try:
                await self._connection(stopping)
            except (Transient, Permanent) as error:
                # A broker that refuses us for good may be mended by a person while we wait: go on trying, and say it.
                if self._clock.monotonic_s() - started_s > STABLE_S:
                    attempt = 0
                delay_s = self._reconnect.delay_s(attempt, random.random())  # noqa: S311 - jitter
                attempt += 1
                self.trouble = f"local broker: {error}"
                LocalBrokerLost(str(error), round(delay_s, 1)).emit()
                await _wait(stopping, delay_s)
            finally:
                self.connected = False

    async def _connection(self, stopping: asyncio.Event) -> None:
        async with self._connect(self._options) as connection:
            await connection.subscribe(topics.subscription(topics.Channel.TELEMETRY))
            with suppress(Permanent):  # a broker that does not tell what it dropped is no worse a broker
                await connection.subscribe(DROPPED, retained_again=True)
            # Acknowledgements of earlier connections reach nobody.
            self._pending.messages.clear()
            self.connected = True
            self.trouble = None
            LocalBrokerConnected(connection.session_present).emit()
            receiving = asyncio.ensure_future(self._receive(connection))
            stop = asyncio.ensure_future(stopping.wait())
            try:
                await asyncio.wait((receiving, stop), return_when=asyncio.FIRST_COMPLETED)
                if receiving.done():
                    receiving.result()
            finally:
                receiving.cancel()
                stop.cancel()
                await asyncio.gather(receiving, stop, return_exceptions=True)
            self._close()
            await self._idle.wait()

    async def _receive(self, connection: Connection) -> None:
        limit = self._options.receive_maximum
        monotonic_s = self._clock.monotonic_s
        catch_up_until_s = monotonic_s() + CATCH_UP_S if connection.session_present else 0.0
        while True:
            asked_s = monotonic_s()
            messages = await connection.receive(limit)
            if catch_up_until_s:
                # What waited in the broker comes without a pause; the first pause ends it.
                now_s = monotonic_s()
                if now_s - asked_s > DRY_S or now_s > catch_up_until_s:
                    catch_up_until_s = 0.0
            self._take(messages, fresh=not catch_up_until_s)

    # -- taking -------------------------------------------------------------------------------------------------

    def _take(self, messages: Sequence[Incoming], *, fresh: bool) -> None:
        group = self._pending
        for message in messages:
            group.messages.append(message.spent())
            device = self._owner(message.topic)
            if device is None and message.topic == DROPPED:
                self._note_dropped(message.payload)
                continue
            group.taken += 1
            if device is None:
                group.foreign += 1
                continue
            stamp = self._stamp()
            known = identity(device.encode(), message.payload)
            if not self._recent.add(known):
                group.repeats += 1  # its first copy is durable, or waits in this commit or the one before
                continue
            if self._gate(device) is Gate.DROP:
                group.unwanted += 1
                continue
            group.identities.append(known)
            parent = None
            for name, value in message.user_properties:
                if name == "traceparent":
                    parent = valid_traceparent(value)
            is_fresh = fresh and not message.redelivered and not message.retained
            self._join(group, device, message.payload, stamp, fresh=is_fresh, parent=parent)
        self._announce()

    def _join(
        self, group: _Group, device: str, payload: bytes, stamp: Stamp, *, fresh: bool, parent: str | None
    ) -> None:
        pipeline = self._pipeline
        if self._tracing.enabled and (parent := parent or self._tracing.start()) is not None and _sampled(parent):
            taken, parent = self._traced(device, payload, stamp, fresh, parent)
            group.traces.append(parent)
        else:
            taken = pipeline.read(device, payload, stamp, fresh=fresh)
            pipeline.score(taken)
        gate = self._gate(device)
        if gate is Gate.PASS and device not in self._following:
            group.rows += pipeline.rows(taken, parent)
        else:
            self._following.add(device)  # what comes after its approval must not overtake what is held of it
            group.held += as_held(device, pipeline.rows(taken, parent), waits=gate is Gate.HOLD)
        for item in taken.items:
            if type(item) is Refused:
                group.refused[item.why.reason.value] += 1

    def _traced(self, device: str, payload: bytes, stamp: Stamp, fresh: bool, parent: str) -> tuple[Message, str]:
        begun_ns = time.time_ns()
        taken = self._pipeline.read(device, payload, stamp, fresh=fresh)
        read_ns = time.time_ns()
        self._pipeline.score(taken)
        scored_ns = time.time_ns()
        parent = self._tracing.stage("intake", parent, begun_ns, read_ns, {"bytes": len(payload)}) or parent
        return taken, self._tracing.stage("score", parent, read_ns, scored_ns, {}) or parent

    def _stamp(self) -> Stamp:
        return Stamp(self._clock.wall_ms(), self._clock.boot_ms(), self._boot_id, self._quality())

    def _owner(self, topic: str) -> str | None:
        try:
            return self._owners[topic]
        except KeyError:
            if len(self._owners) >= _TOPICS_KNOWN:
                self._owners.clear()
            address = topics.parse(topic)
            mine = address is not None and address.channel is topics.Channel.TELEMETRY
            owner = self._owners[topic] = address.owner if address is not None and mine else None
            return owner

    def _note_dropped(self, payload: bytes) -> None:
        total = int(payload) if payload.isdigit() else 0
        if total > self._dropped:
            LocalBrokerDropped(total - self._dropped, total).emit()
        self._dropped = total

    def _announce(self) -> None:
        self._idle.clear()
        self._arrived.set()

    def _close(self) -> None:
        """From here on a commit that fails is given up: its messages are the broker's to deliver again."""
        self._closing.set()
        self._arrived.set()

    # -- committing ---------------------------------------------------------------------------------------------

    async def _commit(self) -> None:
        while True:
            await self._arrived.wait()
            self._arrived.clear()
            group, self._pending = self._pending, _Group()
            while self._offers:
                device, payload, stamp = self._offers.popleft()
                self._join(group, device, payload, stamp, fresh=True, parent=None)
            if group and not await self._stored(group):
                self._idle.set()
                return
            if not self._pending and not self._offers:
                self._idle.set()
                if self._closing.is_set():
                    return

    async def _stored(self, group: _Group) -> bool:
        """Commit the group, however often it takes, and acknowledge; False if we close and it cannot be done."""
        attempt = 0
        begun_ns = time.time_ns() if group.traces else 0
        while group.rows or group.held:
            try:
                await self._store.submit(group.rows, group.identities, group.held)
                break
            except Transient as error:
                delay_s = COMMIT_AGAIN.delay_s(attempt, 0.5 + 0.5 * random.random())  # noqa: S311 - jitter
                attempt += 1
                self.store_trouble = str(error)
                CommitFailed(str(error), len(group.rows) + len(group.held), round(delay_s, 1)).emit()
                if await _wait(self._closing, delay_s):
                    return False
        self.store_trouble = None
        for message in group.messages:
            message.connection.ack(message)
        if group.traces:
            done_ns = time.time_ns()
            for parent in group.traces:
                self._tracing.stage("commit", parent, begun_ns, done_ns, {"rows": len(group.rows)})
        if group.unwanted:
            MessagesUnwanted(group.unwanted).emit()
        rows = Counter(row.cls.value for row in group.rows)
        Committed(group.taken, group.repeats, group.foreign, rows, group.refused).emit()
        return True


def _sampled(traceparent: str) -> bool:
    return bool(int(traceparent[-2:], 16) & 1)


async def _wait(event: asyncio.Event, seconds: float) -> bool:
    """Wait for the event, at most so long; whether it is set."""
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        return False
    return True
