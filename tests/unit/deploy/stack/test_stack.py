"""Addresses and who owns which server. The servers themselves: tests/stack/test_stack.py."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.stack import Stack
from deploy.stack.host import reachable_temp_dir
from shared.errors import Permanent

NAMES = {
    "HUB_DATABASE_URL",
    "HUB_KAFKA_BOOTSTRAP",
    "HUB_MQTT_URL",
    "HUB_API_URL",
    "HUB_API_TLS_URL",
    "HUB_API_CERT_FILE",
    "HUB_API_KEY_FILE",
    "HUB_CA_FILE",
    "HUB_CRL_FILE",
    "HUB_BROKER_PID_FILE",
    "HUB_MQTT_TLS_URL",
    "HUB_MQTT_MTLS_URL",
    "HUB_GRPC_URL",
    "HUB_ADMIN_TOKEN_FILE",
    "HUB_BROKER_FILE",
    "HUB_BROKER_RESTART_COMMAND",
    "HUB_SERVICE_SECRETS_FILE",
    "HUB_DATA_DIR",
}


@pytest.fixture
def folder() -> Iterator[Path]:
    folder = reachable_temp_dir("hub-test-")
    yield folder
    for path in folder.iterdir():
        path.unlink()
    folder.rmdir()


def test_the_environment_has_every_name_and_never_changes(folder: Path) -> None:
    env = Stack.open(folder, environ={}).env()
    assert set(env) == NAMES
    assert Stack.open(folder, environ={}).env() == env
    assert env["HUB_ADMIN_TOKEN_FILE"].startswith(env["HUB_DATA_DIR"])


def test_a_given_server_is_used_and_never_touched(folder: Path) -> None:
    given = {"HUB_DATABASE_URL": "postgresql://elsewhere/db"}
    stack = Stack.open(folder, environ=given)
    assert stack.env()["HUB_DATABASE_URL"] == given["HUB_DATABASE_URL"]
    assert [server.name for server in stack.servers] == ["mosquitto", "kafka"]
    with pytest.raises(Permanent, match="HUB_DATABASE_URL"):
        _ = stack.postgres


def test_what_it_printed_itself_is_no_foreign_server(folder: Path) -> None:
    printed = Stack.open(folder, environ={}).env()
    assert len(Stack.open(folder, environ=printed).servers) == 3


def test_the_directory_can_be_named_by_the_environment(folder: Path) -> None:
    assert Stack.open(environ={"HUB_STACK_DIR": str(folder)}).data_dir == folder


def test_nothing_runs_before_start(folder: Path) -> None:
    stack = Stack.open(folder, environ={})
    assert [server.pid for server in stack.servers] == [None, None, None]
    assert {server.port for server in stack.servers} == {stack.postgres.port, stack.mosquitto.port, stack.kafka.port}
