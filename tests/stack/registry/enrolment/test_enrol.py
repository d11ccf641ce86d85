"""`edge-agent enroll` against a real hub over TLS: one line, then it runs; and what becomes of one that is cut."""

import asyncio
import json
import os
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from deploy.stack import LocalBroker
from deploy.stack.host import free_port
from edge_agent import enrol, hardware, identity_files
from edge_agent.enrol import Refused, Wish
from edge_agent.hub_door import Untrusted
from shared.enrolment_token import EnrolmentToken, parse
from shared.errors import Permanent
from tests.ca_kit import TestCa
from tests.stack.registry.conftest import Api, connect_code, until
from tests.stack.registry.enrolment.test_routes import make_token
from tests.tls_front import Front, tls_front

BOX = hardware.named("box")


@pytest.fixture
def ca(environment: dict[str, str]) -> TestCa:
    made = TestCa.make()
    path = Path(environment["HUB_DATA_DIR"]) / "enrolment-ca.pem"
    path.write_text(made.pem)
    environment["HUB_CA_FILE"] = str(path)
    # What the gateway is told; these tests have the plain broker behind it.
    environment.pop("HUB_MQTT_TLS_URL", None)
    return made


@pytest.fixture
def api(ca: TestCa, environment: dict[str, str]) -> Iterator[Api]:
    """Started after its CA is there."""
    assert environment["HUB_CA_FILE"], ca
    running = Api(environment)
    try:
        running.start()
        yield running
    finally:
        running.close()


@pytest.fixture
def front(ca: TestCa, api: Api, tmp_path: Path) -> Iterator[Front]:
    port = int(api.env["HUB_API_URL"].rpartition(":")[2])
    with tls_front(*ca.server(tmp_path / "front"), ("127.0.0.1", port)) as running:
        yield running


def token_of(api: Api, **more: Any) -> EnrolmentToken:
    found = parse(make_token(api, **more))
    assert found is not None
    return found


def wish(front: Front, directory: Path, **more: Any) -> Wish:
    return Wish(front.url, directory, **more)


def mqtt_port(api: Api) -> int:
    return int(api.env["HUB_MQTT_URL"].rpartition(":")[2])


def connects(api: Api, directory: Path) -> bool:
    config = tomllib.loads((directory / "agent.toml").read_text())
    key = (directory / "key").read_text().strip()
    return asyncio.run(connect_code(mqtt_port(api), config["agent_id"], key)) == 0


