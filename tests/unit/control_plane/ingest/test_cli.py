"""`hub ingest`, before any server is asked."""

import pytest

from control_plane.__main__ import main
from shared.config import ConfigError


def test_it_says_what_it_does(capsys):
    with pytest.raises(SystemExit) as ended:
        main(["ingest", "--help"])
    assert ended.value.code == 0
    assert "example: hub ingest" in capsys.readouterr().out


def test_a_mistake_in_the_configuration_is_status_2(monkeypatch, capsys):
    for name in ("HUB_DATABASE_URL", "HUB_KAFKA_BOOTSTRAP", "HUB_MQTT_URL", "HUB_DATA_DIR"):
        monkeypatch.delenv(name, raising=False)
    assert main(["ingest"]) == 2
    told = capsys.readouterr().err
    assert "HUB_MQTT_URL" in told
    assert "HUB_DATA_DIR" in told


def test_it_is_a_config_error_for_whoever_calls_it():
    from control_plane.ingest import service

    with pytest.raises(ConfigError):
        service.main({})
