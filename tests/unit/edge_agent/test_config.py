import tomllib
from pathlib import Path

import pytest

from edge_agent.config import VERSION, AgentConfig, load_config, read_key
from edge_agent.identity_files import save
from edge_agent.row import RowClass
from shared.config import ConfigError

ENV = {
    "AGENT_ID": "gw-1",
    "AGENT_DATA_DIR": "/nowhere",
    "AGENT_KEY_FILE": "/nowhere/key",
    "HUB_MQTT_URL": "mqtt://hub:1883",
}


def mistakes(**changes: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load_config(ENV | changes)
    return caught.value.mistakes


def test_the_least_that_is_needed() -> None:
    config = load_config(ENV)
    assert config.local_mqtt_url == "mqtt://127.0.0.1:1883"
    assert (config.scoring, config.model) == (True, "edge")
    assert config.outbox_path == Path("/nowhere/outbox.db")
    assert config.models_path != config.outbox_path


def test_every_missing_setting_is_named_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        load_config({})
    named = " ".join(caught.value.mistakes)
    assert all(name in named for name in ("AGENT_ID", "HUB_MQTT_URL"))


def test_after_enrolment_only_the_directory_is_named(tmp_path: Path) -> None:
    save(
        tmp_path, ca_pem="CA", api_key="k:a.b", certificate_pem=None,
        config={"agent_id": "hall-3", "hub_mqtt_url": "mqtts://hub:8883", "hub_api_url": "https://hub:8443"},
    )  # fmt: skip
    config = load_config({"AGENT_DATA_DIR": str(tmp_path)})
    assert (config.agent_id, config.hub_mqtt_url) == ("hall-3", "mqtts://hub:8883")
    assert read_key(config.key_file)[0] == "k:a"


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("AGENT_ID", "-bad", "an id is"),
        ("HUB_MQTT_URL", "http://hub", "mqtt://host:port"),
        ("HUB_MQTT_URL", "mqtt://hub:99999", "ort"),
        ("HUB_MQTT_URL", "mqtt://hub:0", "mqtt://host:port"),
        ("HUB_MQTT_URL", "mqtt://user:pass@hub:1", "AGENT_KEY_FILE"),
        ("AGENT_LOCAL_MQTT_URL", "127.0.0.1:1883", "mqtt://host:port"),
        ("AGENT_RECEIVE_MAXIMUM", "0", "between 1 and 5000"),
        ("AGENT_RECEIVE_MAXIMUM", "10001", "between 1 and 5000"),
        ("AGENT_EXPIRE_S", "telemetry", "CLASS=SECONDS"),
        ("AGENT_EXPIRE_S", "readings=86400", "classes: alarm, anomaly, event, telemetry"),
        ("AGENT_EXPIRE_S", "telemetry=1d", "CLASS=SECONDS"),
        ("AGENT_EXPIRE_S", "telemetry=nan", "between"),
        ("AGENT_EXPIRE_S", "telemetry=5", "between"),
        ("AGENT_EXPIRE_S", "event=900,event=800", "twice"),
        ("AGENT_COMMIT_EVERY_MS", "0", "between"),
        ("AGENT_HEALTH_READINGS_S", "0.01", "0, or between"),
        ("AGENT_HEALTH_PORT", "70000", "between"),
        ("AGENT_LOG_LEVEL", "loud", "none of"),
        ("AGENT_SCORING", "maybe", "neither true nor false"),
    ],
)
def test_what_does_not_fit_is_said(name: str, value: str, said: str) -> None:
    (mistake,) = mistakes(**{name: value})
    assert mistake.startswith(name)
    assert said in mistake


def test_expiry_is_off_and_set_per_class() -> None:
    assert load_config(ENV).expire_after_s == {}
    config = load_config(ENV | {"AGENT_EXPIRE_S": "telemetry=86400, aggregate=2592000"})
    assert config.expire_after_s == {RowClass.TELEMETRY: 86_400.0, RowClass.AGGREGATE: 2_592_000.0}
    assert len(mistakes(AGENT_EXPIRE_S="x=1,telemetry=0", AGENT_LOG_LEVEL="loud")) == 3


def test_scoring_and_health_readings_can_be_off() -> None:
    config = load_config(ENV | {"AGENT_SCORING": "off", "AGENT_HEALTH_READINGS_S": "0", "AGENT_UNSCORED": "n,count"})
    assert (config.scoring, config.health_readings_s, config.unscored) == (False, 0.0, ("n", "count"))


def test_a_file_gives_what_the_environment_does_not(tmp_path: Path) -> None:
    (tmp_path / "agent.toml").write_text('model = "loda"\nlog_level = "DEBUG"\n')
    env = ENV | {"AGENT_DATA_DIR": str(tmp_path), "AGENT_LOG_LEVEL": "ERROR"}
    config = load_config(env)
    assert (config.model, config.log_level) == ("loda", "ERROR")


def test_no_secret_is_part_of_the_configuration() -> None:
    config = load_config(ENV)
    assert isinstance(config, AgentConfig)
    assert "secret" not in repr(config).lower()


def test_a_key_is_one_line_of_key_id_and_secret(tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_text("k:abc.s3cr.et\n")
    file.chmod(0o600)
    key_id, secret = read_key(file)
    assert (key_id, str(secret)) == ("k:abc", "s3cr.et")
    assert "s3cr" not in repr(secret)


@pytest.mark.parametrize("text", ["k:abc", ".secret", "k:abc.", "k:abc.x y", "a.b\nc.d"])
def test_what_is_no_key_is_refused_without_showing_it(tmp_path: Path, text: str) -> None:
    file = tmp_path / "key"
    file.write_text(text)
    file.chmod(0o600)
    with pytest.raises(ConfigError) as caught:
        read_key(file)
    assert text not in str(caught.value)


def test_a_key_that_others_may_read_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_text("k:abc.secret")
    file.chmod(0o640)
    with pytest.raises(ConfigError, match="chmod 600"):
        read_key(file)


def test_the_version_is_the_package_version() -> None:
    project = tomllib.loads((Path(__file__).parents[3] / "pyproject.toml").read_text())["project"]
    assert project["version"] == VERSION


def test_the_lan_is_open_or_has_keys_never_both() -> None:
    assert "AGENT_LAN_ANONYMOUS" in mistakes(AGENT_LAN_ANONYMOUS="true", AGENT_LAN_DIR="/x")[0]
    assert load_config(ENV | {"AGENT_LAN_DIR": "/x"}).lan_dir == Path("/x")
