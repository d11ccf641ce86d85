"""The lock of `hub serve` and what it says of itself."""

import subprocess
import sys
from pathlib import Path

import pytest

from control_plane import run_dir


def test_one_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_dir, "_LOCK_S", 0.1)
    with run_dir.alone(tmp_path), pytest.raises(run_dir.AlreadyServed, match="hub status"), run_dir.alone(tmp_path):
        pass
    with run_dir.alone(tmp_path):
        pass


def test_what_is_written_is_read_while_the_lock_is_held(tmp_path: Path) -> None:
    assert run_dir.read(tmp_path) is None
    with run_dir.alone(tmp_path):
        assert run_dir.read(tmp_path) is None
        run_dir.write(tmp_path, {"pid": 1})
        assert run_dir.read(tmp_path) == {"pid": 1}
    assert run_dir.read(tmp_path) is None  # what a dead one wrote is not read
    with run_dir.alone(tmp_path):
        run_dir.forget(tmp_path)
        assert run_dir.read(tmp_path) is None


def test_no_child_inherits_the_lock(tmp_path: Path) -> None:
    with run_dir.alone(tmp_path):
        child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, close_fds=False)
    try:
        with run_dir.alone(tmp_path):
            assert child.poll() is None
    finally:
        child.communicate(b"\n")
