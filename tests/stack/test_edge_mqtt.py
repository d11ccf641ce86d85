"""The agent's MQTT connection against real Mosquitto. An upgrade of aiomqtt or paho that breaks manual
acknowledgement or hides reason codes fails here.
"""

import asyncio
import secrets
import socket
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from deploy.stack import LocalBroker, host
from deploy.stack.mosquitto import Mosquitto
from edge_agent.intake import DROPPED
from edge_agent.mqtt import NO_MATCHING_SUBSCRIBERS, Connection, Incoming, Options, Will
from shared.config import Secret
from shared.dynsec_document import SALT_BYTES, BrokerClient, hash_secret
from shared.errors import Permanent, Transient

pytestmark = pytest.mark.stack

TOPIC = "devices/d1/telemetry"


def intake(broker: LocalBroker, **changes) -> Connection:
    return Connection(Options(broker.url, "intake", session=True, **changes))


@pytest.fixture
async def device(local_broker: LocalBroker) -> AsyncIterator[Connection]:
    async with Connection(Options(local_broker.url, "device")) as connection:
        yield connection


async def receive(connection: Connection, count: int) -> list[Incoming]:
    found: list[Incoming] = []
    async with asyncio.timeout(10):
        while len(found) < count:
            found += await connection.receive()
    return found


async def test_what_is_not_acked_comes_again_and_what_is_acked_does_not(local_broker, device):
    async with intake(local_broker) as first:
        assert not first.session_present
        await first.subscribe("devices/+/telemetry")
        for number in range(5):
            assert await device.publish(TOPIC, b"%d" % number) == 0
        got = await receive(first, 5)
        assert [message.payload for message in got] == [b"0", b"1", b"2", b"3", b"4"]
        assert all(first.ack(message) for message in got[:2])
        await device_round_trip(first)
    async with intake(local_broker) as second:
        assert second.session_present
        again = await receive(second, 3)
        assert [message.payload for message in again] == [b"2", b"3", b"4"]
        assert all(message.redelivered for message in again)


async def device_round_trip(connection: Connection) -> None:
    """The PUBACKs sent before are with the broker once it has answered something sent after them."""
    await connection.publish("nobody/listens", b"")


async def test_an_ack_of_an_earlier_connection_reaches_nobody(local_broker, device):
    async with intake(local_broker) as first:
        await first.subscribe("devices/+/telemetry")
        await device.publish(TOPIC, b"one")
        late = (await receive(first, 1))[0]
    async with intake(local_broker) as second:
        assert not second.ack(late)
        await device_round_trip(second)
    assert not second.ack(late)
    async with intake(local_broker) as third:
        assert (await receive(third, 1))[0].payload == b"one"


async def test_receive_maximum_bounds_what_waits_unacknowledged(local_broker, device):
    async with intake(local_broker, receive_maximum=7) as connection:
        await connection.subscribe("devices/+/telemetry")
        await asyncio.gather(*(device.publish(TOPIC, b"%d" % number) for number in range(30)))
        got = await receive(connection, 7)
        await device_round_trip(connection)
        assert len(got) == 7
        assert connection.waiting == 0
        assert connection.ack(got[0])
        assert (await receive(connection, 1))[0].payload == b"7"


async def test_what_was_retained_comes_with_the_first_subscription_and_not_with_each_reconnect(local_broker, device):
    """It came again each time, and was stored again once it was older than what intake remembers."""
    await device.publish(TOPIC, b"kept", retain=True)
    async with intake(local_broker) as first:
        await first.subscribe("devices/+/telemetry")
        (kept,) = await receive(first, 1)
        assert (kept.payload, kept.retained) == (b"kept", True)
        assert first.ack(kept)
        await device.publish(TOPIC, b"said while we listen", retain=True)
        (said,) = await receive(first, 1)
        assert not said.retained
        assert first.ack(said)
        await device_round_trip(first)
    async with intake(local_broker) as second:
        await second.subscribe("devices/+/telemetry")
        await device.publish(TOPIC, b"new")
        assert [message.payload for message in await receive(second, 1)] == [b"new"]
    async with intake(local_broker) as third:
        await third.subscribe("devices/+/telemetry", retained_again=True)
        assert {message.payload for message in await receive(third, 2)} == {b"new", b"said while we listen"}


