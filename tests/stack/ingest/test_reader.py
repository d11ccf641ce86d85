"""What every reader promises, on a real broker."""

import asyncio
import socket
import struct

import pytest

from control_plane.ingest.aiomqtt_reader import AiomqttReader
from control_plane.ingest.bridge import FILTERS
from control_plane.ingest.reader import Broker, ConnectFailed
from deploy.bench.mqtt_load import publish
from shared.config import Secret
from tests.stack.hub_process import until

pytestmark = pytest.mark.stack


class Reading:
    """A reader's connection, and what came by it."""

    def __init__(self, broker, **changes):
        self.broker = Broker(
            **{
                "host": "127.0.0.1", "port": broker.port, "client_id": "_ingest-7", "username": "_ingest",
                "password": Secret(broker.password), "receive_maximum": 100,
            } | changes
        )  # fmt: skip
        self.messages = []
        self.published = []

    def connect(self):
        return AiomqttReader().connect(self.broker, self.messages.extend, self.published.append)

    async def have(self, count):
        await until(lambda: len(self.messages) >= count, f"{count} messages")

    @property
    def payloads(self):
        return [message.payload for message in self.messages]


def numbered(number):
    return b"", b"%d" % number


async def send(broker, count, client=0, make=numbered):
    (outcome,) = await publish("127.0.0.1", broker.port, [(broker.devices[client], make)], count=count)
    assert outcome.taken == count
    return outcome


async def quiet(reading, session):
    """Until all has come that the broker had to send: the answer to a publish comes behind it."""
    answers = len(reading.published)
    session.publish("gateways/nobody/acks", b"")
    await until(lambda: len(reading.published) > answers, "an answer")


async def settled(broker):
    """A session in place."""
    async with Reading(broker).connect() as session:
        await session.subscribe(FILTERS)


async def test_what_was_not_acknowledged_comes_again_and_only_that(broker):
    await settled(broker)
    await send(broker, 5)
    first = Reading(broker)
    async with first.connect() as session:
        assert session.session_present
        await first.have(5)
        session.acknowledge([message.packet_id for message in first.messages[:3]])
    again = Reading(broker)
    async with again.connect() as session:
        await again.have(2)
        await quiet(again, session)
    assert first.payloads == [b"0", b"1", b"2", b"3", b"4"]
    assert again.payloads == [b"3", b"4"]


async def test_the_first_session_is_absent_and_then_present(broker):
    for present in (False, True):
        async with Reading(broker).connect() as session:
            assert session.session_present is present


async def test_receive_maximum_is_held_while_nothing_is_acknowledged(broker):
    await settled(broker)
    await send(broker, 250)
    reading = Reading(broker)
    async with reading.connect() as session:
        await quiet(reading, session)
        assert len(reading.messages) == 100
        session.acknowledge([message.packet_id for message in reading.messages])
        await reading.have(200)
    assert reading.payloads == [b"%d" % number for number in range(len(reading.messages))]


async def test_a_session_that_is_taken_over_ends(broker):
    async with Reading(broker).connect() as old, Reading(broker).connect() as new:
        await asyncio.wait_for(old.ended(), 10)
        old.acknowledge([1])  # too late, and harmless
        assert old.publish_room() == 0
        assert new.publish_room() > 0


async def test_a_killed_broker_ends_the_connection(broker):
    async with Reading(broker).connect() as session:
        broker.server.kill()
        assert await asyncio.wait_for(session.ended(), 10)
    with pytest.raises(ConnectFailed) as error:
        async with Reading(broker).connect():
            pass
    assert error.value.kind == "unreachable"


async def test_a_wrong_password_is_refused(broker):
    with pytest.raises(ConnectFailed) as error:
        async with Reading(broker, password=Secret("wrong")).connect():
            pass
    assert error.value.kind == "refused"


async def test_a_server_that_says_nothing_is_a_timeout(broker):
    with socket.create_server(("127.0.0.1", 0)) as silent, pytest.raises(ConnectFailed) as error:
        async with Reading(broker, port=silent.getsockname()[1], timeout_s=0.2).connect():
            pass
    assert error.value.kind == "timeout"


