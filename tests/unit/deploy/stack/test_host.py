"""Files, directories and ports of ours, and nothing of anybody else's."""

import os
import socket
from pathlib import Path

import pytest

from deploy.stack import host
from deploy.stack.host import Account
from shared.errors import Permanent

OURSELVES = Account(os.getuid(), os.getgid(), ())
SHUT_OUT = Account(os.getuid(), os.getgid(), ("false",))
"""An account for which every look fails: `false test -r …`."""


def test_ports_are_below_the_ephemeral_range() -> None:
    low = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    ports = {host.free_port() for _ in range(50)}
    assert all(host.FIRST_PORT <= port < min(host.LAST_PORT, low) for port in ports)


def test_a_taken_port_is_not_free_and_answers() -> None:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        port = server.getsockname()[1]
        assert not host.is_free(port)
        assert host.answers(port)
    assert host.is_free(port)
    assert not host.answers(port)


def test_ports_are_kept_and_new_names_join_them(tmp_path: Path) -> None:
    first = host.kept_ports(tmp_path, ["a", "b"])
    second = host.kept_ports(tmp_path, ["b", "c"])
    assert second["a"] == first["a"]
    assert second["b"] == first["b"]
    assert len(set(second.values())) == 3


def test_a_private_file_is_whole_and_private(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    path.write_text("old")
    path.chmod(0o644)
    host.write_private(path, "new")
    assert path.read_text() == "new"
    assert path.stat().st_mode & 0o777 == 0o600
    assert [file.name for file in tmp_path.iterdir()] == ["secret"]


def test_directories_that_we_make_can_be_passed_through_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        host.open_dir(tmp_path / "one" / "two", OURSELVES)
    finally:
        os.umask(before)
    assert [(tmp_path / name).stat().st_mode & 0o777 for name in ("one", "one/two")] == [0o711, 0o711]


def test_a_directory_that_was_there_is_not_widened(tmp_path: Path) -> None:
    theirs = tmp_path / "theirs"
    theirs.mkdir(mode=0o700)
    host.open_dir(theirs, OURSELVES)
    with pytest.raises(Permanent, match="cannot be reached"):
        host.open_dir(theirs, SHUT_OUT)
    assert theirs.stat().st_mode & 0o777 == 0o700


@pytest.mark.skipif(os.geteuid() != 0, reason="only root becomes somebody else")
def test_root_hands_servers_to_somebody_else(tmp_path: Path) -> None:
    account = host.server_account()
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    assert account.uid != 0
    assert not account.can_read(closed)
    assert account.can_read(Path("/etc/passwd"))


def test_what_is_out_of_reach_is_copied_once_with_its_parts_in_place(tmp_path: Path) -> None:
    source, copy = tmp_path / "source", tmp_path / "copy"
    for name in ("programs/run", "libraries/lib.so", "rest/large"):
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_text(name)
        (source / name).chmod(0o700)
    parts = ["programs", "libraries"]
    assert host.within_reach(source, parts, "programs/run", copy, OURSELVES) == source
    assert host.within_reach(source, parts, "programs/run", copy, SHUT_OUT) == copy
    assert sorted(str(path.relative_to(copy)) for path in copy.rglob("*") if path.is_file()) == [
        "libraries/lib.so",
        "programs/run",
    ]
    assert (copy / "programs" / "run").stat().st_mode & 0o777 == 0o755
    (copy / "programs" / "run").write_text("kept")
    host.within_reach(source, parts, "programs/run", copy, SHUT_OUT)
    assert (copy / "programs" / "run").read_text() == "kept"


def test_an_absent_program_is_named() -> None:
    assert host.program("sh").name == "sh"
    with pytest.raises(Permanent, match="no-such-program is not installed"):
        host.program("no-such-program")
