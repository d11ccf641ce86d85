"""Commands to the running broker's dynamic-security plugin.

Promises: one command in flight; each is answered, refused or given up within its deadline; pauses keep the plugin,
which works in the broker's only thread, to a fifth of the broker's time. Leaves what to command to `registrar` and
`reconciler`. A command given up may have been done: its caller must be able to bear that.
"""

import asyncio
import json
import random
import secrets
import time
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from urllib.parse import urlsplit

import aiomqtt
import msgspec

from control_plane.registry import events
from control_plane.registry.dynsec import COMMAND_TOPIC, RESPONSE_TOPIC, Answer, Command, decode_answers
from control_plane.registry.turns import Lane, Turns
from shared import tls, topics
from shared.backoff import Backoff
from shared.config import ConfigError, Secret, read_secret
from shared.errors import Permanent, Transient
from shared.ids import DeviceId

_BACKOFF = Backoff(first_s=0.2, cap_s=5.0)
_CONNECT_S = 5.0
_SHARE = 0.2  # of the broker's time
_LONGEST_PAUSE_S = 2.0
_PORTS = {"mqtt": 1883, "mqtts": 8883}
_REMEMBERED = 8  # commands
_HINT = "is the broker of HUB_MQTT_URL up?"


class BrokerRefused(Permanent):
    """The plugin answered with an error; `words` are its own."""

    def __init__(self, command: str, words: str) -> None:
        super().__init__(f"the broker refused {command}: {words}")
        self.words = words


def service_secret(path: Path, username: str) -> Secret:
    """One of our services' broker passwords from HUB_SERVICE_SECRETS_FILE. Raises ConfigError."""
    try:
        found = json.loads(str(read_secret(path)))[username]
    except (ValueError, KeyError, TypeError) as error:
        raise ConfigError([f"HUB_SERVICE_SECRETS_FILE: no secret of {username} in {path}"]) from error
    return Secret(found)


def address(url: str) -> tuple[str, int]:
    """Host and port of HUB_MQTT_URL. Raises ValueError, which does not show it: it may hold a password."""
    parts = urlsplit(url)
    try:
        host, port = parts.hostname, parts.port or _PORTS.get(parts.scheme, 0)
    except ValueError:
        host, port = None, 0
    if parts.scheme not in _PORTS or not host or "@" in url:
        raise ValueError("is not mqtt://host:port or mqtts://host:port (users and passwords stand elsewhere)")
    return host, port


def client(
    url: str, username: str, secret: str, client_id: str, *, ca_file: Path | None = None, **more: object
) -> aiomqtt.Client:
    """A fresh MQTT 5 client for one connection; `ca_file` is the only CA that is believed with mqtts://.

    Raises ConfigError for an address that is none, Permanent for a CA file that is none.
    """
    try:
        host, port = address(url)
    except ValueError as error:
        raise ConfigError([f"HUB_MQTT_URL: {error}"]) from None
    return aiomqtt.Client(
        host,
        port,
        username=username,
        password=secret,
        identifier=client_id,
        protocol=aiomqtt.ProtocolVersion.V5,
        tls_context=tls.client_context(ca_file) if url.startswith("mqtts://") else None,
        timeout=_CONNECT_S,
        **more,  # type: ignore[arg-type]  # keywords of the library, given by our own callers
    )


