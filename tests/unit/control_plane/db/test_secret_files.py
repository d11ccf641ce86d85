"""Secret files are made once, whole and closed to others; what is no such file is refused."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from control_plane.db import secret_files
from shared.config import ConfigError
from shared.errors import Permanent


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


def test_a_token_is_made_once_and_kept(tmp_path: Path) -> None:
    path = tmp_path / "new" / "admin-token"
    token, made = secret_files.ensure_token(path)
    assert made
    assert (mode(path), mode(path.parent)) == (0o600, 0o700)
    assert secret_files.ensure_token(path) == (token, False)
    assert [entry.name for entry in path.parent.iterdir()] == ["admin-token"]


def test_a_file_that_others_may_read_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "t"
    secret_files.ensure_token(path)
    path.chmod(0o640)
    with pytest.raises(ConfigError, match="others may read it"):
        secret_files.ensure_token(path)


def test_a_file_with_something_else_is_refused_and_kept(tmp_path: Path) -> None:
    path = tmp_path / "t"
    secret_files.create_once(path, "password\n")
    with pytest.raises(Permanent, match="holds no token"):
        secret_files.ensure_token(path)
    with pytest.raises(Permanent, match="32 bytes"):
        secret_files.ensure_pseudonym_key(path)
    assert path.read_text() == "password\n"


def test_the_pseudonym_key_is_made_once(tmp_path: Path) -> None:
    path = tmp_path / "pseudonym.key"
    assert secret_files.ensure_pseudonym_key(path)
    key = path.read_text()
    assert len(bytes.fromhex(key)) == 32
    assert mode(path) == 0o600
    assert not secret_files.ensure_pseudonym_key(path)
    assert path.read_text() == key


def test_of_many_makers_one_wins(tmp_path: Path) -> None:
    path = tmp_path / "one"

    def make(number: int) -> bool:
        return secret_files.create_once(path, f"{number}\n")

    with ThreadPoolExecutor(8) as threads:
        made = list(threads.map(make, range(40)))
    assert made.count(True) == 1
    assert path.read_text() == f"{made.index(True)}\n"
    assert list(tmp_path.iterdir()) == [path]


def test_a_place_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(Permanent, match="cannot be written"):
        secret_files.create_once(tmp_path / "file" / "below", "x")
