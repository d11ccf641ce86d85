"""A secret in a file of its own."""

import errno
import os
import stat
from pathlib import Path

import pytest

from control_plane.registry.secret_output import SecretFile
from shared.errors import Permanent


def test_what_was_kept_stays_and_is_private(tmp_path: Path) -> None:
    path = tmp_path / "key"
    with SecretFile(path) as file:
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert file.keep("secret") is None
    assert path.read_text() == "secret\n"


def test_what_was_not_kept_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), SecretFile(tmp_path / "key"):
        raise ZeroDivisionError
    assert list(tmp_path.iterdir()) == []


def test_where_none_can_be_it_says_so(tmp_path: Path) -> None:
    (tmp_path / "there").touch()
    for path in (tmp_path / "there", tmp_path / "nowhere" / "key"):
        with pytest.raises(Permanent):
            SecretFile(path)
    assert (tmp_path / "there").exists()


def test_a_full_disk_is_told_in_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with SecretFile(tmp_path / "key") as file:
        monkeypatch.setattr(os, "fsync", full)
        assert file.keep("secret") == "No space left on device"
    assert list(tmp_path.iterdir()) == []
