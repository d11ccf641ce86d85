"""The reader on aiomqtt, and the only file that knows what is inside it.

aiomqtt 2.5.1 acknowledges a message when it has queued it, before anybody saw it. So this file takes over the
receiving half of one connection: aiomqtt (and paho below it) connects, authenticates, subscribes, publishes and
keeps alive; the bytes that come are cut into packets by `packets`, published messages go straight to ingest, and
every other packet goes back to paho. PUBACKs are written only by `acknowledge`.

Both libraries are pinned; tests/stack/ingest/test_reader.py fails if an upgrade changes what is relied on here
(docs/adr/0061).
"""

import asyncio
import logging
import math
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, cast

import aiomqtt
from paho.mqtt.enums import MQTTErrorCode
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.subscribeoptions import SubscribeOptions

from control_plane.ingest.packets import MalformedError, Packet, Splitter, encode_pubacks
from control_plane.ingest.reader import READ_BYTES, Broker, ConnectFailed, Published, Receive, Session
from shared import tls
from shared.errors import Transient

_PUBACK = 0x40
_FOREVER = 0xFFFFFFFF
_DEFAULT_SERVER_RECEIVE_MAXIMUM = 65_535
_PUBLISH_LIMIT = 1_000
"""Our own bound of hub acknowledgements on the way, should the broker allow more."""

_LOGGER = logging.getLogger("control_plane.ingest.mqtt")
_LOGGER.setLevel(logging.CRITICAL)  # what it has to say comes to us as results and reasons


class AiomqttReader:
    """Connections by aiomqtt."""

    def connect(self, broker: Broker, receive: Receive, published: Published) -> AbstractAsyncContextManager[Session]:
        return _connect(broker, receive, published)


@asynccontextmanager
async def _connect(broker: Broker, receive: Receive, published: Published) -> AsyncIterator[Session]:
    properties: Any = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]  # paho's is untyped
    properties.SessionExpiryInterval = _FOREVER
    properties.ReceiveMaximum = broker.receive_maximum
    client = aiomqtt.Client(
        broker.host,
        broker.port,
        username=broker.username,
        password=str(broker.password),
        identifier=broker.client_id,
        protocol=aiomqtt.ProtocolVersion.V5,
        clean_start=False,
        properties=properties,
        tls_context=broker.tls,
        keepalive=broker.keepalive_s,
        timeout=broker.timeout_s,
        max_inflight_messages=_PUBLISH_LIMIT,
        logger=_LOGGER,
    )
    session = _Session(client, receive, published)
    try:
        await client.__aenter__()
    except aiomqtt.MqttError as error:
        session.cut_off()
        raise _connect_failed(error) from error
    except BaseException:
        session.cut_off()
        raise
    session.watch()
    try:
        yield session
    finally:
        session.closing = True
        try:
            # Raises only if the broker does not take our DISCONNECT; the connection is over either way.
            await client.__aexit__(None, None, None)
        except aiomqtt.MqttError as error:
            _LOGGER.debug("unclean disconnect: %s", error)
        finally:
            session.cut_off()


def _connect_failed(error: aiomqtt.MqttError) -> ConnectFailed:
    if isinstance(error, aiomqtt.MqttCodeError):
        return ConnectFailed("refused", str(error.rc))
    if "timed out" in str(error):
        return ConnectFailed("timeout", "the broker accepted the connection and said nothing")
    wrong = tls.trouble(error)
    if wrong is not None:
        return ConnectFailed("unreachable", ": ".join(word for word in wrong if word))
    return ConnectFailed("unreachable", str(error))


