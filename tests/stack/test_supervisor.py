"""`hub serve` with every real service: ready, one killed, all killed, and started again at once."""

import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from control_plane.supervisor import SERVICES
from deploy.site.hub import Hub
from deploy.stack import Stack, host
from deploy.stack.mosquitto import Mosquitto

pytestmark = [pytest.mark.stack, pytest.mark.timeout(300)]
DEADLINE_S = 90.0
LEASE_S = 600.0
"""Far more than any wait of these tests: who would wait for it to run out, fails."""


def until(condition: Callable[[], Any], what: str) -> Any:
    deadline = time.monotonic() + DEADLINE_S
    while not (found := condition()):
        assert time.monotonic() < deadline, f"not within {DEADLINE_S} s: {what}"
        time.sleep(0.1)
    return found


@pytest.fixture
def hub(stack: Stack, database_url: str, server_dir: Path, tmp_path: Path) -> Iterator[Hub]:
    """All services against the session's Postgres and Kafka, and a broker of its own."""
    broker = Mosquitto(server_dir, host.free_port())
    broker.start()
    env = stack.env() | {
        "HUB_DATABASE_URL": database_url,
        "HUB_MQTT_URL": f"mqtt://127.0.0.1:{broker.port}",
        "HUB_API_URL": f"http://127.0.0.1:{host.free_port()}",
        "HUB_ADMIN_TOKEN_FILE": str(tmp_path / "admin-token"),
        "HUB_SERVICE_SECRETS_FILE": str(broker.secrets_file),
        "HUB_DATA_DIR": str(tmp_path),
        "HUB_INGEST_LEASE_S": str(LEASE_S),
    }
    made = Hub(env, tmp_path / "serve.log")
    made.command("migrate")
    try:
        yield made
    finally:
        made.stop()
        broker.stop()


def gone(pid: int) -> bool:
    return not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


def test_every_service_becomes_ready_and_comes_back(hub: Hub) -> None:
    hub.serve()
    hub.wait_ready(DEADLINE_S)
    assert list(hub.services()) == list(SERVICES)
    killed = hub.kill("api")
    until(lambda: hub.services()["api"]["restarts"] == 1, "the API was started again")
    hub.wait_ready(DEADLINE_S)
    assert hub.services()["api"]["pid"] != killed
    others = {name: service["restarts"] for name, service in hub.services().items() if name != "api"}
    assert set(others.values()) == {0}, others

    old = [int(service["pid"]) for service in hub.services().values()]
    hub.kill_tree()
    until(lambda: all(gone(pid) for pid in old), "no orphan")
    # The slot's lease still runs for ten minutes, and is resumed: its holder's name is kept in the data directory.
    # The jobs keep their ids too; what a job may wait for is Kafka's look at its dead predecessor, 6 s at most. The
    # rest is the start of six processes on two cores.
    hub.serve()
    hub.wait_ready(DEADLINE_S)
    assert DEADLINE_S < LEASE_S / 2
    assert hub.log_path.read_text().count('"event":"lease_taken"') == 2
    assert {service["restarts"] for service in hub.services().values()} == {0}

    pids = [int(service["pid"]) for service in hub.services().values()]
    os.kill(hub.pid, signal.SIGTERM)
    until(lambda: all(gone(pid) for pid in pids), "all have ended")
    log = hub.log_path.read_text()
    assert '"event":"service_killed"' not in log, "each ended within its grace"
