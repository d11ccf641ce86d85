"""The hub's broker as devices meet it: who gets in, as whom, and what they may do. Judged by MQTT 5 reason codes."""

import json
import re
import secrets
import socket
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from deploy.stack import Stack
from deploy.stack.host import reachable_temp_dir
from deploy.stack.mosquitto import Mosquitto
from shared.dynsec_document import SALT_BYTES, BrokerClient, hash_secret

pytestmark = pytest.mark.stack

NOT_AUTHORISED = 135
DELIVERED, NO_SUBSCRIBER = 0, 16
PUBACK, DISCONNECT, PACKET_TOO_LARGE = 0x40, 0xE0, 0x95  # MQTT 5.0: 3.4, 3.14


@dataclass(frozen=True)
class Client:
    client_id: str
    username: str
    secret: str

    def arguments(self) -> list[str]:
        return ["-i", self.client_id, "-u", self.username, "-P", self.secret]


DEVICE = Client("dev1", "key1", "secret1")
SECOND_KEY = Client("dev1", "key2", "secret2")
GATEWAY = Client("gw1", "key3", "secret3")
DISABLED = Client("dev2", "key4", "secret4")


@pytest.fixture(scope="module")
def broker() -> Iterator[Mosquitto]:
    """A broker of its own, because its records are written by file before it starts."""
    directory = reachable_temp_dir("hub-test-")
    broker = Stack.open(directory, environ={}).mosquitto
    broker.write_clients(
        [
            BrokerClient(
                client.username,
                hash_secret(client.secret, secrets.token_bytes(SALT_BYTES)),
                client.client_id,
                client is DISABLED,
            )
            for client in (DEVICE, SECOND_KEY, GATEWAY, DISABLED)
        ]
    )
    broker.start()
    yield broker
    broker.stop()
    subprocess.run(["rm", "-r", str(directory)], check=True)


def _service(broker: Mosquitto, name: str) -> Client:
    return Client(f"{name}-0", name, json.loads(broker.secrets_file.read_text())[name])


def _publish(broker: Mosquitto, client: Client, topic: str, text: str = "{}") -> int:
    """The reason code of the PUBACK, or of the CONNACK if that refused."""
    command = ["mosquitto_pub", "-V", "5", "-q", "1", "-d", "-p", str(broker.port), *client.arguments()]
    done = subprocess.run(
        [*command, "-t", topic, "-m", text], capture_output=True, text=True, check=False, timeout=20
    )
    said = done.stdout + done.stderr
    code = re.search(r"PUBACK \(Mid: \d+, RC:(\d+)\)", said) or re.search(r"CONNACK \((\d+)\)", said)
    assert code is not None, said
    return int(code[1])


@pytest.mark.parametrize(
    ("client", "topic"),
    [
        (DEVICE, "devices/dev1/telemetry"),
        (DEVICE, "devices/dev1/status"),
        (SECOND_KEY, "devices/dev1/telemetry"),
        (GATEWAY, "gateways/gw1/batches"),
        (GATEWAY, "devices/gw1/telemetry"),
    ],
)
def test_as_itself(broker: Mosquitto, client: Client, topic: str) -> None:
    assert _publish(broker, client, topic) == NO_SUBSCRIBER


@pytest.mark.parametrize(
    "topic",
    [
        "devices/dev2/telemetry",
        "devices/dev1/commands",
        "devices/dev1/notices",
        "gateways/gw1/batches",
        "gateways/dev1/acks",
        "$CONTROL/dynamic-security/v1",
        "anything",
    ],
)
def test_nothing_else(broker: Mosquitto, topic: str) -> None:
    assert _publish(broker, DEVICE, topic) == NOT_AUTHORISED


@pytest.mark.parametrize(
    "client",
    [
        Client("dev1", "key1", "wrong"),
        Client("dev9", "key9", "secret1"),
        Client("dev2", "key1", "secret1"),  # a good key under another client id
        Client("gw1", "key1", "secret1"),
        DISABLED,
        Client("dev1", "dev1", "secret1"),
    ],
)
def test_not_let_in(broker: Mosquitto, client: Client) -> None:
    assert _publish(broker, client, f"devices/{client.client_id}/telemetry") == NOT_AUTHORISED


def test_nobody_without_a_name(broker: Mosquitto) -> None:
    command = ["mosquitto_pub", "-V", "5", "-q", "1", "-p", str(broker.port), "-i", "dev1"]
    done = subprocess.run(
        [*command, "-t", "devices/dev1/telemetry", "-n"], capture_output=True, text=True, check=False, timeout=20
    )
    assert "Not authorized" in done.stderr
    assert done.returncode == NOT_AUTHORISED