def test_one_line_and_it_runs(api: Api, front: Front, tmp_path: Path, server_dir: Path) -> None:
    broker = LocalBroker(server_dir)
    broker.start()
    health = free_port()
    directory = tmp_path / "gateway"
    env = {name: value for name, value in os.environ.items() if not name.startswith(("HUB_", "AGENT_"))} | {
        "AGENT_LOCAL_MQTT_URL": broker.url,
        "AGENT_HEALTH_PORT": str(health),
        "AGENT_FIRST_CONNECT_S": "0",
    }
    words = ("enroll", "--hub", front.url, "--data-dir", str(directory), "--name", "hall-3", "--hardware", "box")
    agent = subprocess.Popen(
        [sys.executable, "-m", "edge_agent", *words, "--json", "--run"],
        env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert agent.stdin is not None
        agent.stdin.write(token_of(api).text + "\n")
        agent.stdin.flush()
        assert agent.stdout is not None
        said = json.loads(agent.stdout.readline())
        assert (said["gateway_id"], said["hardware"], said["devices"]) == ("hall-3", "given", 0)

        def connected() -> bool:
            try:
                status = httpx.get(f"http://127.0.0.1:{health}/status", timeout=5)
            except httpx.TransportError:
                return False
            return status.status_code == 200 and status.json()["uplink"]["connected"]

        until(connected, "the agent is connected to the hub", 60)
    finally:
        agent.terminate()
        _, trace = agent.communicate(timeout=30)
        broker.stop()
    assert (directory / "key").read_text().strip().split(".")[1] not in trace
    assert api.rest.get("/v1/devices/hall-3").json()["status"] in ("provisioned", "active")


def test_the_command_warns_of_a_token_in_the_arguments_and_says_how_to_run(
    api: Api, front: Front, tmp_path: Path
) -> None:
    def run(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "edge_agent", "enroll", "--hub", front.url, "--data-dir", str(tmp_path / "gw"),
             "--hardware", "box", *words],
            capture_output=True, text=True, timeout=60, check=False, stdin=subprocess.DEVNULL,
        )  # fmt: skip

    done = run("--token", token_of(api).text)
    assert done.returncode == 0, done.stderr
    assert "seen by others" in done.stderr
    assert f"AGENT_DATA_DIR={tmp_path / 'gw'} edge-agent run" in done.stdout
    none = run("--token", "nonsense", "--json")
    assert none.returncode == 2
    assert json.loads(none.stdout)["error"]["kind"] == "ConfigError"
    assert "nonsense" not in none.stdout + none.stderr
    wrong = parse(make_token(api))
    assert wrong is not None
    other = EnrolmentToken(wrong.id, wrong.secret, "0" * 64)
    refused = run("--token", other.text, "--json")
    assert refused.returncode == 1
    assert json.loads(refused.stdout)["error"]["kind"] == "Untrusted"
    away = subprocess.run(
        [sys.executable, "-m", "edge_agent", "enroll", "--hub", "https://127.0.0.1:9", "--data-dir",
         str(tmp_path / "x"), "--hardware", "box"],
        input=wrong.text, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert away.returncode == 4
    assert "does not answer" in away.stderr
    assert wrong.secret not in away.stderr


def test_a_hub_of_another_ca_never_hears_the_token(api: Api, ca: TestCa, tmp_path: Path) -> None:
    """It shows the right CA to everybody (it can: that is public), and has a certificate of its own."""
    token = token_of(api)
    port = int(api.env["HUB_API_URL"].rpartition(":")[2])
    with tls_front(*TestCa.make().server(tmp_path / "liar"), ("127.0.0.1", port)) as liar:
        with pytest.raises(Untrusted):
            enrol.enrol(wish(liar, tmp_path / "gw"), token, BOX)
        assert liar.heard
        assert not any(token.secret.encode() in heard for heard in liar.heard)
    assert not (tmp_path / "gw" / "agent.toml").exists()


def test_a_lost_answer_is_asked_for_again_and_costs_one_use(api: Api, front: Front, tmp_path: Path) -> None:
    token = token_of(api)
    front.swallow = 2
    enrol.enrol(wish(front, tmp_path / "gw"), token, BOX)
    assert connects(api, tmp_path / "gw")
    assert api.rest.get("/v1/enrolment-tokens").json()["tokens"][0]["used"] == 1


def test_a_replay_from_other_hardware_is_refused(api: Api, front: Front, tmp_path: Path) -> None:
    token = token_of(api)
    enrol.enrol(wish(front, tmp_path / "gw"), token, BOX)
    with pytest.raises(Refused, match="used up"):
        enrol.enrol(wish(front, tmp_path / "thief"), token, hardware.named("thief"))
    with pytest.raises(Refused, match="used up"):
        enrol.enrol(wish(front, tmp_path / "liar"), token, BOX)  # the same name, another key pair
    assert connects(api, tmp_path / "gw")


def test_the_same_hardware_installed_anew_keeps_its_id(api: Api, front: Front, tmp_path: Path) -> None:
    first = enrol.enrol(wish(front, tmp_path / "gw"), token_of(api), BOX)
    second = enrol.enrol(wish(front, tmp_path / "fresh disk"), token_of(api), BOX)
    assert first.gateway_id == second.gateway_id
    assert connects(api, tmp_path / "fresh disk")


def test_an_expired_token(api: Api, front: Front, tmp_path: Path) -> None:
    token = token_of(api, expires_s=1)
    time.sleep(1.1)  # the hub's own clock decides, in whole
    with pytest.raises(Refused, match="expired"):
        enrol.enrol(wish(front, tmp_path / "gw"), token, BOX)


def test_what_the_operator_set_stays_set(api: Api, front: Front, tmp_path: Path) -> None:
    directory = tmp_path / "gw"
    directory.mkdir()
    (directory / "agent.toml").write_text('outbox_max_mib = 64\nagent_id = "old"\n')
    found = enrol.enrol(wish(front, directory), token_of(api), BOX)
    config = tomllib.loads((directory / "agent.toml").read_text())
    assert (config["outbox_max_mib"], config["agent_id"]) == (64, found.gateway_id)


class Cut(BaseException):
    """The power goes out here."""


STEPS = [(name, moment) for name in ("identity.key", "ca.pem", "key", "agent.toml") for moment in ("before", "after")]


@pytest.mark.parametrize(("name", "moment"), STEPS)
def test_cut_at_any_step_running_it_again_ends_enrolled(
    api: Api, front: Front, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, moment: str
) -> None:
    token = token_of(api)
    directory = tmp_path / "gw"
    real = identity_files.write

    def cut(path: Path, data: bytes, mode: int = 0o600) -> None:
        if path.name == name and moment == "before":
            path.with_name(path.name + ".part").write_bytes(data[: len(data) // 2])
            raise Cut
        real(path, data, mode)
        if path.name == name:
            raise Cut

    with monkeypatch.context() as patch:
        patch.setattr(identity_files, "write", cut)
        with pytest.raises(Cut):
            enrol.enrol(wish(front, directory), token, BOX)
    enrol.enrol(wish(front, directory), token, BOX)
    assert connects(api, directory)
    assert api.rest.get("/v1/enrolment-tokens").json()["tokens"][0]["used"] == 1
    assert len(api.rest.get("/v1/devices").json()["devices"]) == 1


def test_a_running_agents_directory_is_left_alone(api: Api, front: Front, tmp_path: Path) -> None:
    from edge_agent.running import Claim

    program = "import sys, time; from pathlib import Path; from edge_agent.running import Claim\n"
    program += "with Claim(Path(sys.argv[1])): print('held', flush=True); time.sleep(60)"
    holder = subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path / "gw")], stdout=subprocess.PIPE, text=True
    )
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(Permanent, match="in use"):
            enrol.enrol(wish(front, tmp_path / "gw"), token_of(api), BOX)
    finally:
        holder.kill()
        holder.communicate()
    with Claim(tmp_path / "gw"):
        pass
