"""The outbox's schema and its migrations, by sqlite-utils.

Promises: `migrate` brings a file of any earlier version, or none, to the present one; a crash leaves it old or new.
The resident agent runs this as a child process (`python -m edge_agent.outbox_schema PATH`), and only when the
file's version is not the present one: sqlite-utils loads pandas where it finds it, some 50 MB that must not stay.
"""

import sqlite3
import sys
from pathlib import Path

import sqlite_utils
from sqlite_utils.migrations import Migrations

from edge_agent.outbox import PAGE_BYTES, VERSION

_MIGRATIONS = Migrations("outbox")


@_MIGRATIONS(name="0001_outbox")
def _first(db: sqlite_utils.Database) -> None:
    # In this order: salvage relies on the places of the tables' first pages in a file made at once.
    # A row's `seq` is given by the writer, never twice (meta `tail`), so no AUTOINCREMENT page is written per commit.
    db.execute(
        "CREATE TABLE rows (seq INTEGER PRIMARY KEY, cls INTEGER NOT NULL, wall_ms INTEGER NOT NULL,"
        " boot_ms INTEGER NOT NULL, boot INTEGER NOT NULL, clock INTEGER NOT NULL, record BLOB NOT NULL) STRICT"
    )
    # One per commit: the identities of its messages, and the classes' counts of all rows ever accepted.
    db.execute(
        "CREATE TABLE receipts (id INTEGER PRIMARY KEY, identities BLOB NOT NULL, accepted TEXT NOT NULL) STRICT"
    )
    db.execute(
        "CREATE TABLE batches (epoch TEXT NOT NULL, number INTEGER NOT NULL, lane TEXT NOT NULL,"
        " first INTEGER NOT NULL, last INTEGER NOT NULL, counts TEXT NOT NULL, packed_bytes INTEGER NOT NULL,"
        " PRIMARY KEY (epoch, number)) STRICT, WITHOUT ROWID"
    )
    db.execute(
        "CREATE TABLE epochs (id INTEGER PRIMARY KEY, epoch TEXT NOT NULL UNIQUE, last INTEGER,"
        " known INTEGER NOT NULL DEFAULT 1) STRICT"
    )
    db.execute("CREATE TABLE voids (epoch TEXT NOT NULL, first INTEGER NOT NULL, last INTEGER NOT NULL) STRICT")
    db.execute("CREATE TABLE boots (id INTEGER PRIMARY KEY, boot_id TEXT NOT NULL UNIQUE) STRICT")
    db.execute("CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT, WITHOUT ROWID")


@_MIGRATIONS(name="0002_held")
def _held(db: sqlite_utils.Database) -> None:
    # Rows of devices that wait for approval: in no span, no batch and no ledger until they are moved to `rows`.
    db.execute(
        "CREATE TABLE held (id INTEGER PRIMARY KEY, device TEXT NOT NULL, cls INTEGER NOT NULL,"
        " wall_ms INTEGER NOT NULL, boot_ms INTEGER NOT NULL, boot INTEGER NOT NULL, clock INTEGER NOT NULL,"
        " record BLOB NOT NULL) STRICT"
    )
    db.execute("CREATE INDEX held_device ON held (device, id)")


def migrate(path: Path) -> None:
    """Make or renew the outbox file at `path`. Raises sqlite3.Error."""
    connection = sqlite3.connect(path)
    try:
        # Only before the first page is written, and before WAL.
        connection.executescript(f"PRAGMA page_size = {PAGE_BYTES}; PRAGMA auto_vacuum = INCREMENTAL;")
        db = sqlite_utils.Database(connection)
        _MIGRATIONS.apply(db)
        if connection.execute("PRAGMA user_version").fetchone()[0] != VERSION:
            connection.executescript(f"PRAGMA user_version = {VERSION}; PRAGMA journal_mode = WAL;")
    finally:
        connection.close()


if __name__ == "__main__":
    migrate(Path(sys.argv[1]))
