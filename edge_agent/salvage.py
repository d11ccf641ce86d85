"""A damaged outbox: what can still be read goes into a new file, the old one is kept aside.

Promises: readable rows, batches, epochs, identities and counters survive; the damaged file is renamed, never emptied,
and kept until three later ones were put aside (each may be as large as the outbox); a crash at any moment leaves
either the damaged file (and salvage begins again) or the new one.
A file whose first page is gone is read with that of a new file of the same schema; its own is kept beside it.
Leaves the decision what to tell the hub to `edge_agent.salvage_plan`.
"""

import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from edge_agent.leaf_pages import cells
from edge_agent.ledger import Ledger
from edge_agent.outbox import IDENTITY_BYTES, PAGE_BYTES, prepare, sqlite_errors
from edge_agent.outbox_load import counted, ledger_text, read_ledger, read_meta
from edge_agent.row import CLASSES, Counts, counts_of, counts_text
from edge_agent.salvage_plan import Mended, mend
from edge_agent.uplink_state import Batch, OldEpoch, Span, Void
from shared.batch import Lane, decode_record
from shared.errors import Rejected
from shared.ids import Epoch, is_epoch

_REACH = 100_000  # how far beyond the known sequence numbers rows are looked for when the ends cannot be read
_COLUMNS = 7  # of a row
_ROW_BYTES = 64  # no stored row is smaller
_KEPT = 3  # damaged files
_UNREADABLE = (sqlite3.DatabaseError, ValueError, TypeError, UnicodeDecodeError)


@dataclass(frozen=True, slots=True)
class Report:
    """What was done. `kept_as`: the damaged file's new name."""

    kept_as: Path
    rows: int
    lost: int
    at_most: int


def salvage(path: Path, stamp_ms: int) -> Report:
    """Replace the damaged file at `path`. Raises Transient if the disk does not let us; then nothing has changed."""
    fresh = _beside(path, ".salvage")
    _discard(fresh)
    kept_as = _beside(path, f".damaged-{stamp_ms}")
    try:
        prepare(fresh)
        if not _opens(path):
            _lend_first_page(path, fresh)
        at_most = path.stat().st_size // _ROW_BYTES
        connect = sqlite3.connect
        with sqlite_errors(), closing(connect(path)) as old, closing(connect(fresh, isolation_level=None)) as new:
            new.execute("PRAGMA synchronous = FULL")
            new.execute("BEGIN")
            ledger = _copy(old, new, path, at_most)
            new.execute("COMMIT")
            new.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            rows = sum(counted(new))
        _say(_beside(path, ".salvaged"), kept_as.name)
    except BaseException:
        _discard(fresh)  # it would hold the space that the disk has not
        raise
    finish(path)
    return Report(kept_as, rows, sum(ledger.damaged), ledger.doubt[1])


def finish(path: Path) -> None:
    """Complete a salvage that was cut off between the two files; nothing to do otherwise."""
    word = _beside(path, ".salvaged")
    if not word.exists():
        return
    kept_as = path.with_name(word.read_text(encoding="utf-8").strip())
    fresh = _beside(path, ".salvage")
    if fresh.exists():
        # The log first: it must never lie beside a file that it does not belong to.
        for suffix in ("-wal", "-shm", ""):
            with suppress(FileNotFoundError):
                _beside(path, suffix).rename(_beside(kept_as, suffix))
        _sync(path.parent)
        fresh.rename(path)
        for suffix in ("-wal", "-shm"):
            _beside(fresh, suffix).unlink(missing_ok=True)
        _sync(path.parent)
    word.unlink()
    _sync(path.parent)
    # By the file's own time: the name bears that of a clock which may never have been set.
    for stale in sorted(path.parent.glob(f"{path.name}.damaged-*[0-9]"), key=lambda one: one.stat().st_mtime_ns)[
        :-_KEPT
    ]:
        for suffix in ("", "-wal", "-shm"):
            _beside(stale, suffix).unlink(missing_ok=True)


def _beside(path: Path, suffix: str) -> Path:
    return path.with_name(path.name + suffix)


def _discard(fresh: Path) -> None:
    for suffix in ("", "-wal", "-shm"):
        _beside(fresh, suffix).unlink(missing_ok=True)


def _say(word: Path, text: str) -> None:
    """Write the word durably, whole or not at all: with it the new file counts."""
    draft = _beside(word, ".new")
    with draft.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    draft.rename(word)
    _sync(word.parent)


