"""The LAN listener of a gateway's local broker, as shipped, with the files that the agent writes."""

import asyncio
import contextlib
import shlex
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import aiomqtt
import pytest

from deploy.stack import host
from deploy.stack.mosquitto import plugin_path
from edge_agent.local_broker import LocalDevice
from edge_agent.local_broker_file import ACL, FILE, MARK, LocalBrokerFile
from shared.dynsec_document import SALT_BYTES, hash_secret

pytestmark = pytest.mark.stack

SHIPPED = Path(__file__).parents[2] / "deploy/edge/mosquitto-lan.conf"
HASH = hash_secret("s", b"s" * SALT_BYTES)
NOT_AUTHORIZED = 135


def device(name: str, status: str = "active") -> LocalDevice:
    return LocalDevice(name, status, ((f"k:{name}", HASH),))


class Broker:
    """Mosquitto with the shipped configuration, its paths and ports replaced."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.loopback, self.lan = host.free_port(), host.free_port()
        text = SHIPPED.read_text()
        for shipped, ours in {
            "listener 1883 127.0.0.1": f"listener {self.loopback} 127.0.0.1",
            "listener 8883": f"listener {self.lan} 127.0.0.1",
            "/usr/lib/x86_64-linux-gnu/mosquitto_dynamic_security.so": str(plugin_path()),
            "/var/lib/edge-agent-lan/": f"{home}/",
            "/var/lib/mosquitto/": f"{home}/",
        }.items():
            assert shipped in text
            text = text.replace(shipped, ours)
        (home / "m.conf").write_text(text + "user root\n")
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self._process = subprocess.Popen(
            [host.program("mosquitto"), "-c", self.home / "m.conf"], stderr=subprocess.DEVNULL
        )
        deadline = time.monotonic() + 20
        while not (host.answers(self.loopback) and host.answers(self.lan)):
            assert self._process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.02)

    def stop(self) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait(20)


@pytest.fixture
def broker(server_dir: Path) -> Iterator[Broker]:
    made = Broker(server_dir)
    yield made
    made.stop()


def lan_client(broker: Broker, name: str) -> aiomqtt.Client:
    return aiomqtt.Client(
        "127.0.0.1", broker.lan, username=f"k:{name}", password="s", identifier=name,
        protocol=aiomqtt.ProtocolVersion.V5, timeout=10,
    )  # fmt: skip


async def code(port: int, client_id: str, username: str | None, secret: str | None = "s") -> int:
    """The reason code with which the broker answers a connect."""
    try:
        async with aiomqtt.Client(
            "127.0.0.1", port, username=username, password=secret if username else None, identifier=client_id,
            protocol=aiomqtt.ProtocolVersion.V5, timeout=10,
        ):  # fmt: skip
            return 0
    except aiomqtt.exceptions.MqttConnectError as error:
        return int(getattr(error.rc, "value", error.rc))


async def test_devices_of_the_lan_come_in_as_themselves_alone(broker: Broker) -> None:
    files = LocalBrokerFile(broker.home, None)
    await files.follow([device("a"), device("b"), device("bad", "quarantined")])
    await asyncio.to_thread(broker.start)
    assert await code(broker.lan, "a", "k:a") == 0
    assert await code(broker.lan, "b", "k:a") == NOT_AUTHORIZED
    assert await code(broker.lan, "a", "k:a", "wrong") == NOT_AUTHORIZED
    assert await code(broker.lan, "bad", "k:bad") == NOT_AUTHORIZED
    assert await code(broker.lan, "a", None) == NOT_AUTHORIZED
    assert await code(broker.loopback, "the-agent", None) == 0
    async with aiomqtt.Client("127.0.0.1", broker.loopback, identifier="agent") as agent:
        await agent.subscribe("devices/+/telemetry", qos=1)
        async with lan_client(broker, "a") as sender:
            await sender.publish("devices/a/telemetry", b"own", qos=1)
        # With listeners of their own 2.0.11 closes the session of whoever publishes what it may not.
        with contextlib.suppress(aiomqtt.MqttError):
            async with lan_client(broker, "a") as sender:
                await sender.publish("devices/b/telemetry", b"as another", qos=1)
        async with lan_client(broker, "b") as sender:
            await sender.publish("devices/b/telemetry", b"own too", qos=1)
        heard = []
        async with asyncio.timeout(10):
            async for message in agent.messages:
                heard.append((message.topic.value, message.payload))
                if message.payload == b"own too":
                    break
        assert heard == [("devices/a/telemetry", b"own"), ("devices/b/telemetry", b"own too")]


async def test_a_change_is_loaded_by_the_command_and_nothing_is_done_without_one(
    broker: Broker, tmp_path: Path
) -> None:
    said = tmp_path / "restarts"
    command = f"sh -c {shlex.quote(f'echo x >> {said}')}"
    files = LocalBrokerFile(broker.home, command)
    assert await files.follow([device("a")])
    assert await files.follow([device("a")])
    assert said.read_text() == "x\n"
    assert not files.restart_needed
    failing = LocalBrokerFile(broker.home, "false")
    assert not await failing.follow([device("a"), device("b")])
    assert failing.restart_needed
    assert await files.follow([device("b"), device("a")])  # as after a start of the agent: the mark is still there
    assert said.read_text() == "x\nx\n"
    without = LocalBrokerFile(broker.home, None)
    assert not await without.follow([])
    assert without.restart_needed
    assert {FILE, ACL, MARK} <= {path.name for path in broker.home.iterdir()}
    assert (broker.home / FILE).stat().st_mode & 0o777 == 0o640


async def test_a_directory_that_is_not_there_stops_nobody(tmp_path: Path) -> None:
    assert not await LocalBrokerFile(tmp_path / "nowhere", None).follow([device("a")])
    gone = LocalBrokerFile(tmp_path, "/nonexistent/command")
    assert not await gone.follow([device("a")])
    assert gone.restart_needed
