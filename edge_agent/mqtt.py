"""The agent's door to MQTT 5, and the only file on this side that imports aiomqtt and paho.

Promises, where the libraries promise less (docs/adr/0032):
- An incoming QoS 1 message is acknowledged to the broker only by `Connection.ack`, never by being queued.
- `Connection.publish` yields the PUBACK's reason code, whatever it is; judging it is the caller's part.
- Every connection is a fresh client with an empty queue: nothing of an earlier one is replayed or acknowledged.

Leaves reconnecting, its pace and all queues that survive to the callers. One `Connection` is used from one
event loop.
"""

import asyncio
import contextlib
import socket
import ssl
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

import aiomqtt
import paho.mqtt.client as paho
from aiomqtt.exceptions import MqttConnectError
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.subscribeoptions import SubscribeOptions

from shared import tls
from shared.config import Secret
from shared.errors import Permanent, Transient

NO_MATCHING_SUBSCRIBERS = 0x10
"""A PUBACK reason that counts as success in the protocol: the broker took the message for nobody."""
REFUSED_FROM = 0x80
"""PUBACK reasons from here on are refusals."""

_ANSWER_TIMEOUT_S = 20.0
_LARGE_BYTES = 4_096
_NO_EXPIRY = 0xFFFFFFFF
_PORTS = {"mqtt": 1883, "mqtts": 8883}
_LASTING = frozenset({0x81, 0x82, 0x84, 0x85, 0x86, 0x87, 0x8A, 0x8C, 0x90, 0x95, 0x9D})
"""CONNACK reasons that waiting does not mend (MQTT 5, 3.2.2.2): a person must act."""


_BAD_KEY = frozenset({0x86, 0x87})
"""CONNACK reasons of a user name or password that the broker does not take."""


class KeyRefused(Permanent):
    """The broker does not take the user name with this password, under this client id."""


@dataclass(frozen=True, slots=True)
class Will:
    """What the broker says for us if the connection breaks, retained and at QoS 1."""

    topic: str
    payload: bytes


@dataclass(frozen=True, slots=True)
class Options:
    """One connection's settings. `ca_file`, `cert_file`, `cert_key_file`: PEM, for mqtts alone.

    `url`: mqtt://host:port or mqtts://host:port. `session`: keep the broker's session for ever (intake) or start
    clean (uplink). `receive_maximum`: how many QoS 1 messages the broker may send unacknowledged; the only bound
    on what waits in memory. `inflight`: how many publishes may await their PUBACK; the rest waits here, in order.
    """

    url: str
    client_id: str
    username: str | None = None
    password: Secret | None = field(default=None, repr=False)
    session: bool = False
    receive_maximum: int = 1_000
    inflight: int = 256
    keepalive_s: int = 30
    will: Will | None = None
    ca_file: str | None = None
    cert_file: str | None = None
    cert_key_file: str | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Incoming:
    """A message that came. It is the broker's to send again until `Connection.ack` was called with it.

    `retained`: a copy that the broker kept, sent because we subscribed; nobody published it just now.
    """

    topic: str
    payload: bytes
    redelivered: bool
    user_properties: tuple[tuple[str, str], ...]
    mid: int = field(repr=False)
    qos: int = field(repr=False)
    connection: "Connection" = field(repr=False)
    retained: bool = False

    def spent(self) -> "Incoming":
        """The message without a large payload: what is left is enough to acknowledge it."""
        return self if len(self.payload) <= _LARGE_BYTES else replace(self, payload=b"")


