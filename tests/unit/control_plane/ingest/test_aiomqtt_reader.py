"""The reader against a scripted broker: what goes over the wire. On a real broker: tests/stack/ingest."""

import asyncio
from contextlib import asynccontextmanager

import pytest

from control_plane.ingest.aiomqtt_reader import AiomqttReader
from control_plane.ingest.reader import Broker, ConnectFailed
from shared.config import Secret
from shared.errors import Transient

CONNACK = b"\x20\x03\x00\x00\x00"
PUBLISH = b"\x32\x08\x00\x01t\x00\x05\x00ab"  # packet id 5, payload "ab"


class Script:
    """A broker that answers as told, and keeps what it was sent."""

    def __init__(self, connack=CONNACK, suback=None):
        self.connack, self.suback = connack, suback
        self.packets = []
        self.came = asyncio.Condition()

    @asynccontextmanager
    async def running(self):
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        async with server:
            self.port = server.sockets[0].getsockname()[1]
            yield self
            self.writer.close()

    async def _serve(self, reader, writer):
        self.writer = writer
        try:
            while True:
                head, length = await reader.readexactly(2)
                assert length < 0x80
                body = await reader.readexactly(length)
                async with self.came:
                    self.packets.append((head, body))
                    self.came.notify_all()
                if head == 0x10:
                    writer.write(self.connack)
                elif head == 0x82 and self.suback is not None:
                    writer.write(b"\x90" + bytes([len(self.suback) + 3]) + body[:2] + b"\x00" + self.suback)
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    async def packet(self, head):
        """The first packet of this kind."""

        def found():
            return [body for kind, body in self.packets if kind == head]

        async with asyncio.timeout(5), self.came:
            await self.came.wait_for(found)
        return found()[0]


def connect(script, receive=lambda _: None, published=lambda _: None):
    broker = Broker("127.0.0.1", script.port, "_ingest-0", "_ingest", Secret("pw"), 2_000)
    return AiomqttReader().connect(broker, receive, published)


async def test_the_connect_keeps_the_session_and_says_the_receive_maximum():
    async with Script().running() as script, connect(script) as session:
        body = await script.packet(0x10)
        assert body[:6] == b"\x00\x04MQTT"
        assert body[6] == 5
        assert body[7] & 0x02 == 0, "clean start"
        length = body[10]
        properties = body[11 : 11 + length]
        assert b"\x11\xff\xff\xff\xff" in properties  # session expiry: never
        assert b"\x21\x07\xd0" in properties  # Receive Maximum 2000
        assert not session.session_present


async def test_nothing_is_acknowledged_but_by_acknowledge():
    messages = []
    async with Script().running() as script, connect(script, messages.extend) as session:
        script.writer.write(PUBLISH + PUBLISH[:6] + b"\x09" + PUBLISH[7:])
        async with asyncio.timeout(5):
            while len(messages) < 2:
                await asyncio.sleep(0)
        session.publish("x", b"")
        await script.packet(0x32)
        assert all(head != 0x40 for head, _ in script.packets)
        session.acknowledge([5, 6])
        session.acknowledge([])
        await script.packet(0x40)
        session.publish("y", b"")
        async with asyncio.timeout(5), script.came:
            await script.came.wait_for(lambda: sum(head == 0x32 for head, _ in script.packets) == 2)
        assert [body for head, body in script.packets if head == 0x40] == [b"\x00\x05", b"\x00\x06"]
    assert [message.payload for message in messages] == [b"ab", b"ab"]


async def test_no_more_is_published_at_once_than_the_broker_takes():
    connack = b"\x20\x06\x00\x00\x03\x21\x00\x03"  # Receive Maximum 3
    codes = []
    async with Script(connack).running() as script, connect(script, published=codes.append) as session:
        assert session.publish_room() == 3
        session.publish("x", b"1")
        assert session.publish_room() == 2
        body = await script.packet(0x32)
        script.writer.write(b"\x40\x04" + body[3:5] + b"\x10\x00")
        async with asyncio.timeout(5):
            while not codes:
                await asyncio.sleep(0)
        assert codes == [0x10]
        assert session.publish_room() == 3


async def test_a_present_session_is_told():
    async with Script(b"\x20\x03\x01\x00\x00").running() as script, connect(script) as session:
        assert session.session_present


@pytest.mark.parametrize("suback", [b"\x01\x87", b"\x00\x01", b"\x01"])
async def test_a_subscription_that_is_not_granted(suback):
    async with Script(suback=suback).running() as script, connect(script) as session:
        with pytest.raises(Transient, match="granted"):
            await session.subscribe(["a", "b"])


async def test_a_subscription_that_is_granted():
    async with Script(suback=b"\x01\x01").running() as script, connect(script) as session:
        await session.subscribe(["a", "b"])
        body = await script.packet(0x82)
        # QoS 1, retained messages not wanted (retain handling 2)
        assert body[2:] == b"\x00" + b"\x00\x01a\x21" + b"\x00\x01b\x21"


async def test_a_refused_connect():
    script = Script(b"\x20\x03\x00\x87\x00")
    async with script.running():
        with pytest.raises(ConnectFailed) as error:
            async with connect(script):
                pass
    assert error.value.kind == "refused"
    assert "pw" not in str(error.value)


async def test_bytes_that_are_no_mqtt_end_the_connection():
    async with Script().running() as script, connect(script) as session:
        script.writer.write(b"\x32\x02\x00\x09" + b"\x00" * 20)
        assert await asyncio.wait_for(session.ended(), 5)


async def test_a_bug_in_the_receiver_ends_the_connection_and_is_told():
    def broken(_messages):
        raise AssertionError("a bug")

    async with Script().running() as script, connect(script, broken) as session:
        script.writer.write(PUBLISH)
        assert "a bug" in await asyncio.wait_for(session.ended(), 5)


async def test_a_broker_that_says_why_it_ends_the_connection():
    async with Script().running() as script, connect(script) as session:
        script.writer.write(b"\xe0\x01\x8e")
        assert "taken over" in await asyncio.wait_for(session.ended(), 5)
        assert session.publish_room() == 0
        session.acknowledge([1])  # harmless
        session.resume()
