import sqlite3
from pathlib import Path

import pytest

from edge_agent.model_store import VERSION, ModelStore
from shared.errors import Transient

A, B, C = ("d1", "t"), ("d1", "v"), ("d2", "t")


def saved(path: Path, *channels: tuple[tuple[str, str], bytes]) -> Path:
    store = ModelStore(path, "edge")
    store.save(channels)
    store.close()
    return path


def loaded(path: Path, model: str = "edge") -> tuple[list[tuple[tuple[str, str], bytes]], str | None]:
    store = ModelStore(path, model)
    try:
        return list(store.load()), store.cold_reason
    finally:
        store.close()


def test_what_was_saved_is_loaded_the_latest_used_last(models_file: Path) -> None:
    path = saved(models_file, (A, b"1"), (B, b"2"))
    saved(path, (C, b"3"), (A, b"4"))
    assert loaded(path) == ([(B, b"2"), (C, b"3"), (A, b"4")], None)


def test_a_channel_that_is_gone_is_deleted(models_file: Path) -> None:
    path = saved(models_file, (A, b"1"), (B, b"2"))
    store = ModelStore(path, "edge")
    store.save([(C, b"3")], [A])
    store.close()
    assert loaded(path)[0] == [(B, b"2"), (C, b"3")]


def test_another_model_starts_cold_and_says_so(models_file: Path) -> None:
    path = saved(models_file, (A, b"1"))
    channels, reason = loaded(path, "loda")
    assert channels == []
    assert reason == "the model file is of model 'edge', this is 'loda'"
    assert loaded(path, "loda") == ([], None)


@pytest.mark.parametrize("damage", [b"this is no database" * 300, b""])
def test_a_damaged_file_is_put_aside_and_scoring_starts_cold(models_file: Path, damage: bytes) -> None:
    path = saved(models_file, *((("d", str(n)), b"x" * 9_000) for n in range(20)))
    data = path.read_bytes()
    path.write_bytes(damage or data[:9_000] + b"\xff" * 40_000 + data[49_000:])
    channels, reason = loaded(path)
    assert channels == []
    assert reason is not None
    assert "damaged" in reason
    assert path.with_name("models.db.damaged").exists()
    assert loaded(path) == ([], None)


def test_a_file_that_cannot_be_made_is_transient_and_nothing_is_put_aside(models_file: Path) -> None:
    models_file.unlink()
    models_file.mkdir()
    with pytest.raises(Transient):
        ModelStore(models_file, "edge")
    assert models_file.is_dir()


def test_a_failed_save_is_transient(models_file: Path) -> None:
    store = ModelStore(models_file, "edge")
    other = sqlite3.connect(models_file, isolation_level=None)
    store._db.execute("PRAGMA busy_timeout = 1")
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(Transient, match="locked"):
        store.save([(A, b"1")])
    other.execute("ROLLBACK")
    store.save([(A, b"2")])
    other.close()
    store.close()
    assert loaded(models_file)[0] == [(A, b"2")]


def test_the_schema_has_the_version_that_the_store_expects(models_file: Path) -> None:
    path = saved(models_file)
    connection = sqlite3.connect(path)
    assert connection.execute("PRAGMA user_version").fetchone() == (VERSION,)
    connection.close()


def test_a_missing_file_is_made(tmp_path: Path) -> None:
    path = saved(tmp_path / "new.db", (A, b"1"))
    assert loaded(path) == ([(A, b"1")], None)
