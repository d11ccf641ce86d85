"""What can be said of PostgreSQL without running it: its address, its lock file, its readiness."""

import os
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from deploy.stack.postgres import Postgres

LOCK = "{pid}\n/data\n1700000000\n5432\n\n127.0.0.1\n    112 5\n{state}\n"


@pytest.fixture
def postgres(tmp_path: Path) -> Postgres:
    (tmp_path / "postgres" / "data").mkdir(parents=True)
    return Postgres(tmp_path, 5432)


@pytest.fixture
def lock(postgres: Postgres) -> Callable[[int, str], Path]:
    def write(pid: int, state: str) -> Path:
        path = postgres.home / "data" / "postmaster.pid"
        path.write_text(LOCK.format(pid=pid, state=state))
        return path

    return write


def test_the_address_keeps_its_generated_password(postgres: Postgres, tmp_path: Path) -> None:
    url = urlsplit(postgres.database_url("x"))
    assert (url.scheme, url.username, url.hostname, url.port, url.path) == (
        "postgresql",
        "hub",
        "127.0.0.1",
        5432,
        "/x",
    )
    assert len(url.password or "") >= 32
    assert Postgres(tmp_path, 5432).database_url("x") == url.geturl()
    assert Postgres(_sub(tmp_path), 5432).database_url("x") != url.geturl()
    assert (tmp_path / "postgres-password").stat().st_mode & 0o777 == 0o600


def _sub(folder: Path) -> Path:
    (folder / "other").mkdir()
    return folder / "other"


@pytest.mark.parametrize(
    ("pid", "state", "ready"),
    [(7, "ready   ", True), (7, "starting", False), (8, "ready   ", False)],
)
def test_ready_is_what_this_very_server_says(
    postgres: Postgres, lock: Callable[[int, str], Path], pid: int, state: str, ready: bool
) -> None:
    assert not postgres._ready(7)
    lock(pid, state)
    assert postgres._ready(7) is ready


def test_a_lock_file_half_written_is_not_ready(postgres: Postgres) -> None:
    (postgres.home / "data" / "postmaster.pid").write_text("7\n")
    assert not postgres._ready(7)


def test_a_pid_that_is_no_longer_postgres_is_disowned_and_the_shared_memory_stays_named(
    postgres: Postgres, lock: Callable[[int, str], Path]
) -> None:
    path = lock(os.getpid(), "ready   ")  # alive, but not a server in this directory
    before = path.read_text().splitlines()
    postgres._disown_dead_postmaster()
    after = path.read_text().splitlines()
    assert int(after[0]) > 4_194_304  # the kernel's highest pid
    assert after[1:] == before[1:]


def test_without_a_lock_file_there_is_nothing_to_disown(postgres: Postgres) -> None:
    postgres._disown_dead_postmaster()
    assert list((postgres.home / "data").iterdir()) == []
