"""`hub` commands as a user types them, against a real HTTP server that records what it was asked."""

from pathlib import Path
from typing import Any

import pytest

from control_plane.__main__ import main
from control_plane.db.secret_files import ensure_token
from tests.unit.control_plane.registry.test_rest_client import Answer, server


class Hub:
    """Runs commands against scripted answers."""

    def __init__(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        ensure_token(tmp_path / "token")
        monkeypatch.setenv("HUB_ADMIN_TOKEN_FILE", str(tmp_path / "token"))
        self._monkeypatch = monkeypatch
        self._capsys = capsys
        self.asked: list[dict[str, Any]] = []

    def __call__(self, *words: str, answers: list[Answer]) -> tuple[int, str, str]:
        with server(answers) as (url, self.asked):
            self._monkeypatch.setenv("HUB_API_URL", url)
            status = main(words)
        said = self._capsys.readouterr()
        return status, said.out, said.err


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Hub:
    return Hub(tmp_path, monkeypatch, capsys)
