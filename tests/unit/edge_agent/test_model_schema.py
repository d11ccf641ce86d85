import sqlite3
from pathlib import Path

from edge_agent.model_schema import migrate


def test_migrating_again_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "models.db"
    migrate(path)
    connection = sqlite3.connect(path)
    connection.execute("INSERT INTO channels VALUES ('d', 'm', 1, x'00')")
    connection.commit()
    connection.close()
    migrate(path)
    connection = sqlite3.connect(path)
    assert connection.execute("SELECT count(*) FROM channels").fetchone() == (1,)
    assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    connection.close()
