"""What the detectors have learned, in a SQLite file of its own, apart from the outbox.

Promises: no trouble with this file ever stops the agent. What cannot be read is put aside (`.damaged`) and scoring
starts cold, which is said; what cannot be written is said, and written when its channel has learned again. A power
cut costs at most what was learned since the last save.
"""

import sqlite3
import subprocess
import sys
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

from edge_agent.anomaly.scorer import ChannelKey
from shared.errors import Transient

VERSION = 1
_MIGRATE_S = 120.0


class ModelStore:
    """The open file. Used from one thread at a time.

    `cold_reason`: why nothing could be loaded, or None.
    """

    def __init__(self, path: Path, model: str) -> None:
        """Open or make it. Raises Transient if neither is possible now."""
        self.path = path
        self.cold_reason: str | None = None
        try:
            self._db = self._opened()
            self._used = self._newest()
            self._settle_model(model)
        except sqlite3.DatabaseError as error:
            raise Transient(f"the model file cannot be used: {error}") from error

    def load(self) -> Iterator[tuple[ChannelKey, bytes]]:
        """The stored channels, the latest used last. What turns out unreadable ends them, and sets `cold_reason`."""
        try:
            for device, metric, state in self._db.execute("SELECT device, metric, state FROM channels ORDER BY used"):
                yield (device, metric), state
        except sqlite3.DatabaseError as error:
            self.cold_reason = f"the model file is damaged: {error}"

    def save(self, channels: Iterable[tuple[ChannelKey, bytes]], gone: Iterable[ChannelKey] = ()) -> None:
        """Write these states and delete these channels, in one transaction. Raises Transient."""
        rows = []
        for (device, metric), state in channels:
            self._used += 1
            rows.append((device, metric, self._used, state))
        try:
            with self._db:
                self._db.executemany("INSERT OR REPLACE INTO channels VALUES (?, ?, ?, ?)", rows)
                self._db.executemany("DELETE FROM channels WHERE device = ? AND metric = ?", gone)
        except sqlite3.DatabaseError as error:
            raise Transient(f"the model file cannot be written: {error}") from error

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    def _opened(self) -> sqlite3.Connection:
        try:
            return _open(self.path)
        except sqlite3.DatabaseError as error:
            if not _is_damage(error):
                raise
            self.cold_reason = f"the model file was damaged: {error}"
        self._put_aside()
        return _open(self.path)

    def _settle_model(self, model: str) -> None:
        known = self._db.execute("SELECT value FROM meta WHERE name = 'model'").fetchone()
        if known is not None and known[0] == model:
            return
        if known is not None:
            self.cold_reason = f"the model file is of model {known[0]!r}, this is {model!r}"
        with self._db:
            self._db.execute("DELETE FROM channels")
            self._db.execute("INSERT OR REPLACE INTO meta VALUES ('model', ?)", (model,))

    def _newest(self) -> int:
        newest: int | None = self._db.execute("SELECT max(used) FROM channels").fetchone()[0]
        return newest or 0

    def _put_aside(self) -> None:
        for suffix in ("-wal", "-shm"):
            self.path.with_name(self.path.name + suffix).unlink(missing_ok=True)
        with suppress(FileNotFoundError):
            self.path.replace(self.path.with_name(self.path.name + ".damaged"))


def _open(path: Path) -> sqlite3.Connection:
    _prepare(path)
    connection = sqlite3.connect(path, timeout=5.0, check_same_thread=False)
    try:
        connection.execute("PRAGMA synchronous = NORMAL")
        connection.execute("PRAGMA journal_size_limit = 4194304")
        verdict = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
    except BaseException:
        connection.close()
        raise
    if verdict == "ok":
        return connection
    connection.close()
    raise _Damaged(verdict)


def _is_damage(error: sqlite3.DatabaseError) -> bool:
    name = getattr(error, "sqlite_errorname", "") or ""
    return isinstance(error, _Damaged) or name.startswith(("SQLITE_CORRUPT", "SQLITE_NOTADB", "SQLITE_FORMAT"))


class _Damaged(sqlite3.DatabaseError):
    """quick_check found the file damaged."""


def _prepare(path: Path) -> None:
    """Bring the file to the present schema, in a child process if it is not there yet."""
    if path.exists():
        connection = sqlite3.connect(path)
        try:
            if connection.execute("PRAGMA user_version").fetchone()[0] == VERSION:
                return
        finally:
            connection.close()
    command = [sys.executable, "-m", "edge_agent.model_schema", str(path)]
    done = subprocess.run(command, check=False, capture_output=True, timeout=_MIGRATE_S)
    if done.returncode != 0:
        raise sqlite3.OperationalError(done.stderr.decode(errors="replace").strip().rsplit("\n", 1)[-1])
