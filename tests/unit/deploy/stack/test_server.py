"""Starting, stopping and killing, on a small server of our own account."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.stack import host
from deploy.stack.host import Account
from deploy.stack.server import Server
from shared.errors import Permanent, Transient

_LISTEN = """
import socket, sys
server = socket.create_server(("127.0.0.1", int(sys.argv[1])))
while True:
    server.accept()[0].close()
"""


class Listener(Server):
    name = "listener"
    retry_after_log = "not yet"
    script = _LISTEN

    def __init__(self, root: Path, port: int) -> None:
        super().__init__(root, port)
        self.account = Account(os.getuid(), os.getgid(), ())
        self.prepared = 0

    def _prepare(self) -> None:
        self.prepared += 1

    def _command(self) -> list[str]:
        return [sys.executable, "-c", self.script, str(self.port), str(self.home)]

    def _ready(self, pid: int) -> bool:
        return host.answers(self.port)


@pytest.fixture
def listener(tmp_path: Path) -> Iterator[Listener]:
    server = Listener(tmp_path, host.free_port())
    yield server
    server.stop()


def test_start_is_idempotent_also_for_another_object(listener: Listener, tmp_path: Path) -> None:
    assert not listener.is_running()
    listener.start()
    pid = listener.pid
    again = Listener(tmp_path, listener.port)
    again.start()
    assert (again.pid, again.prepared) == (pid, 0)


def test_stopped_and_killed_servers_start_again_on_the_same_port(listener: Listener) -> None:
    for end in (listener.stop, listener.kill):
        listener.start()
        assert host.answers(listener.port)
        end()
        assert listener.pid is None
        assert not host.answers(listener.port)
    listener.start()
    assert listener.prepared == 3


def test_ending_what_does_not_run_is_nothing(listener: Listener) -> None:
    listener.stop()
    listener.kill()
    listener.start()
    listener.stop()
    listener.stop()


def test_one_that_ends_at_once_shows_the_end_of_its_log(listener: Listener) -> None:
    listener.script = "print('because of this'); raise SystemExit(1)"
    with pytest.raises(Transient, match="because of this"):
        listener.start()
    assert listener.prepared == 1


def test_one_whose_predecessor_lingers_is_started_again(listener: Listener) -> None:
    listener.script = (
        "import pathlib, sys\n"
        "mark = pathlib.Path(sys.argv[2]) / 'second'\n"
        "if not mark.exists():\n    mark.touch()\n    sys.exit('not yet')\n" + _LISTEN
    )
    listener.start()
    assert listener.prepared == 2


def test_an_old_line_in_the_log_is_no_reason_to_try_again(listener: Listener) -> None:
    listener.log_path.parent.mkdir()
    listener.log_path.write_text("not yet\n")
    listener.script = "raise SystemExit(1)"
    with pytest.raises(Transient):
        listener.start()
    assert listener.prepared == 1


def test_a_taken_port_is_said_and_nothing_started(listener: Listener, tmp_path: Path) -> None:
    listener.start()
    (tmp_path / "other").mkdir()
    rival = Listener(tmp_path / "other", listener.port)
    with pytest.raises(Permanent, match="taken by another program"):
        rival.start()
    assert not rival.is_running()


def test_a_long_log_becomes_the_previous_one(listener: Listener, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("deploy.stack.server._LOG_BYTES", 3)
    listener.log_path.parent.mkdir()
    listener.log_path.write_text("long")
    listener.start()
    assert (listener.log_path.parent / "listener.log.1").read_text() == "long"
