"""The command line, on a stack that does not run."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.stack import __main__ as command
from deploy.stack.host import reachable_temp_dir


@pytest.fixture
def folder() -> Iterator[Path]:
    folder = reachable_temp_dir("hub-test-")
    yield folder
    for path in sorted(folder.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    folder.rmdir()


def _run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["stack", *arguments])
    return command.main()


def test_status_of_servers_that_are_down(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _run(monkeypatch, "status", "--json", "--data-dir", str(folder)) == 3
    state = json.loads(capsys.readouterr().out)
    assert state["data_dir"] == str(folder)
    assert {name: server["pid"] for name, server in state["servers"].items()} == dict.fromkeys(
        ("postgres", "mosquitto", "kafka")
    )
    assert _run(monkeypatch, "status", "--data-dir", str(folder)) == 3
    assert capsys.readouterr().out.count("\n") == 4


def test_down_when_down_is_done(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert _run(monkeypatch, "down", "--data-dir", str(folder)) == 0


def test_a_directory_that_cannot_be_used_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("deploy.stack.host.Account.can_read", lambda *_: False)
    assert _run(monkeypatch, "up", "--data-dir", str(tmp_path)) == 1
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith(f"stack: {tmp_path} cannot be reached")
