"""What `hub status` says where nothing serves, and how it shows what does. Real processes: test_supervisor.py."""

import json
from pathlib import Path

import pytest

from control_plane import run_dir
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