class _Session:
    """One connection. It becomes live when the CONNACK comes."""

    def __init__(self, client: aiomqtt.Client, receive: Receive, published: Published) -> None:
        self.session_present = False
        self.closing = False
        self._client = client
        self._paho = cast("Any", client._client)
        self._receive = receive
        self._published = published
        self._splitter = Splitter()
        self._publish_limit = _PUBLISH_LIMIT
        self._publishing: set[int] = set()
        self._loop = asyncio.get_running_loop()
        self._ended: asyncio.Future[str] = self._loop.create_future()
        self._paused = False
        self._aiomqtt_connected: Callable[..., None] = self._paho.on_connect
        self._aiomqtt_disconnected: Callable[..., None] = self._paho.on_disconnect
        self._paho.manual_ack_set(True)  # should paho ever see a message, it must not acknowledge it
        self._paho._packet_read = self._read
        self._paho.on_connect = self._connected
        self._paho.on_disconnect = self._disconnected
        self._paho.on_publish = self._puback
        self._paho.suppress_exceptions = False

    def watch(self) -> None:
        """Notice every end: what aiomqtt catches in its callbacks it tells only here."""
        self._client._disconnected.add_done_callback(self._client_ended)

    def _client_ended(self, disconnected: "asyncio.Future[None]") -> None:
        error = None if disconnected.cancelled() else disconnected.exception()
        self._end("disconnected" if error is None else repr(error))

    async def subscribe(self, filters: Sequence[str]) -> None:
        options = SubscribeOptions(qos=1, retainHandling=SubscribeOptions.RETAIN_DO_NOT_SEND)
        try:
            codes = await self._client.subscribe([(name, options) for name in filters], timeout=math.inf)
        except aiomqtt.MqttError as error:
            raise Transient(f"subscribing failed: {error}") from error
        granted = [getattr(code, "value", code) for code in codes]
        if granted != [1] * len(filters):
            raise Transient(f"the broker granted {granted} for {list(filters)}")

    def pause(self) -> None:
        sock = self._paho._sock
        if sock is not None and not self._paused:
            self._paused = True
            self._loop.remove_reader(sock.fileno())
            self._pretend_alive()

    def resume(self) -> None:
        if self._paused:
            self._paused = False
            sock = self._paho._sock
            if sock is not None:
                self._loop.add_reader(sock.fileno(), self._readable)

    def _pretend_alive(self) -> None:
        # The answers to paho's pings wait behind what is not read: without them it would end the connection.
        if self._paused and not self._ended.done():
            self._paho._last_bytes_received = time.monotonic()
            self._paho._ping_t = 0
            self._loop.call_later(1.0, self._pretend_alive)

    def _readable(self) -> None:
        """As aiomqtt's own callback, which is not within reach."""
        try:
            self._paho.loop_read()
        except Exception as error:  # noqa: BLE001 - ends the connection, whatever it is; `ended` tells it
            if not self._client._disconnected.done():
                self._client._disconnected.set_exception(error)

    def acknowledge(self, packet_ids: Sequence[int]) -> None:
        if packet_ids and not self._ended.done() and self._paho._sock is not None:
            self._paho._packet_queue(_PUBACK, encode_pubacks(packet_ids), 0, 1)

    def publish_room(self) -> int:
        return 0 if self._ended.done() else self._publish_limit - len(self._publishing)

    def publish(self, topic: str, payload: bytes) -> None:
        info = self._paho.publish(topic, payload, qos=1)
        if info.rc == MQTTErrorCode.MQTT_ERR_SUCCESS:
            self._publishing.add(info.mid)

    def tell(self, topic: str, payload: bytes) -> None:
        self._paho.publish(topic, payload, qos=0)

    async def ended(self) -> str:
        return await asyncio.shield(self._ended)

    def cut_off(self) -> None:
        """Close the socket if it is still open, and say so."""
        if self._paho._sock is not None:
            self._paho._sock_close()
        self._end("closed")

    def _end(self, why: str) -> None:
        if not self._ended.done():
            self._ended.set_result(why)

    def _connected(self, client: Any, userdata: Any, flags: Any, reason: Any, properties: Any = None) -> None:
        self.session_present = bool(flags.session_present)
        allowed = getattr(properties, "ReceiveMaximum", _DEFAULT_SERVER_RECEIVE_MAXIMUM)
        self._publish_limit = min(_PUBLISH_LIMIT, allowed)
        self._aiomqtt_connected(client, userdata, flags, reason, properties)

    def _disconnected(self, client: Any, userdata: Any, flags: Any, reason: Any, properties: Any = None) -> None:
        # Before aiomqtt's own: it keeps less of the reason.
        self._end(str(reason))
        self._aiomqtt_disconnected(client, userdata, flags, reason, properties)

    def _puback(self, client: Any, userdata: Any, mid: int, reason: Any, properties: Any) -> None:
        del client, userdata, properties
        if mid not in self._publishing:
            return  # what was told with QoS 0 is reported once it is written, and nobody waits for it
        self._publishing.discard(mid)
        self._published(int(getattr(reason, "value", 0)))

    def _read(self) -> MQTTErrorCode:
        """In place of paho's `_packet_read`: all that the socket has, not one byte after another."""
        try:
            data = self._paho._sock_recv(READ_BYTES)
        except BlockingIOError:
            return MQTTErrorCode.MQTT_ERR_AGAIN
        except OSError:
            return MQTTErrorCode.MQTT_ERR_CONN_LOST
        if not data:
            return MQTTErrorCode.MQTT_ERR_CONN_LOST
        self._paho._last_bytes_received = time.monotonic()
        try:
            messages, packets = self._splitter.feed(data)
        except MalformedError:
            return MQTTErrorCode.MQTT_ERR_PROTOCOL
        if messages and not self.closing:
            self._receive(messages)
        for packet in packets:
            code = self._hand_to_paho(packet)
            if code != MQTTErrorCode.MQTT_ERR_SUCCESS:
                return code
        return MQTTErrorCode.MQTT_ERR_SUCCESS

    def _hand_to_paho(self, packet: Packet) -> MQTTErrorCode:
        incoming = self._paho._in_packet
        incoming["command"] = packet.head
        incoming["packet"] = bytearray(packet.body)
        incoming["remaining_length"] = len(packet.body)
        incoming["pos"] = 0
        try:
            code: MQTTErrorCode = self._paho._packet_handle()
        finally:
            incoming["command"] = 0
        return code
