"""Exit statuses of set-up, and that nothing is said when nothing is to do."""

import subprocess
import sys
from pathlib import Path

import pytest

from deploy.setup import __main__ as command
from deploy.setup.packages import NotReady


@pytest.fixture
def ready(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[str]:
    """A host where nothing is missing; the list fills with what was done."""
    done: list[str] = []
    monkeypatch.setattr(command.packages, "missing_for_venv", list)
    monkeypatch.setattr(command.packages, "missing_for_stack", list)
    monkeypatch.setattr(command.packages, "install", lambda names, _: done.append(" ".join(names)))
    monkeypatch.setattr(command, "make_venv", lambda _: done.append("venv"))
    monkeypatch.setattr(command, "fetch_jars", lambda: done.append("jars"))
    monkeypatch.setattr(command, "jar_directory", lambda: tmp_path)
    monkeypatch.setattr(sys, "argv", ["setup"])
    return done


def test_a_ready_host_hears_nothing(ready: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main() == 0
    assert ready == ["venv"]
    assert capsys.readouterr() == ("", "")


def test_all_that_is_missing_in_one_go(ready: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(command.packages, "missing_for_venv", lambda: ["python3.11-venv"])
    monkeypatch.setattr(command.packages, "missing_for_stack", lambda: ["mosquitto"])
    monkeypatch.setattr(command, "jar_directory", lambda: tmp_path / "absent")
    assert command.main() == 0
    assert ready == ["python3.11-venv mosquitto", "venv", "jars"]


def test_for_the_checks_alone_no_server_is_needed(ready: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command.packages, "missing_for_stack", lambda: ["mosquitto"])
    monkeypatch.setattr(sys, "argv", ["setup", "venv"])
    assert command.main() == 0
    assert ready == ["venv"]


@pytest.mark.parametrize(
    ("error", "status"), [(NotReady("do this"), 2), (subprocess.CalledProcessError(100, ["pip", "install"]), 1)]
)
def test_what_cannot_be_done_is_a_line_and_a_status(
    ready: list[str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    error: Exception,
    status: int,
) -> None:
    def fail(_: object) -> None:
        raise error

    monkeypatch.setattr(command, "make_venv", fail)
    assert command.main() == status
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("setup: ")
    assert said.err.count("\n") == 1
