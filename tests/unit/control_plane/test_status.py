"""What `hub status` says where nothing serves, and how it shows what does. Real processes: test_supervisor.py."""

import json
from pathlib import Path
from typing import Any

import pytest

from control_plane import run_dir, status
from control_plane.__main__ import main
from control_plane.status import _as_text


@pytest.fixture(autouse=True)
def _data_dir(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HUB_DATA_DIR", str(tmp_path))


def test_nothing_serves(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["status"]) == 1
    assert capsys.readouterr().out == "not serving; start it with `hub serve`\n"
    assert main(["status", "--json"]) == 1
    assert json.loads(capsys.readouterr().out) == {"serving": False, "pid": None, "services": []}


def test_services_that_do_not_run_or_answer(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    services = [
        {"name": "a", "pid": None, "phase": "waiting", "restarts": 3, "health_port": 1},
        {"name": "b", "pid": 1, "phase": "running", "restarts": 0, "health_port": 1},
    ]
    with run_dir.alone(tmp_path):
        run_dir.write(tmp_path, {"pid": 7, "health_host": "127.0.0.1", "services": services})
        assert main(["status", "--json"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert [service["missing"] for service in found["services"]] == [["does not run"], ["does not answer yet"]]
    assert not any(service["ready"] for service in found["services"])
    assert found["pid"] == 7


def test_as_a_table() -> None:
    services = [{"name": "api", "pid": 5, "restarts": 1, "ready": False, "missing": ["x", "y"]}]
    lines = _as_text({"serving": True, "pid": 7, "services": services}).splitlines()
    assert lines[1].split() == ["api", "5", "1", "no:", "x;", "y"]


def test_waiting_says_for_whom_and_ends_when_all_are_ready(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def state(*services: tuple[str, bool]) -> dict[str, Any]:
        rows = [{"name": n, "pid": 1, "restarts": 0, "ready": ready, "missing": []} for n, ready in services]
        return {"serving": bool(rows), "pid": 7 if rows else None, "services": rows}

    states = [state(), state(("a", False), ("b", False)), state(("a", True), ("b", False)), state(("b", True))]
    monkeypatch.setattr(status, "status", lambda _: states.pop(0))
    monkeypatch.setattr(status, "_POLL_S", 0.0)
    assert main(["status", "--wait", "60"]) == 0
    said = capsys.readouterr().err.splitlines()
    assert said == ["waiting for `hub serve` to start", "waiting for a, b", "waiting for b"]
    assert states == []


def test_waiting_has_an_end(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["status", "--wait", "0.05"]) == 1
    assert "not serving" in capsys.readouterr().out
