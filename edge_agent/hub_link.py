"""The connection to the hub's broker: publishes what the outbox's writer delivers, hears what the hub acknowledges.

Promises: batches leave at QoS 1 in the order delivered; PUBACK reason codes and acknowledgements go to the writer,
and neither frees anything by itself. The acknowledgements are subscribed to before the first batch is sent. A broken
connection is made anew after a delay with full jitter, whose bound begins again only after a connection that stood
for `stable_s`; the first attempt of a start waits a random part of `first_delay_s`, so that a fleet whose power came
back does not come at once.
Leaves the outbox to `edge_agent.outbox_writer`, what to send to the core.
"""

import asyncio
import random
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from functools import partial
from typing import Protocol

import msgspec

from edge_agent.dispatch import Outgoing
from edge_agent.key_files import HeldKey
from edge_agent.mqtt import NO_MATCHING_SUBSCRIBERS, REFUSED_FROM, Connection, Incoming, KeyRefused, Options, Will
from edge_agent.outbox_writer import Deliver
from edge_agent.uplink_events import BadAcknowledgement, HubConnected, HubLeft, HubLost
from edge_agent.uplink_state import Key
from shared import topics
from shared.backoff import Backoff
from shared.batch import CONTENT_TYPE, Hint, decode_ack, encode_header
from shared.clock import Clock
from shared.config import Secret
from shared.errors import HubError, Rejected, Transient
from shared.ids import DeviceId, Epoch, is_epoch
from shared.topics import Channel

_ACKS_WAITING = 1_000
_GOODBYE_S = 3.0
RECONNECT = Backoff(first_s=1.0, cap_s=300.0)


@dataclass(frozen=True, slots=True)
class LinkSettings:
    """How to reach the hub. `url`: mqtt:// or mqtts://; `ca_file`: the CA that its certificate must come from.

    `cert_file`, `cert_key_file`: our own certificate, at a door that asks for one.
    """

    url: str
    gateway: DeviceId
    username: str | None = None
    password: Secret | None = None
    ca_file: str | None = None
    cert_file: str | None = None
    cert_key_file: str | None = None
    version: str = ""
    inflight: int = 256
    keepalive_s: int = 30
    first_delay_s: float = 5.0
    stable_s: float = 60.0
    reconnect: Backoff = RECONNECT


class Keys(Protocol):
    """Which key is used, where it may change (`edge_agent.key_keeper`)."""

    def current(self) -> HeldKey: ...

    async def changed(self) -> None: ...

    def accepted(self, key: HeldKey) -> None: ...

    def refused(self, key: HeldKey) -> None: ...


class Writer(Protocol):
    """What the link asks of `edge_agent.outbox_writer.OutboxWriter`."""

    def connected(self, deliver: Deliver) -> None: ...

    def disconnected(self) -> None: ...

    def refused(self, key: Key, reason: int) -> None: ...

    def unheard(self, key: Key) -> None: ...

    def acked(self, keys: tuple[Key, ...]) -> None: ...

    def hinted(self, hint: Hint) -> None: ...


