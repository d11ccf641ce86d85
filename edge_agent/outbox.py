"""The outbox file: accepted rows and the batches that they are in, in SQLite.

Promises: what a `transaction` has committed survives a power cut (WAL, synchronous=FULL). A batch's rows are read
back byte for byte. Rows are deleted only by `free` (with their batch), by `replace_rows` (thinning) and `expire`.
Errors of SQLite leave as Transient (disk full, disk error, locked) or as `OutboxDamaged`.
Leaves when to commit to `edge_agent.outbox_writer`, what a damaged file still holds to `edge_agent.salvage`, and all
decisions to the uplink's core. One thread uses it.

Sequence numbers are given by the caller, ascending, and never twice: `Saved.tail` is the highest ever given.
"""

import sqlite3
import subprocess
import sys
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Self

from edge_agent.ledger import Ledger
from edge_agent.outbox_load import counted, ledger_text, load, read_meta
from edge_agent.row import CLASSES, Counts, Row, RowClass, StoredRow, counts_text
from edge_agent.uplink_state import Batch, Free, Saved, Span
from shared import limits
from shared.batch import ClockQuality
from shared.errors import Permanent, Transient
from shared.ids import Epoch

VERSION = 2
"""The schema's, kept as SQLite's user_version (`edge_agent.outbox_schema`)."""
PAGE_BYTES = 4096
IDENTITIES_KEPT = 20_000
IDENTITY_BYTES = 16
ROW_BYTES = limits.BATCH_PACKED_BYTES - limits.KIB
"""The largest record: packed alone it fits a batch even if it does not compress."""

_CLASS_INDEX = {cls: index for index, cls in enumerate(CLASSES)}
_QUALITIES = tuple(ClockQuality)
_QUALITY_INDEX = {quality: index for index, quality in enumerate(_QUALITIES)}
_DAMAGE = ("SQLITE_CORRUPT", "SQLITE_NOTADB", "SQLITE_FORMAT")
_MIGRATE_S = 120.0


class OutboxDamaged(Exception):  # noqa: N818 - a condition that salvage mends, no HubError: it never leaves the agent
    """The file cannot be read or does not make sense; `edge_agent.salvage` saves what it holds."""


@contextmanager
def sqlite_errors() -> Iterator[None]:
    """Driver's errors by our names."""
    try:
        yield
    except sqlite3.DatabaseError as error:
        name = getattr(error, "sqlite_errorname", "") or ""
        if name.startswith(_DAMAGE) or (not name and "malformed" in str(error)):
            raise OutboxDamaged(str(error)) from error
        if name.startswith(("SQLITE_FULL", "SQLITE_IOERR", "SQLITE_BUSY", "SQLITE_LOCKED", "SQLITE_NOMEM")):
            raise Transient(f"the outbox cannot be written: {error} ({name})", hint="free disk space") from error
        if name.startswith(("SQLITE_CANTOPEN", "SQLITE_READONLY", "SQLITE_PERM", "SQLITE_AUTH")):
            raise Permanent(
                f"the outbox cannot be opened: {error}", hint="check the owner of its directory"
            ) from error
        raise


def prepare(path: Path) -> None:
    """Bring the file to the present schema in a child process, if it is not there. Raises Permanent or Transient."""
    if path.exists() and _version(path) == VERSION:
        return
    command = [sys.executable, "-m", "edge_agent.outbox_schema", str(path)]
    try:
        subprocess.run(command, check=True, capture_output=True, timeout=_MIGRATE_S)
    except subprocess.CalledProcessError as error:
        detail = error.stderr.decode(errors="replace").strip().rsplit("\n", 1)[-1]
        if "malformed" in detail or "not a database" in detail:
            raise OutboxDamaged(detail) from error
        if "is full" in detail or "disk I/O error" in detail:
            raise Transient(f"the outbox cannot be made: {detail}", hint="free disk space") from error
        raise Permanent(f"the outbox cannot be made: {detail}", hint="check disk space and rights") from error
    except subprocess.TimeoutExpired as error:
        raise Permanent(f"making the outbox took longer than {_MIGRATE_S:.0f} s") from error


def _version(path: Path) -> int:
    with sqlite_errors():
        connection = sqlite3.connect(path)
        try:
            return int(connection.execute("PRAGMA user_version").fetchone()[0])
        finally:
            connection.close()


