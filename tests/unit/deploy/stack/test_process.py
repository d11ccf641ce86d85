"""A process is known again by pid, start and boot, and by nothing less."""

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.stack import process
from deploy.stack.process import Process


@pytest.fixture
def sleeper(tmp_path: Path) -> Iterator[Process]:
    running = _launch(tmp_path, "sleep", "60")
    yield running
    running.send(signal.SIGKILL, 5)


def _launch(folder: Path, *command: str) -> Process:
    files = {"pid_file": folder / "a.pid", "log_file": folder / "a.log"}
    return process.launch(command, **files, cwd=folder, env={"PATH": os.environ["PATH"]})


def test_it_is_the_command_itself_in_a_session_of_its_own(sleeper: Process) -> None:
    assert Path(f"/proc/{sleeper.pid}/comm").read_text() == "sleep\n"
    assert os.getsid(sleeper.pid) == sleeper.pid
    assert process.runs(sleeper.pid, "60")
    assert not process.runs(sleeper.pid, "61")


def test_its_record_finds_it_again(sleeper: Process, tmp_path: Path) -> None:
    assert process.recorded(tmp_path / "a.pid") == sleeper
    assert sleeper.alive()


@pytest.mark.parametrize("field", [1, 2])
def test_a_pid_given_to_somebody_else_is_not_it(sleeper: Process, tmp_path: Path, field: int) -> None:
    words = (tmp_path / "a.pid").read_text().split()
    words[field] = "1" if field == 1 else "another-boot"
    (tmp_path / "a.pid").write_text(" ".join(words))
    assert process.recorded(tmp_path / "a.pid") is None
    stranger = Process(sleeper.pid, int(words[1]), words[2])
    assert stranger.send(signal.SIGKILL, 0.1)
    assert sleeper.alive()


def test_waiting_ends_with_the_process(sleeper: Process, tmp_path: Path) -> None:
    started = time.monotonic()
    assert sleeper.send(signal.SIGTERM, 30)
    assert time.monotonic() - started < 5
    assert not sleeper.alive()
    assert process.recorded(tmp_path / "a.pid") is None


def test_one_that_does_not_obey_is_said(tmp_path: Path) -> None:
    stubborn = _launch(tmp_path, "sh", "-c", "trap '' TERM; echo ready; while :; do sleep 1; done")
    deadline = time.monotonic() + 10
    while "ready" not in (tmp_path / "a.log").read_text():
        assert time.monotonic() < deadline
    assert not stubborn.send(signal.SIGTERM, 0.2)
    assert stubborn.send(signal.SIGKILL, 5)


def test_output_is_appended_to_the_log(tmp_path: Path) -> None:
    for word in ("one", "two"):
        ended = _launch(tmp_path, "sh", "-c", f"echo {word}; echo {word} >&2")
        ended.send(signal.SIGCONT, 5)
    assert (tmp_path / "a.log").read_text() == "one\none\ntwo\ntwo\n"


@pytest.mark.parametrize("text", ["", "12", "x y z", "1 2 3 4"])
def test_a_damaged_record_is_no_process(tmp_path: Path, text: str) -> None:
    (tmp_path / "a.pid").write_text(text)
    assert process.recorded(tmp_path / "a.pid") is None


def test_an_absent_record_is_no_process(tmp_path: Path) -> None:
    assert process.recorded(tmp_path / "a.pid") is None