async def test_the_broker_tells_what_it_dropped_at_each_connect(local_broker):
    for _ in range(2):
        async with intake(local_broker) as connection:
            await connection.subscribe(DROPPED, retained_again=True)
            (told,) = await receive(connection, 1)
            assert (told.payload, told.retained) == (b"0", True)
            assert connection.ack(told)
            await device_round_trip(connection)


async def test_a_batchs_properties_arrive_and_nobody_listening_is_told(local_broker, device):
    assert await device.publish("gateways/g/batches", b"x") == NO_MATCHING_SUBSCRIBERS
    async with intake(local_broker) as connection:
        await connection.subscribe("gateways/+/batches")
        pairs = [("epoch", "e"), ("number", "1")]
        assert await device.publish("gateways/g/batches", b"x", user_properties=pairs, content_type="a/b") == 0
        assert (await receive(connection, 1))[0].user_properties == tuple(pairs)


async def test_many_publishes_at_once_keep_their_order(local_broker, device):
    async with intake(local_broker, receive_maximum=5_000) as connection:
        await connection.subscribe("devices/+/telemetry")
        codes = await asyncio.gather(*(device.publish(TOPIC, b"%d" % number) for number in range(2_000)))
        assert set(codes) == {0}
        got = await receive(connection, 2_000)
        assert [int(message.payload) for message in got] == list(range(2_000))


async def test_a_killed_broker_fails_what_waits(local_broker, device):
    async with intake(local_broker) as connection:
        await connection.subscribe("devices/+/telemetry")
        waiting = asyncio.ensure_future(connection.receive())
        await device_round_trip(connection)
        local_broker.kill()
        with pytest.raises(Transient):
            await asyncio.wait_for(waiting, 10)
        with pytest.raises(Transient):
            await connection.publish(TOPIC, b"x")
    with pytest.raises(Transient):
        async with intake(local_broker):
            pass
    local_broker.start()
    async with intake(local_broker):
        pass


@pytest.fixture
def hub_broker(server_dir: Path) -> Iterator[Mosquitto]:
    root = host.open_dir(server_dir, host.server_account())
    broker = Mosquitto(root, host.free_port())
    client = BrokerClient("k:1", hash_secret("secret", secrets.token_bytes(SALT_BYTES)), client_id="g1")
    broker.write_clients([client])
    broker.start()
    yield broker
    broker.stop()


def gateway(broker: Mosquitto, client_id: str, secret: str, will: Will | None = None) -> Connection:
    return Connection(
        Options(f"mqtt://127.0.0.1:{broker.port}", client_id, "k:1", Secret(secret), keepalive_s=10, will=will)
    )


async def test_the_hub_refuses_by_reason_code(hub_broker):
    async with gateway(hub_broker, "g1", "secret") as connection:
        assert await connection.publish("gateways/g1/batches", b"x") in (0, NO_MATCHING_SUBSCRIBERS)
        await connection.subscribe("gateways/g1/acks")
        # Mosquitto 2.0.11 says so and then closes the connection.
        assert await connection.publish("gateways/other/batches", b"x") == 0x87
    with pytest.raises(Permanent, match="refuses"):
        async with gateway(hub_broker, "g1", "wrong"):
            pass
    with pytest.raises(Permanent, match="refuses"):
        async with gateway(hub_broker, "g2", "secret"):
            pass


async def test_the_will_is_published_when_the_connection_breaks_and_not_after_a_goodbye(local_broker):
    will = Will("devices/g1/status", b"gone")
    async with intake(local_broker) as watcher:
        await watcher.subscribe("devices/+/status")
        async with Connection(Options(local_broker.url, "g1", will=will)) as polite:
            await polite.publish("devices/g1/status", b"here", retain=True)
        async with Connection(Options(local_broker.url, "g1", will=will)) as rude:
            await rude.publish("devices/g1/status", b"again", retain=True)
            assert rude._client is not None
            rude._client._client.socket().shutdown(socket.SHUT_RDWR)
            with pytest.raises(Transient):
                await asyncio.wait_for(rude.receive(), 10)
        assert [message.payload for message in await receive(watcher, 3)] == [b"here", b"again", b"gone"]
