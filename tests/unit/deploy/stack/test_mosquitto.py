"""The broker's first records, and where the local broker keeps its port. Behaviour: tests/stack/test_mosquitto.py."""

import json
import os
from pathlib import Path

import pytest

from deploy.stack import LocalBroker
from deploy.stack.host import Account, reachable_temp_dir
from deploy.stack.mosquitto import HTTP_DOOR, SERVICES, Mosquitto
from shared.dynsec_document import BrokerClient, hash_secret


@pytest.fixture
def broker(tmp_path: Path) -> Mosquitto:
    broker = Mosquitto(tmp_path, 1883)
    broker.account = Account(os.getuid(), os.getgid(), ())
    return broker


def test_services_get_a_secret_once_in_a_private_file(broker: Mosquitto) -> None:
    broker.write_clients([])
    first = broker.secrets_file.read_text()
    broker.write_clients([])
    assert broker.secrets_file.read_text() == first
    assert broker.secrets_file.stat().st_mode & 0o777 == 0o600
    known = json.loads(first)
    assert set(known) == {*SERVICES, HTTP_DOOR}
    assert len(set(known.values())) == len(known)
    assert all(len(secret) >= 43 for secret in known.values())  # 256 bits


def test_services_are_not_bound_to_a_client_id_and_devices_are(broker: Mosquitto) -> None:
    broker.write_clients([BrokerClient("key", hash_secret("s", b"x" * 12), "device")])
    records = json.loads(broker.clients_file.read_text())["clients"]
    bound = {record["username"]: record.get("clientid") for record in records}
    assert bound == {"_ingest": None, "_registry": None, "_monitor": None, "key": "device"}


def test_no_secret_in_the_records(broker: Mosquitto) -> None:
    broker.write_clients([])
    for secret in json.loads(broker.secrets_file.read_text()).values():
        assert secret not in broker.clients_file.read_text()


def test_a_local_broker_keeps_the_port_that_it_chose() -> None:
    folder = reachable_temp_dir("hub-test-")
    try:
        first = LocalBroker(folder)
        assert LocalBroker(folder).port == first.port
        assert LocalBroker(folder, 1899).url == "mqtt://127.0.0.1:1899"
    finally:
        for path in folder.iterdir():
            path.unlink()
        folder.rmdir()