class Listener:
    """A running subscriber, whose subscription the broker has acknowledged."""

    def __init__(self, broker: Mosquitto, client: Client, topic: str, wait_s: int) -> None:
        command = ["stdbuf", "-oL", "mosquitto_sub", "-V", "5", "-q", "1", "-d", "-p", str(broker.port)]
        self._running = subprocess.Popen(
            [*command, *client.arguments(), "-t", topic, "-C", "1", "-W", str(wait_s), "-F", "got %t %p"],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert self._running.stdout is not None
        self._said = []
        for line in self._running.stdout:
            self._said.append(line)  # a retained message may come before the acknowledgement
            if "Subscribed" in line or line.startswith("got "):
                return
        raise AssertionError(f"no subscription: {self._said}")

    def received(self) -> list[str]:
        """What came until it had one message, or its time was over."""
        assert self._running.stdout is not None
        with self._running, self._running.stdout as stdout:
            lines = [*self._said, *stdout]  # by the same reader, which may hold more already; -W ends it
        return [line.strip().removeprefix("got ") for line in lines if line.startswith("got ")]


@pytest.mark.parametrize(
    ("reader", "subscription", "writer", "topic"),
    [
        ("_ingest", "devices/+/telemetry", DEVICE, "devices/dev1/telemetry"),
        ("_ingest", "devices/+/status", DEVICE, "devices/dev1/status"),
        ("_ingest", "gateways/+/batches", GATEWAY, "gateways/gw1/batches"),
        (GATEWAY, "gateways/gw1/acks", "_ingest", "gateways/gw1/acks"),
        (DEVICE, "devices/dev1/notices", "_ingest", "devices/dev1/notices"),
        (DEVICE, "devices/dev1/commands", "_registry", "devices/dev1/commands"),
        (DEVICE, "devices/dev1/commands/#", "_registry", "devices/dev1/commands"),
    ],
)
def test_the_ways_that_are_open(
    broker: Mosquitto, reader: Client | str, subscription: str, writer: Client | str, topic: str
) -> None:
    listener = _service(broker, reader) if isinstance(reader, str) else reader
    speaker = _service(broker, writer) if isinstance(writer, str) else writer
    running = Listener(broker, listener, subscription, wait_s=10)
    assert _publish(broker, speaker, topic, "hello") == DELIVERED
    assert running.received() == [f"{topic} hello"]


def test_a_subscription_to_all_hears_nobody_else(broker: Mosquitto) -> None:
    running = Listener(broker, DEVICE, "#", wait_s=1)
    _publish(broker, GATEWAY, "gateways/gw1/batches", "private")
    _publish(broker, _service(broker, "_ingest"), "gateways/gw1/acks", "private")
    assert running.received() == []


def test_our_services_do_only_their_part(broker: Mosquitto) -> None:
    assert _publish(broker, _service(broker, "_ingest"), "devices/dev1/telemetry") == NOT_AUTHORISED
    assert _publish(broker, _service(broker, "_ingest"), "$CONTROL/dynamic-security/v1") == NOT_AUTHORISED
    assert _publish(broker, _service(broker, "_monitor"), "gateways/gw1/acks") == NOT_AUTHORISED


def test_monitor_reads_the_brokers_own_figures(broker: Mosquitto) -> None:
    running = Listener(broker, _service(broker, "_monitor"), "$SYS/broker/version", wait_s=10)
    assert running.received()[0].startswith("$SYS/broker/version mosquitto")


def test_a_record_by_command_survives_a_kill(broker: Mosquitto) -> None:
    late = Client("dev7", "key7", "secret7")
    create = {"command": "createClient", "username": "key7", "password": "secret7", "clientid": "dev7"}
    registry = _service(broker, "_registry")
    answers = Listener(broker, Client("_registry-1", *_pair(registry)), "$CONTROL/dynamic-security/#", wait_s=10)
    assert _publish(broker, registry, "$CONTROL/dynamic-security/v1", json.dumps({"commands": [create]})) == 0
    assert json.loads(answers.received()[0].split(" ", 1)[1]) == {"responses": [{"command": "createClient"}]}
    broker.kill()
    broker.start()
    assert _publish(broker, late, "devices/dev7/telemetry") == NO_SUBSCRIBER
    assert _publish(broker, DEVICE, "devices/dev1/telemetry") == NO_SUBSCRIBER


def _pair(client: Client) -> tuple[str, str]:
    return client.username, client.secret


def test_above_the_packet_limit_the_broker_disconnects(broker: Mosquitto) -> None:
    """Below it a message is answered; above it the answer is the end of the connection, and why."""
    limit, topic = 2 * 1024 * 1024, b"devices/dev1/telemetry"
    with _connected(broker, DEVICE) as connection:
        connection.sendall(_packet(0x32, _text(topic) + b"\x00\x01" + b"\x00" + b"x" * (limit - 1024)))
        assert _answer(connection)[:3] == bytes([PUBACK, 3, 0])
        # Its beginning alone: the broker knows by the length, and does not wait for the rest.
        connection.sendall(_packet(0x32, _text(topic) + b"\x00\x02" + b"\x00" + b"x" * (limit + 1024))[:4096])
        assert _answer(connection)[:3] == bytes([DISCONNECT, 1, PACKET_TOO_LARGE])
        assert _closed(connection)


def _connected(broker: Mosquitto, client: Client) -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", broker.port), timeout=10)
    names = b"".join(_text(text.encode()) for text in (client.client_id, client.username, client.secret))
    # MQTT 5, user name and password, clean start, keep alive 60 s, no properties.
    connection.sendall(_packet(0x10, _text(b"MQTT") + b"\x05\xc2\x00\x3c\x00" + names))
    answer = _answer(connection)
    assert (answer[0], answer[3]) == (0x20, 0), answer
    return connection


def _closed(connection: socket.socket) -> bool:
    try:
        return connection.recv(1) == b""
    except ConnectionResetError:  # it had not read all that we sent
        return True


def _packet(head: int, body: bytes) -> bytes:
    length, left = b"", len(body)
    while True:
        left, digit = left >> 7, left & 0x7F
        length += bytes([digit | (0x80 if left else 0)])
        if not left:
            return bytes([head]) + length + body


def _text(text: bytes) -> bytes:
    return len(text).to_bytes(2, "big") + text


def _answer(connection: socket.socket) -> bytes:
    """One short packet of the broker's."""
    head = connection.recv(2, socket.MSG_WAITALL)
    return head + (connection.recv(head[1], socket.MSG_WAITALL) if head[1:] else b"")
