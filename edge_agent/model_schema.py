"""The model file's schema and its migrations, by sqlite-utils.

Promises: `migrate` brings a file of any earlier version, or none, to the present one; a crash leaves it old or new.
Run as a child process (`python -m edge_agent.model_schema PATH`) for the reason that edge_agent.outbox_schema gives:
what sqlite-utils loads must not stay in the resident agent.
"""

import sqlite3
import sys
from pathlib import Path

import sqlite_utils
from sqlite_utils.migrations import Migrations

from edge_agent.model_store import VERSION

_MIGRATIONS = Migrations("models")


@_MIGRATIONS(name="0001_models")
def _first(db: sqlite_utils.Database) -> None:
    # `used` rises with every save, so the latest used channel is loaded last.
    db.execute(
        "CREATE TABLE channels (device TEXT NOT NULL, metric TEXT NOT NULL, used INTEGER NOT NULL,"
        " state BLOB NOT NULL, PRIMARY KEY (device, metric)) STRICT, WITHOUT ROWID"
    )
    db.execute("CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT, WITHOUT ROWID")


def migrate(path: Path) -> None:
    """Make or renew the model file at `path`. Raises sqlite3.Error."""
    connection = sqlite3.connect(path)
    try:
        db = sqlite_utils.Database(connection)
        _MIGRATIONS.apply(db)
        connection.executescript(f"PRAGMA user_version = {VERSION}; PRAGMA journal_mode = WAL;")
    finally:
        connection.close()


if __name__ == "__main__":
    migrate(Path(sys.argv[1]))
