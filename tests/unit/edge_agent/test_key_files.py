"""The key's files: durable one by one, the owner's alone, and whole whatever was cut."""

import os
import stat
from pathlib import Path

import pytest

from edge_agent.key_files import HeldKey, KeyFiles
from shared.config import ConfigError, Secret
from shared.errors import Permanent

OLD, NEW = HeldKey("k:old", Secret("secret-1")), HeldKey("k:new", Secret("secret-2"))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "key"
    path.touch(mode=0o600)
    path.write_text(OLD.text + "\n")
    return path


def test_the_present_key_alone(path: Path) -> None:
    disk = KeyFiles(path).load()
    assert (disk.present, disk.new, disk.asked) == (OLD, None, None)
    assert "secret-1" not in repr(disk)


def test_each_step_is_found_again(path: Path) -> None:
    KeyFiles(path).request("once")
    assert KeyFiles(path).load().asked == "once"
    KeyFiles(path).keep_new(NEW)
    disk = KeyFiles(path).load()
    assert (disk.present, disk.new, disk.asked) == (OLD, NEW, None)
    KeyFiles(path).promote()
    disk = KeyFiles(path).load()
    assert (disk.present, disk.new) == (NEW, None)
    assert sorted(file.name for file in path.parent.iterdir()) == ["key"]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_request_and_a_new_key_can_be_given_up(path: Path) -> None:
    files = KeyFiles(path)
    files.request("once")
    files.no_request()
    files.no_request()
    files.keep_new(NEW)
    files.drop_new()
    assert files.load().present == OLD
    assert [file.name for file in path.parent.iterdir()] == ["key"]


def test_the_new_key_is_the_owner_s_alone_whatever_the_umask(path: Path) -> None:
    before = os.umask(0)
    try:
        KeyFiles(path).keep_new(NEW)
    finally:
        os.umask(before)
    assert stat.S_IMODE((path.parent / "key.new").stat().st_mode) == 0o600


def test_what_a_cut_left_half_written_is_no_key(path: Path) -> None:
    (path.parent / "key.new.part").write_text("k:ne")
    (path.parent / "key.new").touch(mode=0o600)
    files = KeyFiles(path)
    assert files.load().new is None
    files.keep_new(NEW)
    assert files.load().new == NEW


def test_each_change_reaches_the_disk_before_the_call_returns(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[str] = []
    real = os.fsync

    def watched(handle: int) -> None:
        synced.append("directory" if stat.S_ISDIR(os.fstat(handle).st_mode) else "file")
        real(handle)

    monkeypatch.setattr(os, "fsync", watched)
    KeyFiles(path).keep_new(NEW)
    assert synced[:2] == ["file", "directory"]
    synced.clear()
    KeyFiles(path).promote()
    assert synced == ["directory"]


def test_a_missing_key_is_a_mistake_and_a_closed_directory_is_said(path: Path) -> None:
    with pytest.raises(ConfigError):
        KeyFiles(path.with_name("none")).load()
    with pytest.raises(Permanent, match="cannot be written"):
        KeyFiles(Path("/proc/none") / "key").request("x")
