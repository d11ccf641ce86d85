"""A device of the LAN comes to its gateway with the key that it has at the hub, also while the hub is away."""

import shlex
import signal
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import aiomqtt
import pytest

from deploy.site import Gateway, Identity
from edge_agent.local_broker_file import FILE, LocalBrokerFile
from shared.config import Secret
from tests.stack.gateway_kit import NOWHERE, numbers, reading, until
from tests.stack.registry.conftest import Api, connect_code
from tests.stack.test_local_broker_file import NOT_AUTHORIZED, Broker


@pytest.fixture
def broker(server_dir: Path) -> Iterator[Broker]:
    home = server_dir / "lan"
    home.mkdir()
    made = Broker(home)
    yield made
    made.stop()


class Site:
    """A gateway whose agent writes the files of `broker`, and asks for its restart by a file."""

    def __init__(self, api: Api, broker: Broker, root: Path) -> None:
        self.broker = broker
        self.asked = root / "restart"
        self.owner: dict[str, str] = {}
        """Whose key it is."""
        key_id, _, secret = api.add("gw", kind="gateway").json()["api_key"].partition(".")
        self.gateway = Gateway(
            root / "gw",
            Identity("gw", key_id, Secret(secret)),
            NOWHERE,
            {
                "AGENT_LOCAL_MQTT_URL": f"mqtt://127.0.0.1:{broker.loopback}",
                "HUB_API_URL": api.env["HUB_API_URL"],
                "AGENT_DEVICES_EVERY_S": "1",
                "AGENT_HEALTH_READINGS_S": "0",
                "AGENT_LAN_DIR": str(broker.home),
                "AGENT_LAN_RESTART_COMMAND": f"touch {shlex.quote(str(self.asked))}",
            },
        )

    async def restarted(self) -> None:
        """The broker, when the agent asks for it."""
        await until(self.asked.exists)
        self.asked.unlink()
        self.broker.stop()
        self.broker.start()

    async def say(self, api_key: str, as_device: str, n: int) -> None:
        """A reading of `as_device`, from the client to whom the key belongs."""
        key_id, _, secret = api_key.partition(".")
        own = self.owner[api_key]
        with suppress(aiomqtt.MqttError):  # the broker closes who publishes what it may not
            async with aiomqtt.Client(
                "127.0.0.1", self.broker.lan, username=key_id, password=secret, identifier=own,
                protocol=aiomqtt.ProtocolVersion.V5, timeout=10,
            ) as client:  # fmt: skip
                await client.publish(f"devices/{as_device}/telemetry", reading(n), qos=1)


async def test_it_is_heard_as_itself_alone_and_goes_on_while_the_hub_is_away(
    api: Api, broker: Broker, server_dir: Path
) -> None:
    site = Site(api, broker, server_dir)
    keys = {name: api.add(name, gateway_id="gw").json()["api_key"] for name in ("a", "b")}
    site.owner = {key: name for name, key in keys.items()}
    try:
        await LocalBrokerFile(broker.home, None).follow([])  # the broker's first start, with nobody on the LAN
        broker.start()
        site.gateway.start_agent()
        await site.restarted()
        await until(site.gateway.is_ready)
        assert await connect_code(broker.lan, "a", keys["a"]) == 0
        assert await connect_code(broker.lan, "a", keys["b"]) == NOT_AUTHORIZED
        await site.say(keys["a"], "a", 1)
        await site.say(keys["b"], "a", 2)
        await site.say(keys["b"], "b", 3)
        await until(lambda: numbers(site.gateway) == {"a": [1], "b": [3]})

        api.stop(signal.SIGTERM)
        site.gateway.kill_agent()
        (broker.home / FILE).unlink()  # a new card, the agent's own directory kept
        site.gateway.start_agent()
        await site.restarted()
        await until(site.gateway.is_ready)
        await site.say(keys["a"], "a", 4)
        await site.say(keys["b"], "a", 5)
        await site.say(keys["b"], "b", 6)
        await until(lambda: numbers(site.gateway) == {"a": [1, 4], "b": [3, 6]})

        api.start()
        assert api.rest.post("/v1/devices/a:suspend").status_code == 200
        await site.restarted()
        assert await connect_code(broker.lan, "a", keys["a"]) == NOT_AUTHORIZED
        assert await connect_code(broker.lan, "b", keys["b"]) == 0
    finally:
        site.gateway.stop()
