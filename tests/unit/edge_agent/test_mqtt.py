"""Against a broker of a few bytes; against real Mosquitto: tests/stack/test_edge_mqtt.py."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest

from edge_agent import mqtt
from edge_agent.mqtt import Connection, Options
from shared.config import Secret
from shared.errors import Permanent, Transient

CONNECT, PUBLISH, SUBSCRIBE, DISCONNECT = 0x10, 0x30, 0x80, 0xE0


class Broker:
    """Speaks MQTT 5 as told. `connack`: reason and properties; `pubacks`: reason by order, None for silence."""

    def __init__(self, connack: tuple[int, bytes] | None = (0, b""), pubacks: tuple[int | None, ...] = ()) -> None:
        self.connack = connack
        self.pubacks = list(pubacks)
        self.suback = b"\x01"
        self.published: list[bytes] = []
        self.goodbye = asyncio.Event()
        self.port = 0
        self.writers: list[asyncio.StreamWriter] = []

    @property
    def url(self) -> str:
        return f"mqtt://127.0.0.1:{self.port}"

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.writers.append(writer)
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                head = (await reader.readexactly(1))[0]
                length = shift = 0
                while True:
                    byte = (await reader.readexactly(1))[0]
                    length |= (byte & 0x7F) << shift
                    shift += 7
                    if byte < 0x80:
                        break
                body = await reader.readexactly(length)
                self.answer(head & 0xF0, body, writer)
        writer.close()

    def answer(self, kind: int, body: bytes, writer: asyncio.StreamWriter) -> None:
        if kind == CONNECT and self.connack is not None:
            reason, properties = self.connack
            packet = bytes([0, reason, len(properties)]) + properties
            writer.write(bytes([0x20, len(packet)]) + packet)
        elif kind == PUBLISH:
            size = int.from_bytes(body[:2], "big")
            mid = body[2 + size : 4 + size]
            self.published.append(mid)
            reason = self.pubacks.pop(0) if self.pubacks else 0
            if reason is not None:
                writer.write(bytes([0x40, 4]) + mid + bytes([reason, 0]))
        elif kind == SUBSCRIBE:
            packet = body[:2] + b"\x00" + self.suback
            writer.write(bytes([0x90, len(packet)]) + packet)
        elif kind == DISCONNECT:
            self.goodbye.set()


@contextlib.asynccontextmanager
async def listening(broker: Broker) -> AsyncIterator[Broker]:
    server = await asyncio.start_server(broker.serve, "127.0.0.1", 0)
    broker.port = server.sockets[0].getsockname()[1]
    try:
        yield broker
    finally:
        server.close()
        for writer in broker.writers:
            writer.close()
        await server.wait_closed()


def to(broker: Broker, **changes) -> Connection:
    return Connection(Options(broker.url, "c1", **changes))


@pytest.mark.parametrize("reason", [0x00, 0x10, 0x80, 0x87, 0x97])
async def test_the_reason_code_of_a_puback_is_the_answer(reason):
    async with listening(Broker(pubacks=(reason,))) as broker, to(broker) as connection:
        assert await connection.publish("t", b"x") == reason


@pytest.mark.parametrize(
    ("reason", "kind"), [(0x86, Permanent), (0x87, Permanent), (0x88, Transient), (0x97, Transient)]
)
async def test_a_refused_connection_is_lasting_or_not(reason, kind):
    async with listening(Broker(connack=(reason, b""))) as broker:
        with pytest.raises(kind, match="refuses the connection"):
            async with to(broker):
                pass


async def test_no_more_is_in_flight_than_the_broker_allows():
    receive_maximum = b"\x21\x00\x03"
    silent = Broker(connack=(0, receive_maximum), pubacks=(None,) * 50)
    async with listening(silent) as broker, to(broker, inflight=100) as connection:
        for _ in range(10):
            connection.publish("t", b"x")
        broker.suback = b"\x01"
        await connection.subscribe("s")  # what was sent before has arrived when this is answered
        assert len(broker.published) == 3


async def test_a_refused_subscription_is_permanent():
    async with listening(Broker()) as broker, to(broker) as connection:
        broker.suback = b"\x87"
        with pytest.raises(Permanent, match="0x87"):
            await connection.subscribe("gateways/g/acks")


async def test_a_broker_that_says_nothing_is_given_up(monkeypatch):
    monkeypatch.setattr(mqtt, "_ANSWER_TIMEOUT_S", 0.2)
    async with listening(Broker(connack=None)) as broker:
        with pytest.raises(Transient, match="no connection"):
            async with to(broker):
                pass


async def test_nobody_listening_is_transient():
    async with listening(Broker()) as broker:
        pass
    with pytest.raises(Transient, match="no connection"):
        async with to(broker):
            pass


async def test_an_end_fails_all_that_waits_and_all_that_comes():
    async with listening(Broker(pubacks=(None,))) as broker, to(broker) as connection:
        puback = connection.publish("t", b"x")
        subscribed = asyncio.ensure_future(connection.receive())
        await connection.subscribe("s")
        for writer in broker.writers:
            writer.close()
        with pytest.raises(Transient):
            await asyncio.wait_for(puback, 10)
        with pytest.raises(Transient):
            await asyncio.wait_for(subscribed, 10)
        with pytest.raises(Transient):
            await connection.publish("t", b"y")
        with pytest.raises(Transient):
            await connection.subscribe("s")
        with pytest.raises(Transient):
            await connection.receive()


async def test_leaving_says_goodbye_so_that_the_will_is_not_published():
    async with listening(Broker()) as broker:
        async with to(broker) as connection:
            pass
        await asyncio.wait_for(broker.goodbye.wait(), 10)
        with pytest.raises(Transient, match=r"ended|closed"):
            await connection.receive()


@pytest.mark.parametrize("url", ["http://h:1", "h:1", "mqtt://", ""])
async def test_a_url_that_is_none_of_ours(url):
    with pytest.raises(Permanent, match="URL"):
        Connection(Options(url, "c1"))


def test_options_do_not_show_the_secret():
    assert "hidden" not in repr(Options("mqtt://h", "c", "u", Secret("hidden")))
