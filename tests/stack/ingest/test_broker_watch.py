"""Refused connects are counted by kind, as the real broker tells of them."""

import asyncio
import contextlib
import json
import socket
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import aiomqtt
import pytest

from control_plane.ingest import events
from control_plane.ingest.broker_watch import BrokerWatch
from deploy.stack import host
from deploy.stack.mosquitto import Mosquitto
from shared.config import Secret
from shared.dynsec_document import SALT_BYTES, BrokerClient, hash_secret

pytestmark = pytest.mark.stack

DEVICE = BrokerClient("k:dev", hash_secret("s", b"s" * SALT_BYTES), "dev")


@pytest.fixture
def server(server_dir: Path) -> Iterator[Mosquitto]:
    broker = Mosquitto(server_dir, host.free_port())
    broker.write_clients([DEVICE])
    broker.start()
    yield broker
    broker.stop()


@pytest.fixture
async def watched(server: Mosquitto) -> AsyncIterator[Mosquitto]:
    """A broker whose log is followed."""
    secret = Secret(json.loads(server.secrets_file.read_text())["_monitor"])
    watch = BrokerWatch("127.0.0.1", server.port, secret, "test")
    running = asyncio.create_task(watch.run())
    await asyncio.wait_for(watch.listening.wait(), 10)
    yield server
    running.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await running


def count(kind: str) -> float:
    return float(events.CONNECT_FAILURES.labels(kind)._value.get())


async def grown(kind: str, before: float) -> None:
    async with asyncio.timeout(10):
        while count(kind) <= before:
            await asyncio.sleep(0.02)


async def connect(port: int, username: str, secret: str, client_id: str) -> aiomqtt.Client:
    client = aiomqtt.Client(
        "127.0.0.1", port, username=username, password=secret, identifier=client_id,
        protocol=aiomqtt.ProtocolVersion.V5,
    )  # fmt: skip
    await client.__aenter__()
    return client


@pytest.mark.parametrize(
    ("username", "secret", "client_id"),
    [("k:dev", "wrong", "dev"), ("k:nobody", "s", "dev"), ("k:dev", "s", "other"), ("_ingest", "s", "_ingest-0")],
)
async def test_whoever_is_not_let_in_is_counted_once(
    watched: Mosquitto, username: str, secret: str, client_id: str
) -> None:
    before = count("not_authorised")
    with pytest.raises(aiomqtt.MqttError):
        await connect(watched.port, username, secret, client_id)
    await grown("not_authorised", before)
    assert count("not_authorised") == before + 1


async def test_what_speaks_no_mqtt_is_a_protocol_error(watched: Mosquitto) -> None:
    before = count("protocol_error")
    with socket.create_connection(("127.0.0.1", watched.port)) as peer:
        peer.sendall(b"GET / HTTP/1.1\r\n\r\n")
        await grown("protocol_error", before)


async def test_a_session_taken_over_is_counted_and_a_good_connect_is_not(watched: Mosquitto) -> None:
    before = {kind: count(kind) for kind in ("not_authorised", "protocol_error", "taken_over")}
    first = await connect(watched.port, "k:dev", "s", "dev")
    second = await connect(watched.port, "k:dev", "s", "dev")
    await grown("taken_over", before["taken_over"])
    after = {kind: count(kind) for kind in before}
    assert after == before | {"taken_over": before["taken_over"] + 1}
    for client in (second, first):
        with contextlib.suppress(aiomqtt.MqttError):
            await client.__aexit__(None, None, None)