async def test_paused_beyond_the_keepalive_it_stays_connected_and_loses_nothing(broker):
    await settled(broker)
    reading = Reading(broker, keepalive_s=2)
    async with reading.connect() as session:
        session.pause()
        session.pause()
        await send(broker, 50)
        ending = asyncio.ensure_future(session.ended())
        # The broker gives up on who is silent for one and a half keepalives, 3 s, and looks each second.
        done, _ = await asyncio.wait({ending}, timeout=4.5)
        assert not done
        assert reading.messages == []
        session.resume()
        await reading.have(50)
        assert not ending.done()
        ending.cancel()
    assert reading.payloads == [b"%d" % number for number in range(50)]


async def test_properties_arrive_as_they_were_sent(broker):
    """U+FEFF is what the library's own decoder refuses, for ever again: the broker lets it pass."""
    packed = b"\x26" + struct.pack("!H", 5) + b"epoch" + struct.pack("!H", 3) + "\ufeff".encode() + b"\x03\x00\x03a/b"
    await settled(broker)
    await send(broker, 1, make=lambda _: (packed, b"x"))
    reading = Reading(broker)
    async with reading.connect():
        await reading.have(1)
    assert reading.messages[0].properties == ((b"epoch", b"\xef\xbb\xbf"),)
    assert reading.messages[0].content_type == b"a/b"
    assert reading.messages[0].topic == broker.devices[0].topic.encode()


async def test_the_largest_message_that_the_broker_takes(broker):
    payload = bytes(range(256)) * 7_800
    await settled(broker)
    await send(broker, 1, make=lambda _: (b"", payload))
    reading = Reading(broker)
    async with reading.connect():
        await reading.have(1)
    assert reading.payloads == [payload]


async def test_publishing_says_what_became_of_it(broker):
    reading = Reading(broker)
    gateway = broker.gateways[0]
    async with reading.connect() as session, broker.client(gateway) as agent:
        await agent.subscribe(f"gateways/{gateway.client_id}/acks", 1)
        room = session.publish_room()
        session.publish(f"gateways/{gateway.client_id}/acks", b"one")
        assert session.publish_room() == room - 1
        await until(lambda: len(reading.published) == 1, "an answer")
        session.publish(f"gateways/{broker.gateways[1].client_id}/acks", b"two")
        session.publish("devices/not-allowed/telemetry", b"three")
        await until(lambda: len(reading.published) == 3, "answers")
        received = await anext(aiter(agent.messages))
        assert (received.payload, received.qos, received.retain) == (b"one", 1, False)
    assert reading.published == [0, 0x10, 0x87]
    assert session.publish_room() == 0  # closed by now


async def test_thousands_of_publishes_are_all_answered(broker):
    reading = Reading(broker)
    async with reading.connect() as session:
        sent = 0
        while sent < 3_000:
            for _ in range(min(session.publish_room(), 3_000 - sent)):
                session.publish(f"gateways/{broker.gateways[0].client_id}/acks", b"%d" % sent)
                sent += 1
            await asyncio.sleep(0)
        await until(lambda: len(reading.published) == 3_000, "answers")
    assert set(reading.published) == {0x10}


async def test_nothing_comes_back_after_the_end(broker):
    """Messages that the socket still held are not handed over once the connection is being closed."""
    await settled(broker)
    reading = Reading(broker)
    async with reading.connect():
        await send(broker, 20)
        await reading.have(20)
    count = len(reading.messages)
    await send(broker, 20)
    assert len(reading.messages) == count


async def test_what_is_told_arrives_unretained_and_nobody_answers_for_it(broker):
    reading = Reading(broker)
    device = broker.devices[0]
    topic = f"devices/{device.client_id}/notices"
    async with reading.connect() as session, broker.client(device) as listening:
        await listening.subscribe(topic, 1)
        session.tell(topic, b"slow down")
        message = await anext(aiter(listening.messages))
        assert (str(message.topic), message.payload, message.qos, message.retain) == (topic, b"slow down", 0, False)
        await quiet(reading, session)
        assert len(reading.published) == 1, "of what was published alone"
