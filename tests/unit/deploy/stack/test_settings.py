"""Both value sets fill every template, and say what the design says."""

from pathlib import Path

import pytest

from deploy.stack import settings
from deploy.stack.settings import LOCAL_BROKER_FILE, TEMPLATES, Values
from deploy.stack.tls import Doors
from shared.limits import BROKER_PACKET_BYTES, KAFKA_MESSAGE_BYTES

HOME, CERTIFICATES, PLUGIN = Path("/data/x"), Path("/certificates"), Path("/lib/plugin.so")
HOSTS = ["k1", "k2", "k3"]


def _lines(template: Path, values: Values | None) -> list[str]:
    text = settings.render(template, values)
    return [line.strip() for line in text.splitlines() if line.strip() and not line.startswith("#")]


def _keys(lines: list[str], separator: str) -> dict[str, str]:
    pairs = [line.split(separator, 1) for line in lines]
    return {key.strip(): value.strip() for key, value in pairs}


@pytest.mark.parametrize(
    "values",
    [settings.loopback_mosquitto(HOME, PLUGIN, 1883), settings.production_mosquitto(HOME, PLUGIN, CERTIFICATES)],
)
def test_the_hubs_broker_drops_nothing_for_a_count_and_lets_nobody_in_unknown(values: Values) -> None:
    lines = _lines(TEMPLATES / "mosquitto.conf", values)
    assert {
        "allow_anonymous false",
        "max_queued_messages 0",
        "max_inflight_messages 1000",
        "set_tcp_nodelay true",
        "persistence true",
        f"max_packet_size {BROKER_PACKET_BYTES}",
        "acl_file /data/x/acl",
    } <= set(lines)
    assert not [line for line in lines if line.startswith("memory_limit")]
    assert [line for line in lines if line.startswith("max_queued_bytes")] != ["max_queued_bytes 0"]


def test_loopback_listens_on_loopback_and_production_only_with_tls() -> None:
    loopback = _lines(TEMPLATES / "mosquitto.conf", settings.loopback_mosquitto(HOME, PLUGIN, 1883))
    production = _lines(TEMPLATES / "mosquitto.conf", settings.production_mosquitto(HOME, PLUGIN, CERTIFICATES))
    assert [line for line in loopback if line.startswith("listener")] == ["listener 1883 127.0.0.1"]
    assert [line for line in production if line.startswith("listener")] == ["listener 8883", "listener 8884"]
    assert production.count("certfile /certificates/server.crt") == 2


@pytest.mark.parametrize(
    "values",
    [
        settings.loopback_mosquitto(HOME, PLUGIN, 1883, Doors(1884, 1885)),
        settings.production_mosquitto(HOME, PLUGIN, CERTIFICATES, 1884, 1885),
    ],
)
def test_a_gateways_certificate_is_its_user_name_and_its_client_id(values: Values) -> None:
    """With use_identity_as_username alone it could publish as any other gateway."""
    lines = _lines(TEMPLATES / "mosquitto.conf", values)
    keys = next(at for at, line in enumerate(lines) if line.startswith("listener 1884"))
    certificates = next(at for at, line in enumerate(lines) if line.startswith("listener 1885"))
    wanted = {"require_certificate true", "use_identity_as_username true", "use_username_as_clientid true"}
    assert wanted <= set(lines[certificates:])
    assert not wanted & set(lines[keys:certificates])
    assert [line for line in lines if line.startswith("tls_version")] == ["tls_version tlsv1.2"] * 2
    assert any(line.startswith("crlfile") for line in lines[certificates:])


def test_one_kafka_node_answers_alone() -> None:
    lines = _lines(TEMPLATES / "kafka.properties", settings.loopback_kafka(HOME, 9092, 9093))
    keys = _keys(lines, "=")
    assert {value for key, value in keys.items() if key.endswith((".replication.factor", "min.isr"))} == {"1"}
    assert keys["listeners"] == "PLAINTEXT://127.0.0.1:9092,CONTROLLER://127.0.0.1:9093"
    assert keys["group.initial.rebalance.delay.ms"] == "0"
    assert keys["broker.session.timeout.ms"] == "3000"
    assert keys["auto.create.topics.enable"] == "false"


def test_three_kafka_nodes_bear_the_loss_of_one() -> None:
    values = settings.production_kafka(2, HOSTS, HOME, CERTIFICATES)
    keys = _keys(_lines(TEMPLATES / "kafka.properties", values), "=")
    assert keys["node.id"] == "2"
    assert keys["controller.quorum.bootstrap.servers"] == "k1:9094,k2:9094,k3:9094"
    assert (keys["default.replication.factor"], keys["min.insync.replicas"]) == ("3", "2")
    assert (keys["transaction.state.log.replication.factor"], keys["transaction.state.log.min.isr"]) == ("3", "2")
    assert "PLAINTEXT" not in keys["listener.security.protocol.map"]


def test_kafka_takes_what_the_topics_may_hold() -> None:
    values = settings.loopback_kafka(HOME, 1, 2)
    assert values.message_max_bytes > KAFKA_MESSAGE_BYTES
    assert values.message_max_bytes > BROKER_PACKET_BYTES


@pytest.mark.parametrize(
    ("values", "ssl"),
    [(settings.loopback_postgres(HOME, 5432), "off"), (settings.production_postgres(HOME, CERTIFICATES), "on")],
)
def test_postgres_waits_for_the_disk(values: Values, ssl: str) -> None:
    keys = _keys(_lines(TEMPLATES / "postgresql.conf", values), "=")
    assert (keys["fsync"], keys["synchronous_commit"], keys["ssl"]) == ("on", "on", ssl)
    assert keys["password_encryption"] == "scram-sha-256"
    assert keys["unix_socket_directories"] == "''"


def test_the_local_broker_saves_each_change_and_keeps_to_loopback() -> None:
    lines = settings.local_broker(HOME, 1884).splitlines()
    assert {
        "listener 1884 127.0.0.1",
        f"persistence_location {HOME}/",
        "autosave_on_changes true",
        "autosave_interval 1",
        "max_queued_messages 0",
        f"max_packet_size {BROKER_PACKET_BYTES}",
    } <= set(lines)


def test_the_local_brokers_file_is_shipped_as_it_is_installed() -> None:
    """It was a template that users were told to install."""
    shipped = LOCAL_BROKER_FILE.read_text()
    assert "$" not in shipped
    assert {"listener 1883 127.0.0.1", "persistence_location /var/lib/mosquitto/"} <= set(shipped.splitlines())
    changed = set(settings.local_broker(HOME, 1884, save_on_change=False).splitlines()) - set(shipped.splitlines())
    assert changed == {"listener 1884 127.0.0.1", f"persistence_location {HOME}/", "autosave_on_changes false"}


def test_a_local_broker_whose_file_lacks_a_line_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = tmp_path / "mosquitto.conf"
    other.write_text("\nlistener 1883\n")
    monkeypatch.setattr(settings, "LOCAL_BROKER_FILE", other)
    with pytest.raises(KeyError):
        settings.local_broker(HOME, 1884)


def test_a_template_without_its_values_is_an_error() -> None:
    with pytest.raises(KeyError):
        settings.render(TEMPLATES / "mosquitto.conf")
