import sqlite3
from pathlib import Path

import pytest

from edge_agent import outbox as outbox_module
from edge_agent.ledger import Ledger
from edge_agent.outbox import IDENTITIES_KEPT, VERSION, Outbox, OutboxDamaged, prepare
from edge_agent.row import NONE, RowClass, count
from edge_agent.uplink_state import Batch, Free, OldEpoch
from shared.batch import ClockQuality, Lane
from shared.errors import Permanent, Transient
from shared.ids import Epoch
from tests.unit.edge_agent.outbox_files import new_file, row

E, F = Epoch("E" * 22), Epoch("F" * 22)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return new_file(tmp_path / "outbox.db")


def append(outbox: Outbox, after: int, rows: list, identities=()) -> None:
    accepted = outbox.load().ledger.append(count(one.cls for one in rows)).accepted
    with outbox.transaction():
        outbox.append(after, rows, identities, accepted)


def batch(number: int, first: int, last: int, epoch: Epoch = E) -> Batch:
    return Batch(epoch, number, Lane.REPLAY, (first, last), (0, 0, 0, last - first + 1, 0), 123)


def test_it_is_made_as_it_must_be_by_a_child_process(tmp_path):
    path = tmp_path / "outbox.db"
    prepare(path)
    wanted = {"journal_mode": "wal", "synchronous": 2, "auto_vacuum": 2, "page_size": 4096, "user_version": VERSION}
    with Outbox(path) as outbox:
        assert {name: outbox._db.execute(f"PRAGMA {name}").fetchone()[0] for name in wanted} == wanted
    assert path.read_bytes()[:100] == new_file(tmp_path / "other.db").read_bytes()[:100]