class Outbox:
    """The open file."""

    def __init__(self, path: Path) -> None:
        """Open a file that `prepare` made. Raises OutboxDamaged, Transient or Permanent."""
        self.path = path
        self._epochs: set[Epoch] = set()
        self._boot_ids: dict[str, int] = {}
        self._receipts: deque[tuple[int, int]] = deque()  # (id, identities in it)
        self._identities = 0
        self.held: dict[str, tuple[int, int]] = {}
        """Rows that wait for a device's approval, by device: how many, and bytes of their records."""
        with sqlite_errors():
            self._db = sqlite3.connect(path, isolation_level=None, timeout=5.0)
            try:
                self._settle()
            except BaseException:
                self._db.close()
                raise

    def _settle(self) -> None:
        self._db.execute("PRAGMA synchronous = FULL")
        self._db.execute("PRAGMA temp_store = MEMORY")
        self._db.execute("PRAGMA journal_size_limit = 8388608")
        self._db.execute("PRAGMA cache_size = -512")  # KiB: rows come at one end and leave at the other
        if self._db.execute("PRAGMA quick_check(1)").fetchone()[0] != "ok":
            raise OutboxDamaged("quick_check failed")
        self._remember()

    def _remember(self) -> None:
        """Read what is remembered of small tables: at the start, and when a rollback made it untrue."""
        self._epochs = {Epoch(epoch) for (epoch,) in self._db.execute("SELECT epoch FROM epochs")}
        self._boot_ids = {boot: key for key, boot in self._db.execute("SELECT id, boot_id FROM boots")}
        receipts = self._db.execute("SELECT id, length(identities) FROM receipts ORDER BY id")
        self._receipts = deque((key, size // IDENTITY_BYTES) for key, size in receipts)
        self._identities = sum(count for _, count in self._receipts)
        held = self._db.execute("SELECT device, count(*), sum(length(record)) FROM held GROUP BY device")
        self.held = {device: (rows, size) for device, rows, size in held}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file; an open transaction is rolled back."""
        self._db.close()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Everything within is committed together, durably, or nothing of it."""
        with sqlite_errors():
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._db.execute("COMMIT")
            except BaseException:
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                self._remember()
                raise

    def load(self) -> Saved:
        """What a start needs to know. The ledger is set against the rows: what is missing counts as damaged.

        Raises OutboxDamaged if the tables contradict one another.
        """
        with sqlite_errors():
            try:
                return load(self._db)
            except (ValueError, KeyError, TypeError) as error:
                raise OutboxDamaged(f"the outbox does not make sense: {error!r}") from error

    def recent_identities(self) -> list[bytes]:
        """The newest identities, oldest first, at most `IDENTITIES_KEPT`."""
        with sqlite_errors():
            blobs = [blob for (blob,) in self._db.execute("SELECT identities FROM receipts ORDER BY id")]
        found = [blob[at : at + IDENTITY_BYTES] for blob in blobs for at in range(0, len(blob), IDENTITY_BYTES)]
        return found[-IDENTITIES_KEPT:]

    # The following are called within a transaction.

    def append(self, after: int, rows: Sequence[Row], identities: Sequence[bytes], accepted: Counts) -> None:
        """Store rows as after + 1 …; `accepted`: the classes' counts with them."""
        assert all(len(row.record) <= ROW_BYTES for row in rows), "a record that fits no batch"
        assert all(len(item) == IDENTITY_BYTES for item in identities), "an identity of 16 bytes"
        boots = {row.boot_id: self._boot(row.boot_id) for row in rows}
        self._db.executemany(
            "INSERT INTO rows VALUES (?, ?, ?, ?, ?, ?, ?)",
            (
                (
                    seq,
                    _CLASS_INDEX[row.cls],
                    row.wall_ms,
                    row.boot_ms,
                    boots[row.boot_id],
                    _QUALITY_INDEX[row.clock],
                    row.record,
                )
                for seq, row in enumerate(rows, after + 1)
            ),
        )
        key = self._db.execute(
            "INSERT INTO receipts (identities, accepted) VALUES (?, ?)", (b"".join(identities), counts_text(accepted))
        ).lastrowid
        assert key is not None
        self._receipts.append((key, len(identities)))
        self._identities += len(identities)
        self._trim_receipts()

    def _boot(self, boot_id: str) -> int:
        if boot_id not in self._boot_ids:
            key = self._db.execute("INSERT INTO boots (boot_id) VALUES (?)", (boot_id,)).lastrowid
            assert key is not None
            self._boot_ids[boot_id] = key
        return self._boot_ids[boot_id]

    def _trim_receipts(self) -> None:
        if self._identities < IDENTITIES_KEPT + IDENTITIES_KEPT // 4 and len(self._receipts) < 2 * IDENTITIES_KEPT:
            return  # in slices: a delete a commit would cost a page each time
        oldest = None
        while len(self._receipts) > 1 and (
            self._identities - self._receipts[0][1] >= IDENTITIES_KEPT or len(self._receipts) > IDENTITIES_KEPT
        ):
            oldest, count = self._receipts.popleft()
            self._identities -= count
        if oldest is not None:
            self._db.execute("DELETE FROM receipts WHERE id <= ?", (oldest,))

    def read(self, span: Span, most: int) -> Iterator[tuple[int, int, bytes]]:
        """The first `most` rows of a span: sequence number, class's place in `CLASSES`, record."""
        with sqlite_errors():
            yield from self._db.execute(
                "SELECT seq, cls, record FROM rows WHERE seq BETWEEN ? AND ? ORDER BY seq LIMIT ?", (*span, most)
            )

    def save_batch(self, batch: Batch) -> None:
        """A batch was formed."""
        if batch.epoch not in self._epochs:
            self._db.execute("INSERT INTO epochs (epoch, last) VALUES (?, 0)", (batch.epoch,))
            self._epochs.add(batch.epoch)
        self._db.execute(
            "INSERT INTO batches VALUES (?, ?, ?, ?, ?, ?, ?)",
            (batch.epoch, batch.number, batch.lane.value, *batch.span, counts_text(batch.counts), batch.packed_bytes),
        )

    def free(self, free: Free, tail: int) -> None:
        """Acknowledged batches leave, with their rows."""
        for batch in free.batches:
            self._db.execute("DELETE FROM rows WHERE seq BETWEEN ? AND ?", batch.span)
            self._db.execute("DELETE FROM batches WHERE epoch = ? AND number = ?", batch.key)
            self._db.execute("UPDATE epochs SET last = ?2 WHERE epoch = ?1 AND last < ?2", batch.key)
        for name in free.epochs:
            self._db.execute("DELETE FROM epochs WHERE epoch = ?", (name,))
            self._epochs.discard(name)
        if self._one("SELECT count(*) FROM voids") != len(free.voids):
            self._db.execute("DELETE FROM voids")
            self._db.executemany("INSERT INTO voids VALUES (?, ?, ?)", free.voids)
        self.save_ledger(free.ledger)
        self.set_meta("tail", str(tail))

    def replace_rows(self, seqs: Iterable[int], rows: Iterable[tuple[int, Row]]) -> None:
        """Thinning: these rows leave, and these take places among theirs."""
        self._db.executemany("DELETE FROM rows WHERE seq = ?", ((seq,) for seq in seqs))
        self._db.executemany(
            "INSERT INTO rows VALUES (?, ?, ?, ?, ?, ?, ?)",
            (
                (
                    seq,
                    _CLASS_INDEX[row.cls],
                    row.wall_ms,
                    row.boot_ms,
                    self._boot(row.boot_id),
                    _QUALITY_INDEX[row.clock],
                    row.record,
                )
                for seq, row in rows
            ),
        )

    def hold(self, items: Sequence[tuple[str, Row]]) -> None:
        """Keep rows of devices that wait for approval, in order."""
        self._db.executemany(
            "INSERT INTO held (device, cls, wall_ms, boot_ms, boot, clock, record) VALUES (?, ?, ?, ?, ?, ?, ?)",
            (
                (
                    device,
                    _CLASS_INDEX[row.cls],
                    row.wall_ms,
                    row.boot_ms,
                    self._boot(row.boot_id),
                    _QUALITY_INDEX[row.clock],
                    row.record,
                )
                for device, row in items
            ),
        )
        for device, row in items:
            rows, size = self.held.get(device, (0, 0))
            self.held[device] = rows + 1, size + len(row.record)

    def unhold(self, device: str, last: int) -> int:
        """The device's held rows up to this id are elsewhere now, or given up; how many they were."""
        gone = self._db.execute(
            "DELETE FROM held WHERE device = ? AND id <= ? RETURNING length(record)", (device, last)
        ).fetchall()
        rows, size = self.held.get(device, (0, 0))
        if rows > len(gone):
            self.held[device] = rows - len(gone), size - sum(length for (length,) in gone)
        else:
            self.held.pop(device, None)
        return len(gone)

    def expire(self, span: Span, cls: RowClass, before_ms: int, most: int) -> int:
        """Delete up to `most` rows of a class that were surely accepted before `before_ms` (epoch); how many."""
        found = self._db.execute(
            "DELETE FROM rows WHERE seq IN (SELECT seq FROM rows WHERE seq BETWEEN ? AND ? AND cls = ?"
            " AND wall_ms < ? AND clock <> ? LIMIT ?)",
            (*span, _CLASS_INDEX[cls], before_ms, _QUALITY_INDEX[ClockQuality.UNSYNCED], most),
        )
        return found.rowcount

    def save_ledger(self, ledger: Ledger) -> None:
        """The ledger as it is with this transaction."""
        self.set_meta("ledger", ledger_text(ledger))

    def set_meta(self, name: str, value: str) -> None:
        """Remember a word."""
        self._db.execute(
            "INSERT INTO meta VALUES (?1, ?2) ON CONFLICT (name) DO UPDATE SET value = ?2", (name, value)
        )

    def dissolve(self) -> None:
        """Forget all batches, epochs and voids: their rows wait again."""
        for table in ("batches", "epochs", "voids"):
            self._db.execute(f"DELETE FROM {table}")  # noqa: S608 - the three names stand above
        self._epochs.clear()

    # The following stand alone.

    def meta(self, name: str) -> str | None:
        """A remembered word."""
        with sqlite_errors():
            return read_meta(self._db, name)

    def rows(self, span: Span, most: int) -> list[StoredRow]:
        """Whole rows of a span, at most `most`, for thinning and inspection."""
        return self._whole("seq BETWEEN ? AND ? ORDER BY seq LIMIT ?", (*span, most))

    def held_rows(self, device: str, most: int) -> list[tuple[int, Row]]:
        """The oldest held rows of a device, with their ids."""
        query = (
            "SELECT held.id, cls, wall_ms, boot_ms, boot_id, clock, record FROM held"
            " JOIN boots ON boots.id = held.boot WHERE device = ? ORDER BY held.id LIMIT ?"
        )
        with sqlite_errors():
            return [
                (key, Row(CLASSES[cls], wall_ms, boot_ms, boot_id, _QUALITIES[clock], record))
                for key, cls, wall_ms, boot_ms, boot_id, clock, record in self._db.execute(query, (device, most))
            ]

    def unsynced(self, span: Span, boot_id: str) -> list[StoredRow]:
        """Whole rows of a span that this boot stamped while its clock was not synchronised."""
        where = "seq BETWEEN ? AND ? AND rows.clock = ? AND boot_id = ? ORDER BY seq"
        return self._whole(where, (*span, _QUALITY_INDEX[ClockQuality.UNSYNCED], boot_id))

    def _whole(self, where: str, values: tuple[int | str, ...]) -> list[StoredRow]:
        columns = "SELECT seq, cls, wall_ms, boot_ms, boot_id, clock, record FROM rows"
        query = f"{columns} JOIN boots ON boots.id = rows.boot WHERE {where}"
        with sqlite_errors():
            return [
                StoredRow(seq, CLASSES[cls], wall_ms, boot_ms, boot_id, _QUALITIES[clock], record)
                for seq, cls, wall_ms, boot_ms, boot_id, clock, record in self._db.execute(query, values)
            ]

    def unused_bytes(self) -> int:
        """Bytes of pages in the file that rows may use before it grows."""
        with sqlite_errors():
            return self._one("PRAGMA freelist_count") * PAGE_BYTES

    def counted(self) -> Counts:
        """How many rows of each class the file holds."""
        with sqlite_errors():
            return counted(self._db)

    def used_bytes(self) -> int:
        """Bytes of pages in use."""
        with sqlite_errors():
            pages = self._one("PRAGMA page_count") - self._one("PRAGMA freelist_count")
        return pages * PAGE_BYTES

    def checkpoint(self) -> None:
        """Move the log into the file, and give the log's space back. Raises Transient where there is no space."""
        with sqlite_errors():
            self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()

    def shrink(self, pages: int) -> None:
        """Give up to `pages` unused pages back to the file system, if many are unused."""
        with sqlite_errors():
            unused = self._one("PRAGMA freelist_count")
            if unused >= 2 * pages and unused * 4 >= self._one("PRAGMA page_count"):
                # execute() would free one page only; the file gets shorter when the log is moved into it.
                self._db.executescript(f"PRAGMA incremental_vacuum({pages})")
                self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()

    def _one(self, query: str) -> int:
        return int(self._db.execute(query).fetchone()[0])