class HubLink:
    """One gateway's connection to the hub; `serve` it once."""

    def __init__(
        self,
        settings: LinkSettings,
        writer: Writer,
        clock: Clock,
        connect: Callable[[Options], Connection] = Connection,
        keys: Keys | None = None,
        nudged: Callable[[], None] | None = None,
    ) -> None:
        """`keys` go before the settings' user name and password. `nudged`: the hub says that asking it is worth
        while, and no more: a nudge carries no authority.
        """
        self._settings = settings
        self._writer = writer
        self._clock = clock
        self._connect = connect
        self._keys = keys
        self._nudged = nudged
        self._commands = topics.build(Channel.COMMANDS, settings.gateway)
        self._batches = topics.build(Channel.BATCHES, settings.gateway)
        self._acks = topics.build(Channel.ACKS, settings.gateway)
        self._status = topics.build(Channel.STATUS, settings.gateway)
        self.connected = False
        """Batches can be sent now."""
        self.trouble: str | None = "not connected to the hub yet"
        """Why they cannot."""

    async def serve(self, stopping: asyncio.Event) -> None:
        """Stay connected until `stopping`, then say goodbye. Never raises for what the hub or the network does."""
        attempt = 0
        delay_s = random.random() * self._settings.first_delay_s  # noqa: S311 - jitter
        while not await _wait(stopping, delay_s):
            began_s = self._clock.monotonic_s()
            try:
                await self._session(stopping)
                delay_s = 0.0  # another key is to be used
            except* HubError as group:
                # A refusal that "lasts" may be mended at the hub while we wait, so every error is tried again.
                if self._clock.monotonic_s() - began_s >= self._settings.stable_s:
                    attempt = 0
                delay_s = self._settings.reconnect.delay_s(attempt, random.random())  # noqa: S311 - jitter
                attempt += 1
                self.trouble = str(_first(group))
                HubLost(self.trouble, round(delay_s, 1)).emit()

    async def _session(self, stopping: asyncio.Event) -> None:
        settings = self._settings
        key = self._keys.current() if self._keys is not None else None
        options = Options(
            settings.url,
            settings.gateway,
            key.key_id if key is not None else settings.username,
            key.secret if key is not None else settings.password,
            receive_maximum=_ACKS_WAITING,
            inflight=settings.inflight,
            keepalive_s=settings.keepalive_s,
            will=Will(self._status, self._word(online=False)),
            ca_file=settings.ca_file,
            cert_file=settings.cert_file,
            cert_key_file=settings.cert_key_file,
        )
        async with self._opened(options, key) as connection:
            await connection.subscribe(self._acks, *([self._commands] if self._nudged is not None else []))
            connection.publish(self._status, self._word(online=True), retain=True)
            outgoing: asyncio.Queue[list[Outgoing] | None] = asyncio.Queue()  # bounded by the writer's window
            loop = asyncio.get_running_loop()

            def deliver(batches: list[Outgoing] | None) -> None:
                with suppress(RuntimeError):  # the loop has ended: the next start sends it again
                    loop.call_soon_threadsafe(outgoing.put_nowait, batches)

            self._writer.connected(deliver)
            self.connected, self.trouble = True, None
            HubConnected().emit()
            try:
                async with asyncio.TaskGroup() as group:
                    tasks = [
                        group.create_task(self._hear(connection), name="hub acks"),
                        group.create_task(self._speak(connection, outgoing), name="hub batches"),
                    ]
                    if self._keys is not None:
                        tasks.append(group.create_task(self._keys.changed(), name="hub key"))
                    await _stopped(stopping, tasks)
                    for task in tasks:
                        task.cancel()
                if stopping.is_set():
                    goodbye = connection.publish(self._status, self._word(online=False), retain=True)
                    await asyncio.wait([goodbye], timeout=_GOODBYE_S)
                    HubLeft().emit()
            finally:
                self.connected = False
                self._writer.disconnected()

    @asynccontextmanager
    async def _opened(self, options: Options, key: HeldKey | None) -> AsyncIterator[Connection]:
        """The connection; whether the broker took the key is told."""
        connection = self._connect(options)
        try:
            await connection.__aenter__()
        except KeyRefused:
            if self._keys is not None and key is not None:
                self._keys.refused(key)
            raise
        try:
            if self._keys is not None and key is not None:
                self._keys.accepted(key)
            yield connection
        finally:
            await connection.__aexit__(*sys.exc_info())

    def _word(self, *, online: bool) -> bytes:
        return msgspec.json.encode({"online": online, "version": self._settings.version})

    async def _speak(self, connection: Connection, outgoing: asyncio.Queue[list[Outgoing] | None]) -> None:
        while True:
            batches = await outgoing.get()
            if batches is None:
                raise Transient("the outbox was salvaged; its epoch begins with a new connection")
            for batch in batches:
                puback = connection.publish(
                    self._batches,
                    batch.payload,
                    user_properties=encode_header(batch.header),
                    content_type=CONTENT_TYPE,
                )
                puback.add_done_callback(partial(self._judge, batch.key))

    def _judge(self, key: Key, puback: asyncio.Future[int]) -> None:
        if puback.cancelled() or puback.exception() is not None:
            return  # the connection ended; all is sent again over the next
        reason = puback.result()
        if reason == NO_MATCHING_SUBSCRIBERS:
            self._writer.unheard(key)
        elif reason >= REFUSED_FROM:
            self._writer.refused(key, reason)

    async def _hear(self, connection: Connection) -> None:
        while True:
            for message in await connection.receive():
                self._take(message)
                connection.ack(message)

    def _take(self, message: Incoming) -> None:
        if message.topic == self._commands:
            if self._nudged is not None and message.payload == topics.NUDGE:
                self._nudged()
            return
        ack = decode_ack(message.payload)
        if isinstance(ack, Rejected):
            BadAcknowledgement(ack.detail).emit()
            return
        keys = [
            (Epoch(epoch), number) for epoch, numbers in ack.acks.items() if is_epoch(epoch) for number in numbers
        ]
        if keys:
            self._writer.acked(tuple(keys))
        if ack.hint is not None:
            self._writer.hinted(ack.hint)


async def _wait(event: asyncio.Event, seconds: float) -> bool:
    """Wait for the event, at most so long; whether it is set."""
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        return False
    return True


async def _stopped(stopping: asyncio.Event, tasks: list[asyncio.Task[None]]) -> None:
    """Return when `stopping` is set or a task has ended."""
    stop = asyncio.ensure_future(stopping.wait())
    try:
        await asyncio.wait([stop, *tasks], return_when=asyncio.FIRST_COMPLETED)
    finally:
        stop.cancel()
        await asyncio.gather(stop, return_exceptions=True)


def _first(group: BaseExceptionGroup[HubError]) -> HubError:
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    assert isinstance(error, HubError)
    return error
