"""A gateway replaces its own key: real agent, real broker, real hub, and SIGKILL at each step."""

import asyncio
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from deploy.site import Gateway, Identity
from deploy.stack import Stack
from deploy.stack.mosquitto import Mosquitto
from shared.config import Secret
from tests.stack.registry.conftest import NOT_AUTHORIZED, Api, connect_code, until

DYING = "tests.stack.registry.credentials.dying_agent"
ROOT = Path(__file__).parents[4]


@pytest.fixture
def gateway(api: Api, stack: Stack, server_dir: Path) -> Iterator[Gateway]:
    """A gateway of this hub, its broker up, its agent not started yet; a replaced key ends after a second."""
    stack.postgres.psql(
        """INSERT INTO policies (name, value) VALUES ('credentials', '{"grace_s": 1}')""",
        api.env["HUB_DATABASE_URL"].rpartition("/")[2],
    )
    key = api.add("gw", kind="gateway").json()["api_key"]
    settings = {"HUB_API_URL": api.env["HUB_API_URL"], "AGENT_HEALTH_READINGS_S": "0"}
    made = Gateway(server_dir / "gw", Identity("gw", key.partition(".")[0], Secret(key.partition(".")[2])),
                   api.env["HUB_MQTT_URL"], settings)  # fmt: skip
    made.broker.start()
    yield made
    if made.running:
        made.kill_agent()
    made.broker.stop()


def key_of(gateway: Gateway) -> str:
    return (gateway.data_dir / "key").read_text().strip()


def connects(gateway: Gateway) -> bool:
    try:
        page = httpx.get(f"http://127.0.0.1:{gateway.health_port}/status", timeout=5).json()
    except httpx.TransportError:
        return False
    return bool(page["uplink"]["connected"])


def test_the_command_replaces_the_key_of_the_running_agent_and_the_old_one_ends(
    api: Api, gateway: Gateway, broker_server: Mosquitto
) -> None:
    old = key_of(gateway)
    gateway.start_agent()
    until(lambda: connects(gateway), "the agent is connected")
    gateway.command("rotate")
    new = key_of(gateway)
    assert new != old
    until(lambda: connects(gateway), "it is connected again")
    living = until(
        lambda: (k := api.rest.get("/v1/devices/gw/credentials").json()["keys"]) and len(k) == 1 and k, "one lives"
    )
    assert living[0]["key_id"] == new.split(".")[0]
    assert living[0]["last_used_at"] is not None
    assert asyncio.run(connect_code(broker_server.port, "gw", old)) == NOT_AUTHORIZED
    assert sorted(p.name for p in gateway.data_dir.iterdir() if p.name.startswith("key")) == ["key"]
    logged = gateway.log_path.read_text() + api.log.read_text()
    assert old.split(".")[1] not in logged
    assert new.split(".")[1] not in logged


@pytest.mark.parametrize(
    ("when", "step"),
    [
        ("before", "call"),
        ("after", "call"),
        ("before", "keep_new"),
        ("after", "keep_new"),
        ("before", "promote"),
        ("after", "promote"),
    ],
)
def test_killed_at_any_step_it_connects_again_and_ends_with_one_key(
    api: Api, gateway: Gateway, when: str, step: str
) -> None:
    old = key_of(gateway)
    gateway.command("rotate")  # no agent runs: it is begun on disk, and done at the start
    done = subprocess.run(
        [sys.executable, "-m", DYING, when, step], cwd=ROOT, env=os.environ | gateway.env, timeout=90, check=False,
        capture_output=True,
    )  # fmt: skip
    assert done.returncode == -9, done.stderr.decode()
    gateway.start_agent()
    until(lambda: connects(gateway), "the agent is connected")
    until(lambda: key_of(gateway) != old, "and ends with the new key")
    until(lambda: len(api.rest.get("/v1/devices/gw/credentials").json()["keys"]) == 1, "one lives")
    assert api.rest.get("/v1/self", headers={"Authorization": f"Bearer {key_of(gateway)}"}).status_code == 200
    assert connects(gateway)
