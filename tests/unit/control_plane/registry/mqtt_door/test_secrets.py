"""The brokers' door is closed unless a secret for it is there."""

import json
from pathlib import Path

import pytest

from control_plane.registry.mqtt_door.secrets import door_secrets
from shared.config import ConfigError


def written(path: Path, text: str) -> Path:
    path.write_text(text)
    path.chmod(0o600)
    return path


def test_what_is_read_and_what_does_not_show(tmp_path: Path) -> None:
    found = door_secrets(
        written(tmp_path / "s", json.dumps({"_broker": "b1", "_ingest": "i1", "_monitor": "", "x": "y"}))
    )
    assert (found.broker, dict(found.services)) == ("b1", {"_ingest": "i1"})
    assert "b1" not in repr(found)
    assert "i1" not in repr(found)


@pytest.mark.parametrize("text", ['{"_ingest": "i1"}', '{"_broker": ""}'])
def test_without_a_secret_it_is_closed(tmp_path: Path, text: str) -> None:
    assert door_secrets(written(tmp_path / "s", text)).broker is None


@pytest.mark.parametrize("text", ["[]", "x", '"_broker"'])
def test_what_is_no_object_is_said_without_its_text(tmp_path: Path, text: str) -> None:
    with pytest.raises(ConfigError, match="no JSON object"):
        door_secrets(written(tmp_path / "s", text))