def _sync(directory: Path) -> None:
    handle = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _opens(path: Path) -> bool:
    try:
        with closing(sqlite3.connect(path)) as db:
            names = {name for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    except sqlite3.DatabaseError:
        return False
    return {"rows", "batches", "epochs", "meta"} <= names


def _lend_first_page(path: Path, fresh: Path) -> None:
    """Write a new file's header and schema over the damaged one's first page, which is kept beside it.

    SQLite file format, 1.3: size in pages at byte 28, first free page and their number at 32 and 36.
    """
    page = bytearray(fresh.read_bytes()[:PAGE_BYTES])
    pages = path.stat().st_size // PAGE_BYTES
    page[28:32] = pages.to_bytes(4, "big")
    page[32:40] = bytes(8)
    with path.open("r+b") as file:
        _beside(path, ".first-page").write_bytes(file.read(PAGE_BYTES))
        file.seek(0)
        file.write(page)
        file.flush()
        os.fsync(file.fileno())


def _copy(old: sqlite3.Connection, new: sqlite3.Connection, path: Path, at_most: int) -> Ledger:
    batches, batches_read = _batches(old)
    epochs, _ = _read(old, "SELECT epoch, last, known FROM epochs ORDER BY id", _epoch)
    voids, _ = _read(old, "SELECT epoch, first, last FROM voids", _void)
    boots, _ = _read(old, "SELECT id, boot_id FROM boots ORDER BY id", lambda row: (int(row[0]), str(row[1])))
    receipts, receipts_read = _receipts(old)
    new.executemany("INSERT OR IGNORE INTO boots VALUES (?, ?)", boots)
    new.executemany("INSERT OR IGNORE INTO receipts VALUES (?, ?, ?)", receipts)
    known_boots = {key for key, _ in boots}
    accepted = sum(counts_of(receipts[-1][2])) if receipts else 0
    for row in _rows(old, path, batches, accepted):
        if row[4] not in known_boots:
            known_boots.add(row[4])
            new.execute("INSERT OR IGNORE INTO boots VALUES (?, ?)", (row[4], f"unknown-{row[4]}"))
        new.execute("INSERT OR IGNORE INTO rows VALUES (?, ?, ?, ?, ?, ?, ?)", row)

    new.executemany(
        "INSERT INTO held VALUES (?, ?, ?, ?, ?, ?, ?, ?)", (row for row in _held(old) if row[5] in known_boots)
    )

    def present(span: Span) -> Counts:
        found = dict(new.execute("SELECT cls, count(*) FROM rows WHERE seq BETWEEN ? AND ? GROUP BY cls", span))
        return tuple(found.get(index, 0) for index in range(len(CLASSES)))

    mended = mend(batches, [OldEpoch(*epoch) for epoch in epochs], voids, complete=batches_read, present=present)
    _write(new, mended)
    return _write_ledger(old, new, receipts[-1][2] if receipts else None, receipts_read, at_most)


def _read(
    db: sqlite3.Connection, query: str, convert: Callable[[tuple[Any, ...]], tuple[Any, ...]]
) -> tuple[list[tuple[Any, ...]], bool]:
    """What a small table still says, and whether that is all of it."""
    found: list[tuple[Any, ...]] = []
    try:
        for row in db.execute(query):
            found.append(convert(row))  # noqa: PERF401 - what came before an error is kept
    except _UNREADABLE:
        return found, False
    return found, True


def _held(db: sqlite3.Connection) -> list[tuple[Any, ...]]:
    """Rows that wait for a device's approval, as far as they can be read; an older file has none."""

    def convert(row: tuple[Any, ...]) -> tuple[Any, ...]:
        if not _sound((row[0], *row[2:])):
            raise ValueError("no row")
        return row

    return _read(db, "SELECT * FROM held ORDER BY id", convert)[0]


def _receipts(db: sqlite3.Connection) -> tuple[list[tuple[Any, ...]], bool]:
    def convert(row: tuple[Any, ...]) -> tuple[Any, ...]:
        key, identities, accepted = row
        if type(identities) is not bytes or len(identities) % IDENTITY_BYTES:
            raise ValueError("no identities")
        return int(key), identities, counts_text(counts_of(accepted))

    query = "SELECT id, identities, accepted FROM receipts ORDER BY id"
    ahead, whole = _read(db, query, convert)
    if whole:
        return ahead, True
    behind, _ = _read(db, query + " DESC", convert)  # the newest is the one that counts
    return sorted({row[0]: row for row in [*ahead, *behind]}.values()), bool(behind)


def _epoch(row: tuple[Any, ...]) -> tuple[Any, ...]:
    if not is_epoch(row[0]):
        raise ValueError("no epoch")
    return Epoch(row[0]), (int(row[1] or 0) if row[2] else None)


def _void(row: tuple[Any, ...]) -> Void:
    return Epoch(str(row[0])), int(row[1]), int(row[2])


def _batches(db: sqlite3.Connection) -> tuple[list[Batch], bool]:
    def convert(row: tuple[Any, ...]) -> tuple[Batch]:
        epoch, number, lane, first, last, counts, packed_bytes = row
        if not is_epoch(epoch) or int(number) < 1:
            raise ValueError("no batch")
        return (Batch(Epoch(epoch), number, Lane(lane), (int(first), int(last)), counts_of(counts), packed_bytes),)

    query = "SELECT epoch, number, lane, first, last, counts, packed_bytes FROM batches ORDER BY epoch{0}, number{0}"
    ahead, whole = _read(db, query.format(""), convert)
    if whole:
        return [batch for (batch,) in ahead], True
    behind, _ = _read(db, query.format(" DESC"), convert)  # from the other end, up to what cannot be read
    return list({batch.key: batch for (batch,) in [*ahead, *behind]}.values()), False


def _rows(db: sqlite3.Connection, path: Path, batches: list[Batch], accepted: int) -> Iterator[tuple[Any, ...]]:
    """Every sound row: in order where the tree leads to it, and from the leaf pages where it does not."""
    low, high = _reach(db, batches, accepted)
    try:
        yield from filter(
            _sound, db.execute("SELECT * FROM rows WHERE seq BETWEEN ? AND ? ORDER BY seq", (low, high))
        )
    except _UNREADABLE:
        # The log's pages must be in the file before its pages are read behind SQLite's back.
        with suppress(sqlite3.DatabaseError):
            db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        with path.open("rb") as file:

            def page(number: int) -> bytes:
                file.seek((number - 1) * PAGE_BYTES)
                return file.read(PAGE_BYTES)

            for seq, values in cells(page, path.stat().st_size // PAGE_BYTES, PAGE_BYTES, _COLUMNS):
                row = (seq, *values[1:])
                if low <= seq <= high and values[0] is None and _sound(row):
                    yield row


def _sound(row: tuple[Any, ...]) -> bool:
    """A record that is none would spoil the batch that it is joined into."""
    *numbers, record = row
    return (
        all(type(number) is int for number in numbers)
        and type(record) is bytes
        and row[1] in range(len(CLASSES))
        and not isinstance(decode_record(record), Rejected)
    )


def _reach(db: sqlite3.Connection, batches: list[Batch], accepted: int) -> Span:
    """Where rows may be. Where the file does not say: as many numbers as rows were accepted, and some."""
    known = [seq for batch in batches for seq in batch.span] + [accepted]
    with suppress(*_UNREADABLE):
        known.append(int(read_meta(db, "tail") or 0))
    ends: list[int | None] = []
    for name in ("min", "max"):
        try:
            ends.append(db.execute(f"SELECT {name}(seq) FROM rows").fetchone()[0])  # noqa: S608 - one of two names
        except _UNREADABLE:
            ends.append(None)
    lowest, highest = ends
    if not isinstance(highest, int) or highest > max(known) + _REACH:
        highest = max(known) + _REACH
    if not isinstance(lowest, int) or not 0 < lowest <= highest:
        lowest = max(1, min(highest, *(seq for seq in known if seq > 0), max(known)) - _REACH)
    return lowest, max(highest, *known)


def _write(new: sqlite3.Connection, mended: Mended) -> None:
    new.executemany(
        "INSERT INTO epochs (epoch, last, known) VALUES (?, ?, ?)",
        ((old.epoch, old.last or 0, old.last is not None) for old in mended.epochs),
    )
    new.executemany(
        "INSERT INTO batches VALUES (?, ?, ?, ?, ?, ?, ?)",
        (
            (batch.epoch, batch.number, batch.lane.value, *batch.span, counts_text(batch.counts), batch.packed_bytes)
            for batch in mended.batches
        ),
    )
    new.executemany("INSERT INTO voids VALUES (?, ?, ?)", mended.voids)


def _write_ledger(
    old: sqlite3.Connection, new: sqlite3.Connection, receipt: str | None, receipts_read: bool, at_most: int
) -> Ledger:
    found = counted(new)
    try:
        ledger = read_ledger(read_meta(old, "ledger"), receipt)
        told = receipts_read
    except _UNREADABLE:
        ledger = Ledger()
        told = False
    ledger = ledger.reconciled(found)
    if not told:
        ledger = replace(ledger, doubt=(ledger.doubt[0], ledger.doubt[1] + max(0, at_most - sum(found))))
    words = {"ledger": ledger_text(ledger)}
    with suppress(*_UNREADABLE):
        words |= {name: value for name in ("lineage", "lineage_next") if (value := read_meta(old, name)) is not None}
    tail = [new.execute("SELECT max(seq) FROM rows").fetchone()[0] or 0]
    with suppress(*_UNREADABLE):
        tail.append(int(read_meta(old, "tail") or 0))
    words["tail"] = str(max(tail))
    new.executemany("INSERT INTO meta VALUES (?, ?)", words.items())
    return ledger
