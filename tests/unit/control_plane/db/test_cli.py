"""`hub migrate` as a user meets it without servers."""

import json
from pathlib import Path

import pytest

from control_plane.__main__ import main
from control_plane.db.cli import _as_text
from control_plane.db.kafka import Report
from control_plane.db.setup import Done, SetupConfig
from shared.config import Secret


@pytest.fixture
def _servers_away(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HUB_DATABASE_URL", "postgresql://hub:secret@127.0.0.1:1/hub")
    monkeypatch.setenv("HUB_KAFKA_BOOTSTRAP", "127.0.0.1:1")
    monkeypatch.setenv("HUB_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("HUB_ADMIN_TOKEN_FILE", str(tmp_path / "admin-token"))


@pytest.mark.usefixtures("_servers_away")
def test_servers_away_is_status_4_and_one_json_object(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["migrate", "--wait", "0", "--json"]) == 4
    error = json.loads(capsys.readouterr().out)["error"]
    assert error["transient"] is True
    assert "Postgres" in error["message"]


def test_missing_configuration_is_status_2(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HUB_DATABASE_URL", "HUB_KAFKA_BOOTSTRAP", "HUB_DATA_DIR", "HUB_ADMIN_TOKEN_FILE"):
        monkeypatch.delenv(name, raising=False)
    assert main(["migrate"]) == 2
    said = capsys.readouterr().err
    assert "HUB_DATABASE_URL: missing" in said
    assert "HUB_ADMIN_TOKEN_FILE: missing" in said


def test_words_for_what_was_done() -> None:
    config = SetupConfig(Secret("x"), "k", Path("/d"), Path("/d/admin-token"))
    assert _as_text(config, Done([], Report(), False, False)) == "nothing to do"
    report = Report(created=["t"], changed=["t: a 1 -> 2"], left=["t has 2 partitions, not 4"])
    assert _as_text(config, Done(["0001_a.sql"], report, True, True)).splitlines() == [
        "applied 0001_a.sql",
        "created topic t",
        "changed topic t: a 1 -> 2",
        "left as it is: t has 2 partitions, not 4 (partitions are never changed in place)",
        "wrote the first admin token to /d/admin-token",
        "wrote the pseudonym key",
    ]