class Connection:
    """One connection, from `async with` to its end. Once broken, every call raises Transient."""

    def __init__(self, options: Options) -> None:
        """Nothing is sent before `async with`. Raises Permanent if the URL is none of ours."""
        parts = urlsplit(options.url)
        if parts.scheme not in _PORTS or not parts.hostname:
            raise Permanent(f"{parts.scheme or 'an empty'} URL where MQTT's belongs", hint="write mqtt://host:port")
        self._options = options
        self._host = parts.hostname
        self._port = parts.port or _PORTS[parts.scheme]
        self._tls = parts.scheme == "mqtts"
        self._client: aiomqtt.Client | None = None
        self._session_present = False
        self._inbox: deque[Incoming] = deque()
        self._arrived = asyncio.Event()
        self._pubacks: dict[int, asyncio.Future[int]] = {}
        self._subacks: dict[int, asyncio.Future[list[int]]] = {}
        self._broken: Transient | None = None
        self._loop = asyncio.get_running_loop()

    async def __aenter__(self) -> Self:
        """Connect. Raises Transient, or Permanent where the broker's reason is one that waiting does not mend."""
        assert self._client is None, "a Connection connects once"
        self._client = client = self._build()
        try:
            await client.__aenter__()
        except MqttConnectError as error:
            self._close_socket()
            code = _code(error.rc)
            kind = KeyRefused if code in _BAD_KEY else Permanent if code in _LASTING else Transient
            raise kind(f"the broker refuses the connection: {error.rc} ({code:#04x})") from error
        except (aiomqtt.MqttError, OSError, ValueError) as error:
            self._close_socket()
            wrong = tls.trouble(error)
            if wrong is not None:
                raise Transient(f"no TLS with the broker: {wrong[0]}", hint=wrong[1]) from error
            raise Transient(f"no connection to the broker: {error}") from error
        except BaseException:
            self._close_socket()
            raise
        if not client._client.is_connected():
            self._close_socket()
            raise Transient("the broker closed the connection at once")
        client._disconnected.add_done_callback(self._on_end)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Say goodbye if the connection still stands, so that the will is not published."""
        assert self._client is not None
        try:
            # A broker that no longer answers must not hold us, and a failed goodbye changes nothing.
            with contextlib.suppress(aiomqtt.MqttError, OSError, ValueError):
                await self._client.__aexit__(None, None, None)
        finally:
            self._close_socket()
            self._end(Transient("the connection is closed"))

    @property
    def session_present(self) -> bool:
        """True if the broker still had this client's session, with its subscriptions and waiting messages."""
        return self._session_present

    @property
    def waiting(self) -> int:
        """How many messages came and were not yet taken by `receive`."""
        return len(self._inbox)

    async def subscribe(self, *filters: str, retained_again: bool = False) -> None:
        """Subscribe at QoS 1. Raises Permanent if the broker refuses a filter, Transient if it does not answer.

        Retained messages come with a subscription that is new to the broker, and with one that the session had only
        if `retained_again`: else every reconnect would bring what a device retained as though it were said anew.
        """
        client = self._live()
        suback: asyncio.Future[list[int]] = self._loop.create_future()
        options = SubscribeOptions(qos=1, retainHandling=0 if retained_again else 1)
        error, mid = client._client.subscribe([(name, options) for name in filters])
        if error != paho.MQTT_ERR_SUCCESS or mid is None:
            raise Transient(f"subscribing failed: {paho.error_string(error)}")
        self._subacks[mid] = suback
        try:
            granted = await asyncio.wait_for(suback, _ANSWER_TIMEOUT_S)
        except TimeoutError:
            raise Transient(f"the broker did not answer a subscription within {_ANSWER_TIMEOUT_S:.0f} s") from None
        for name, code in zip(filters, granted, strict=True):
            if code >= REFUSED_FROM:
                raise Permanent(f"the broker refuses the subscription to …/{name.rsplit('/', 1)[-1]} ({code:#04x})")

    async def receive(self, limit: int = 1_000) -> list[Incoming]:
        """At least one message, at most `limit`, in order of receipt; waits for the first."""
        while not self._inbox:
            self._live()
            self._arrived.clear()
            await self._arrived.wait()
        return [self._inbox.popleft() for _ in range(min(limit, len(self._inbox)))]

    def ack(self, message: Incoming) -> bool:
        """Send the PUBACK; in order of receipt (MQTT-4.6.0-2) is the caller's duty. QoS 0 needs none.

        False, and nothing sent, if the message came by another connection or this one has ended: the broker will
        deliver it again. Message ids are used again by the next connection, so a late ack must not reach it.
        """
        if message.connection is not self or self._broken is not None or self._client is None:
            return False
        return message.qos == 0 or self._client._client.ack(message.mid, message.qos) == paho.MQTT_ERR_SUCCESS

    def publish(
        self,
        topic: str,
        payload: bytes,
        *,
        retain: bool = False,
        user_properties: Sequence[tuple[str, str]] = (),
        content_type: str | None = None,
    ) -> asyncio.Future[int]:
        """Send at QoS 1, in order of the calls; the future is the PUBACK's reason code (0: taken; 0x10: taken for
        nobody; >= 0x80: refused). It fails with Transient when the connection ends first, and says nothing more.
        """
        puback: asyncio.Future[int] = self._loop.create_future()
        # Not every caller waits: an end that nobody asked about is no "exception was never retrieved".
        puback.add_done_callback(_look_at)
        if self._broken is not None or self._client is None:
            puback.set_exception(self._broken or Transient("not connected"))
            return puback
        properties = _properties(PacketTypes.PUBLISH)
        if user_properties:
            properties.UserProperty = list(user_properties)
        if content_type is not None:
            properties.ContentType = content_type
        # Straight to paho: aiomqtt's publish() hides the reason code and costs a task per message.
        info = self._client._client.publish(topic, payload, 1, retain, properties)
        if info.rc != paho.MQTT_ERR_SUCCESS:
            puback.set_exception(Transient(f"publishing failed: {paho.error_string(info.rc)}"))
        else:
            self._pubacks[info.mid] = puback
        return puback

    def _build(self) -> aiomqtt.Client:
        options = self._options
        properties = _properties(PacketTypes.CONNECT)
        properties.ReceiveMaximum = options.receive_maximum
        if options.session:
            properties.SessionExpiryInterval = _NO_EXPIRY
        will = options.will
        client = aiomqtt.Client(
            self._host,
            self._port,
            identifier=options.client_id,
            username=options.username,
            password=options.password,
            protocol=aiomqtt.ProtocolVersion.V5,
            clean_start=not options.session,
            properties=properties,
            keepalive=options.keepalive_s,
            max_inflight_messages=options.inflight,
            will=None if will is None else aiomqtt.Will(will.topic, will.payload, 1, retain=True),
            tls_context=self._trust(),
            timeout=_ANSWER_TIMEOUT_S,
            socket_options=[(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)],
        )
        inner = client._client
        inner.manual_ack_set(True)
        inner.on_connect = self._on_connect
        inner.on_message = self._on_message
        inner.on_publish = self._on_publish
        inner.on_subscribe = self._on_subscribe
        inner.on_socket_register_write = self._on_register_write
        return client

    def _trust(self) -> ssl.SSLContext | None:
        """Read anew for each connection: a renewed certificate or another CA is used from the next one on."""
        options = self._options
        return tls.client_context(options.ca_file, options.cert_file, options.cert_key_file) if self._tls else None

    def _live(self) -> aiomqtt.Client:
        if self._broken is not None:
            raise Transient(*self._broken.args)
        assert self._client is not None, "used outside `async with`"
        return self._client

    def _on_connect(self, client: paho.Client, userdata: Any, flags: Any, reason: Any, properties: Any) -> None:
        self._session_present = bool(flags.session_present)
        # paho does not honour the broker's own Receive Maximum; breaking it ends the connection (3.3.4-9).
        allowed = getattr(properties, "ReceiveMaximum", None)
        if allowed is not None:
            client._max_inflight_messages = min(client._max_inflight_messages, allowed)
        assert self._client is not None
        self._client._on_connect(client, userdata, flags, reason, properties)

    def _on_message(self, _client: paho.Client, _userdata: Any, message: paho.MQTTMessage) -> None:
        pairs = getattr(message.properties, "UserProperty", ())
        self._inbox.append(
            Incoming(
                message.topic,
                bytes(message.payload),
                message.dup,
                tuple(pairs),
                message.mid,
                message.qos,
                self,
                message.retain,
            )
        )
        self._arrived.set()

    def _on_publish(self, _client: paho.Client, _userdata: Any, mid: int, reason: Any, _properties: Any) -> None:
        puback = self._pubacks.pop(mid, None)
        if puback is not None and not puback.done():
            puback.set_result(int(reason.value))

    def _on_subscribe(self, _client: paho.Client, _userdata: Any, mid: int, reasons: Any, _properties: Any) -> None:
        suback = self._subacks.pop(mid, None)
        if suback is not None and not suback.done():
            suback.set_result([_code(reason) for reason in reasons])

    def _on_register_write(self, _client: paho.Client, _userdata: Any, sock: Any) -> None:
        # paho calls this from a thread while it connects. aiomqtt's own version fails on a socket that was closed
        # before the loop came to it.
        self._loop.call_soon_threadsafe(self._watch_writable, sock)

    def _watch_writable(self, sock: Any) -> None:
        if sock.fileno() >= 0 and self._client is not None and self._client._client.want_write():
            self._loop.add_writer(sock.fileno(), self._write)

    def _write(self) -> None:
        assert self._client is not None
        try:
            self._client._client.loop_write()
        except OSError as error:
            self._end(Transient(f"the connection broke: {error}"))

    def _on_end(self, ended: asyncio.Future[None]) -> None:
        error = None if ended.cancelled() else ended.exception()
        self._end(Transient(f"the connection broke: {error}" if error else "the connection ended"))

    def _end(self, why: Transient) -> None:
        if self._broken is not None:
            return
        self._broken = why
        self._arrived.set()
        waiting: list[asyncio.Future[Any]] = [*self._pubacks.values(), *self._subacks.values()]
        for answer in waiting:
            if not answer.done():
                answer.set_exception(why)
        self._pubacks.clear()
        self._subacks.clear()

    def _close_socket(self) -> None:
        # After a timeout aiomqtt leaves paho's socket open, with its reader in the loop.
        assert self._client is not None
        self._client._client._reset_sockets()


def _look_at(puback: asyncio.Future[int]) -> None:
    if not puback.cancelled():
        puback.exception()


def _code(reason: Any) -> int:
    return int(getattr(reason, "value", reason))


def _properties(packet: int) -> Properties:
    return Properties(packet)  # type: ignore[no-untyped-call]  # paho leaves its constructor untyped
