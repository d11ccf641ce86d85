"""What ingest is told."""

import pytest

from control_plane.ingest.config import IngestConfig, broker_password
from shared.config import ConfigError, load

ENV = {
    "HUB_DATABASE_URL": "postgresql://u:hidden@h/d",
    "HUB_KAFKA_BOOTSTRAP": "h:9092",
    "HUB_MQTT_URL": "mqtt://broker",
    "HUB_SERVICE_SECRETS_FILE": "/nowhere",
    "HUB_DATA_DIR": "/nowhere",
}


def test_the_least_that_must_be_told():
    config = load(IngestConfig, ENV)
    assert config.broker_address() == ("broker", 1883)
    assert (config.slot, config.receive_maximum, config.lease_s) == (0, 2_000, 15.0)
    assert "hidden" not in repr(config)


def test_what_is_missing_is_told_at_once():
    with pytest.raises(ConfigError) as error:
        load(IngestConfig, {})
    assert {mistake.split(":")[0] for mistake in error.value.mistakes} == set(ENV)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("HUB_INGEST_RECEIVE_MAXIMUM", "0"), ("HUB_INGEST_RECEIVE_MAXIMUM", "65536"), ("HUB_INGEST_REMEMBER", "6000"),
        ("HUB_INGEST_LEASE_S", "2.9"), ("HUB_INGEST_SLOT", "-1"), ("HUB_INGEST_KAFKA_BATCH_BYTES", "16383"),
        ("HUB_INGEST_KAFKA_BATCH_BYTES", "1048577"), ("HUB_MQTT_URL", "tcp://broker"), ("HUB_MQTT_URL", "mqtt://"),
        ("HUB_MQTT_URL", "mqtt://broker:port"),
    ],
)  # fmt: skip
def test_a_value_that_is_none(name, value):
    with pytest.raises(ConfigError, match=name):
        load(IngestConfig, ENV | {name: value})


@pytest.mark.parametrize("url", ["mqtt://user:hidden@broker", "tcp://user:hidden@broker", "mqtt://:hidden@broker:x"])
def test_a_broker_s_address_with_a_password_is_refused_and_not_shown(url):
    with pytest.raises(ConfigError, match="HUB_MQTT_URL") as error:
        load(IngestConfig, ENV | {"HUB_MQTT_URL": url})
    assert "hidden" not in str(error.value)


def test_the_ring_covers_what_can_be_unacknowledged():
    config = load(IngestConfig, ENV)
    assert config.unacknowledged_limit == 4_000
    assert config.tail_minimum == 4_000 + 64 * 1024 // 26
    assert config.remember >= config.tail_minimum


def secrets_file(tmp_path, text):
    path = tmp_path / "secrets"
    path.write_text(text)
    path.chmod(0o600)
    return path


def test_the_password(tmp_path):
    path = secrets_file(tmp_path, '{"_ingest": "one", "_monitor": "two"}')
    assert broker_password(path) == "one"
    assert broker_password(path, "_monitor") == "two"
    assert "one" not in repr(broker_password(path))


@pytest.mark.parametrize("text", ['{"_registry": "x"}', "[]", '{"_ingest": 1}', "no json", ""])
def test_a_file_without_our_password(tmp_path, text):
    with pytest.raises(ConfigError):
        broker_password(secrets_file(tmp_path, text))
