import os
from pathlib import Path
from types import SimpleNamespace

import pytest

from edge_agent.outbox_room import Room


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    disk = SimpleNamespace(f_bavail=1_000, f_frsize=4_096)
    monkeypatch.setattr(os, "statvfs", lambda path: disk)
    return disk


def test_below_the_floor_nothing_is_accepted(tmp_path: Path, disk):
    room = Room(tmp_path / "outbox.db", 1_000_000, 0)
    assert room.lacking() is None
    disk.f_bavail = 200
    assert "1000000 are kept" in room.lacking()


def test_the_reserve_is_laid_by_only_where_there_is_space_and_given_up_at_need(tmp_path: Path, disk):
    room = Room(tmp_path / "outbox.db", 1_000_000, 100_000)
    disk.f_bavail = 250
    room.keep_reserve()
    assert list(tmp_path.iterdir()) == []
    disk.f_bavail = 1_000
    room.keep_reserve()
    (reserve,) = tmp_path.iterdir()
    assert reserve.stat().st_blocks * 512 >= 100_000
    room.keep_reserve()
    room.drop_reserve()
    room.drop_reserve()
    assert list(tmp_path.iterdir()) == []


def test_a_disk_that_refuses_the_reserve_stops_nothing(tmp_path: Path, disk, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    Room(tmp_path / "outbox.db", 1_000, 100_000).keep_reserve()
    assert list(tmp_path.iterdir()) == []