class Broker:
    """The registry's connection. `serve` keeps it; `command` uses it. `on_connect` is called after each connect."""

    def __init__(
        self,
        url: str,
        secret: str,
        *,
        deadline_s: float,
        on_connect: Callable[[], None],
        ca_file: Path | None = None,
    ) -> None:
        self._url = url
        self._ca_file = ca_file
        self._secret = secret
        self._deadline_s = deadline_s
        self._on_connect = on_connect
        # One per process: several API processes may run, and equal ids would throw each other out.
        self._client_id = f"_registry-{secrets.token_hex(4)}"
        self._client: aiomqtt.Client | None = None
        self._connected = asyncio.Event()
        self._lost = asyncio.Event()
        self.connections = 0
        """How often this process was connected: a key that was commanded before the last time may be gone."""
        self._turns = Turns()
        self._waiting: tuple[str, asyncio.Future[Answer]] | None = None
        self._took_s: deque[float] = deque(maxlen=_REMEMBERED)

    @property
    def connected(self) -> bool:
        """Whether a command could be sent now."""
        return self._connected.is_set()

    async def serve(self, stopping: asyncio.Event) -> None:
        """Keep connected until `stopping`; raises only ConfigError, and Permanent for a CA file that is none."""
        attempt = 0
        while not stopping.is_set():
            started = time.monotonic()
            try:
                async with client(
                    self._url, "_registry", self._secret, self._client_id, ca_file=self._ca_file
                ) as connection:
                    await connection.subscribe(RESPONSE_TOPIC, qos=1)
                    self._up(connection)
                    await self._listen(connection, stopping)
                    return
            except aiomqtt.MqttError as error:
                # A connection that lasted counts as a success: the next attempt starts over.
                attempt = 0 if time.monotonic() - started > _BACKOFF.cap_s else attempt + 1
                delay_s = _BACKOFF.delay_s(attempt, random.random())  # noqa: S311 - jitter
                events.BrokerLost(str(error), round(delay_s, 3)).emit()
            finally:
                self._down()
            await _wait(stopping, delay_s)

    @asynccontextmanager
    async def alone(self) -> AsyncIterator[None]:
        """No command of this process is in flight or begins within the block: for a restart of the broker."""
        async with self._turns.turn(Lane.URGENT):
            yield

    async def connected_again(self, connections: int) -> None:
        """Returns once `connections` has grown beyond this number and a command could be sent."""
        while self.connections <= connections or not self.connected:
            await self._connected.wait()
            if self.connections <= connections:
                await self._lost.wait()

    async def command(self, command: Command, *, urgent: bool = False, patient: bool = False) -> Answer:
        """Send one command and wait for its answer.

        An urgent one goes before all others, without a pause: for what is to be cut off. A patient one gives
        way and waits for its turn as long as that takes: for what nobody waits for. The others have the deadline for
        their turn and their answer.

        Raises Transient if the broker is away or does not answer within the deadline; BrokerRefused if it says no.
        """
        assert not (urgent and patient)
        lane = Lane.URGENT if urgent else Lane.PATIENT if patient else Lane.ASKED
        started = time.monotonic()
        result = "timeout"
        try:
            async with asyncio.timeout(None if patient else self._deadline_s) as deadline, self._turns.turn(lane):
                if patient:
                    deadline.reschedule(asyncio.get_running_loop().time() + self._deadline_s)
                await self._connected.wait()
                started = time.monotonic()
                try:
                    answer = await self._exchange(command)
                finally:
                    self._took_s.append(time.monotonic() - started)
                    # The quickest of the last few: what the others took longer was waiting, not the broker's work.
                    self._turns.pause(min(min(self._took_s) * (1 / _SHARE - 1), _LONGEST_PAUSE_S))
            result = "refused" if answer.error else "done"
        except TimeoutError as error:
            raise Transient(f"the broker did not answer within {self._deadline_s:.0f} s", hint=_HINT) from error
        except aiomqtt.MqttError as error:
            result = "lost"
            raise Transient("the connection to the broker was lost", hint=_HINT) from error
        finally:
            events.BrokerCommanded(command.name, lane.name.lower(), result, time.monotonic() - started).emit()
        if answer.error:
            raise BrokerRefused(command.name, answer.error)
        return answer

    async def nudge(self, device_id: DeviceId) -> None:
        """Have this device or gateway ask the hub what changed for it. Best effort: it asks by itself, later."""
        connection = self._client
        if connection is not None:
            with suppress(aiomqtt.MqttError):
                await connection.publish(topics.build(topics.Channel.COMMANDS, device_id), topics.NUDGE, qos=1)

    async def _exchange(self, command: Command) -> Answer:
        assert self._client is not None
        correlation = secrets.token_hex(8)
        answer: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._waiting = (correlation, answer)
        try:
            await self._client.publish(COMMAND_TOPIC, command.encode(correlation), qos=1)
            return await answer
        finally:
            self._waiting = None

    async def _listen(self, connection: aiomqtt.Client, stopping: asyncio.Event) -> None:
        async def read() -> None:
            async for message in connection.messages:
                if isinstance(message.payload, bytes):
                    self._take(message.payload)

        reading = asyncio.ensure_future(read())
        stop = asyncio.ensure_future(stopping.wait())
        try:
            await asyncio.wait([reading, stop], return_when=asyncio.FIRST_COMPLETED)
        finally:
            stop.cancel()
            reading.cancel()
            results = await asyncio.gather(reading, stop, return_exceptions=True)
        if isinstance(results[0], Exception):
            raise results[0]

    def _take(self, payload: bytes) -> None:
        try:
            answers = decode_answers(payload)
        except msgspec.DecodeError as error:
            events.BrokerAnswerStrange(str(error)).emit()
            return
        for answer in answers:
            # An answer to a command that was given up has no one waiting.
            if self._waiting is not None and self._waiting[0] == answer.correlation and not self._waiting[1].done():
                self._waiting[1].set_result(answer)

    def _up(self, connection: aiomqtt.Client) -> None:
        self._client = connection
        self.connections += 1
        self._lost.clear()
        self._connected.set()
        events.BrokerConnected().emit()
        self._on_connect()

    def _down(self) -> None:
        self._connected.clear()
        self._lost.set()
        self._client = None
        if self._waiting is not None and not self._waiting[1].done():
            self._waiting[1].set_exception(aiomqtt.MqttError("the connection ended"))


async def _wait(stopping: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await stopping.wait()
    except TimeoutError:
        return