def test_where_no_file_can_be_made_it_says_so(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(Permanent, match="cannot be made"):
        prepare(tmp_path / "file" / "outbox.db")


def test_rows_are_read_back_byte_for_byte_in_order(path):
    rows = [row(number) for number in range(5)]
    with Outbox(path) as outbox:
        append(outbox, 0, rows)
        assert list(outbox.read((2, 4), 2)) == [(2, 3, rows[1].record), (3, 3, rows[2].record)]
    with Outbox(path) as outbox:
        assert [record for _, _, record in outbox.read((1, 99), 99)] == [one.record for one in rows]
        stored = outbox.rows((1, 1), 1)[0]
        assert (stored.cls, stored.boot_id, stored.clock) == (RowClass.TELEMETRY, "boot-1", ClockQuality.SYNCED)


def test_a_transaction_that_fails_has_not_happened(path):
    with Outbox(path) as outbox:
        with pytest.raises(RuntimeError), outbox.transaction():  # noqa: PT012 - all of it must be undone
            outbox.append(0, [row(1, boot="boot-2")], [b"i" * 16], (0, 0, 0, 1, 0))
            outbox.save_batch(batch(1, 1, 1))
            raise RuntimeError
        assert outbox.counted() == NONE
        append(outbox, 0, [row(1, boot="boot-2")], [b"j" * 16])
        with outbox.transaction():
            outbox.save_batch(batch(1, 1, 1))
        assert outbox.rows((1, 1), 1)[0].boot_id == "boot-2"
        assert outbox.recent_identities() == [b"j" * 16]
        assert outbox.load().batches == (batch(1, 1, 1),)


def test_what_was_not_committed_is_gone_after_a_crash_and_what_was_is_there(path):
    first = Outbox(path)
    append(first, 0, [row(1)])
    first._db.execute("BEGIN IMMEDIATE")
    first.append(1, [row(2)], [], (0, 0, 0, 2, 0))
    first._db.interrupt()
    first._db.close()  # without COMMIT, as a killed process
    with Outbox(path) as again:
        assert again.load().tail == 1


def test_a_start_knows_batches_epochs_spans_and_the_newest_alarm(path):
    rows = [row(1), row(2), row(3, RowClass.ALARM), row(4), row(5), row(6)]
    with Outbox(path) as outbox:
        append(outbox, 0, rows)
        with outbox.transaction():
            outbox.save_batch(batch(4, 2, 2))
            outbox.save_batch(batch(1, 5, 5, epoch=F))
        saved = outbox.load()
    assert saved.batches == (batch(4, 2, 2), batch(1, 5, 5, epoch=F))
    assert saved.epochs == (OldEpoch(E, 4), OldEpoch(F, 1))
    assert saved.waiting == ((1, 1), (3, 4), (6, 6))
    assert (saved.tail, saved.newest_alarm) == (6, 3)
    assert saved.ledger.accepted == saved.ledger.waiting == (1, 0, 0, 5, 0)


def test_freeing_takes_the_batch_with_its_rows_and_keeps_counters_and_numbers(path):
    with Outbox(path) as outbox:
        append(outbox, 0, [row(1), row(2), row(3)])
        with outbox.transaction():
            outbox.save_batch(batch(1, 1, 1))
            outbox.save_batch(batch(2, 2, 3))
        ledger = outbox.load().ledger.ack((0, 0, 0, 3, 0))
        with outbox.transaction():
            outbox.free(Free((batch(1, 1, 1), batch(2, 2, 3)), (), (), ledger), tail=3)
        saved = outbox.load()
    assert (saved.tail, saved.batches, saved.waiting) == (3, (), ())
    assert saved.epochs == (OldEpoch(E, 2),), "its last number outlives its batches"
    assert saved.ledger == ledger
    with Outbox(path) as outbox, outbox.transaction():
        outbox.free(Free((), (E,), (), ledger), tail=3)
    with Outbox(path) as outbox:
        assert outbox.load().epochs == ()


def test_a_sequence_number_is_never_given_twice(path):
    with Outbox(path) as outbox:
        append(outbox, 0, [row(1)])
        with outbox.transaction():
            outbox.save_batch(batch(1, 1, 1))
            outbox.free(Free((batch(1, 1, 1),), (), (), Ledger()), tail=1)
        assert outbox.load().tail == 1


def test_rows_that_vanished_are_damaged_in_the_ledger(path):
    with Outbox(path) as outbox:
        append(outbox, 0, [row(number) for number in range(4)])
        outbox._db.execute("DELETE FROM rows WHERE seq IN (2, 3)")
        ledger = outbox.load().ledger
    assert ledger.balances()
    assert (ledger.accepted[3], ledger.waiting[3], ledger.damaged[3]) == (4, 2, 2)


def test_the_newest_identities_are_kept_and_the_file_does_not_grow_with_them(path, monkeypatch):
    monkeypatch.setattr(outbox_module, "IDENTITIES_KEPT", 100)
    identities = [number.to_bytes(16, "big") for number in range(1_000)]
    with Outbox(path) as outbox:
        for start in range(0, 1_000, 10):
            append(outbox, 0, [], identities[start : start + 10])
        assert outbox.recent_identities() == identities[-100:]
        assert outbox._db.execute("SELECT count(*) FROM receipts").fetchone()[0] <= 14
    with Outbox(path) as outbox:
        assert outbox.recent_identities() == identities[-100:]
    assert IDENTITIES_KEPT == 20_000


def test_dissolving_forgets_batches_and_keeps_rows(path):
    with Outbox(path) as outbox:
        append(outbox, 0, [row(1), row(2)])
        with outbox.transaction():
            outbox.save_batch(batch(1, 1, 2))
        with outbox.transaction():
            outbox.dissolve()
        saved = outbox.load()
    assert (saved.batches, saved.epochs, saved.waiting) == ((), (), ((1, 2),))


def test_batches_that_overlap_are_damage(path):
    with Outbox(path) as outbox:
        append(outbox, 0, [row(1), row(2)])
        with outbox.transaction():
            outbox.save_batch(batch(1, 1, 2))
            outbox.save_batch(batch(2, 2, 2))
        with pytest.raises(OutboxDamaged, match="overlap"):
            outbox.load()


@pytest.mark.parametrize("harm", ["no database", "torn page"])
def test_a_damaged_file_is_known(path, harm):
    with Outbox(path) as outbox:
        for start in range(0, 2_000, 500):
            append(outbox, start, [row(number, size=200) for number in range(500)])
    data = bytearray(path.read_bytes())
    if harm == "no database":
        data[:16] = b"not a database!!"
    else:
        data[40 * 4096 : 60 * 4096] = b"\xff" * 20 * 4096
    path.write_bytes(data)
    with pytest.raises(OutboxDamaged):
        Outbox(path)


def test_a_full_disk_is_transient_and_nothing_of_the_commit_is_there(path):
    with Outbox(path) as outbox:
        pages = outbox._db.execute("PRAGMA page_count").fetchone()[0]
        outbox._db.execute(f"PRAGMA max_page_count = {pages + 3}")
        with pytest.raises(Transient, match="SQLITE_FULL"):
            append(outbox, 0, [row(number, size=500) for number in range(200)])
        assert outbox.counted() == NONE
        outbox._db.execute("PRAGMA max_page_count = 100000")
        append(outbox, 0, [row(number, size=500) for number in range(200)])


def test_a_locked_file_is_transient(path, monkeypatch):
    with Outbox(path) as outbox:
        outbox._db.execute("PRAGMA busy_timeout = 1")
        other = sqlite3.connect(path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(Transient, match="BUSY"):
            append(outbox, 0, [row(1)])
        other.execute("ROLLBACK")
        other.close()
        append(outbox, 0, [row(1)])


def test_a_record_that_fits_no_batch_is_a_bug_of_intake(path):
    with Outbox(path) as outbox, pytest.raises(AssertionError, match="fits no batch"):
        append(outbox, 0, [row(1, size=outbox_module.ROW_BYTES)])


def test_unused_pages_are_given_back_in_portions(path):
    with Outbox(path) as outbox:
        append(outbox, 0, [row(number, size=1_000) for number in range(2_000)])
        full = outbox.used_bytes()
        with outbox.transaction():
            outbox.save_batch(batch(1, 1, 2_000))
            outbox.free(Free((batch(1, 1, 2_000),), (), (), Ledger()), tail=2_000)
        assert outbox.used_bytes() < full / 10
        outbox._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        size = path.stat().st_size
        outbox.shrink(100)
        assert path.stat().st_size == size - 100 * 4096
