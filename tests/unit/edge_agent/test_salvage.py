"""Real damage: bytes of the file are overwritten, and what comes out is counted."""

import random
import sqlite3
from pathlib import Path

import pytest

from edge_agent import salvage as salvage_module
from edge_agent.outbox import Outbox, OutboxDamaged
from edge_agent.row import RowClass, count
from edge_agent.salvage import Report, finish, salvage
from edge_agent.uplink_state import Batch, Free, OldEpoch
from shared.batch import Lane
from shared.ids import Epoch
from tests.unit.edge_agent.outbox_files import new_file, row

E, F = Epoch("E" * 22), Epoch("F" * 22)
ROWS = 3_000
PAGE = 4096


@pytest.fixture
def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """3,000 rows; 1-200 freed, 201-1200 in ten batches of two epochs, the rest waiting."""
    monkeypatch.setattr(salvage_module, "prepare", new_file)  # as the migration does it, without its process
    path = new_file(tmp_path / "outbox.db")
    with Outbox(path) as outbox:
        for start in range(0, ROWS, 100):
            rows = [row(number, size=40) for number in range(start, start + 100)]
            accepted = outbox.load().ledger.append(count(one.cls for one in rows)).accepted
            with outbox.transaction():
                outbox.append(
                    start, rows, [number.to_bytes(16, "big") for number in range(start, start + 100)], accepted
                )
        with outbox.transaction():
            for number in range(12):
                outbox.save_batch(batch(number))
            free = Free((batch(0), batch(1)), (), (), outbox.load().ledger.ack((0, 0, 0, 200, 0)))
            outbox.free(free, ROWS)
        outbox.transaction()
        outbox._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return path


def batch(number: int) -> Batch:
    """0-5 are E 1-6, 6-11 are F 1-6."""
    epoch, place = (E, number + 1) if number < 6 else (F, number - 5)
    return Batch(epoch, place, Lane.LIVE, (number * 100 + 1, number * 100 + 100), (0, 0, 0, 100, 0), 1_000)


def harm(path: Path, *pages: int, seed: int = 1) -> None:
    data = bytearray(path.read_bytes())
    for page in pages:
        data[(page - 1) * PAGE : page * PAGE] = random.Random(seed + page).randbytes(PAGE)
    path.write_bytes(data)


def records(path: Path) -> dict[int, bytes]:
    with Outbox(path) as outbox:
        return {seq: record for seq, _, record in outbox.read((1, 10**6), 10**6)}


ALL = {seq: row(seq - 1, size=40).record for seq in range(201, ROWS + 1)}


def judged(path: Path, report: Report) -> tuple[int, object]:
    """How many rows were lost; every promise about the rest is checked."""
    found = records(path)
    assert all(ALL.get(seq) == record for seq, record in found.items()), "a row was altered or invented"
    with Outbox(path) as outbox:
        saved = outbox.load()
    ledger = saved.ledger
    assert ledger.balances()
    assert sum(ledger.waiting) == len(found) == report.rows
    for one in saved.batches:
        assert one.records == sum(one.span[0] <= seq <= one.span[1] for seq in found) > 0
    if ledger.doubt == (0, 0):
        assert ledger.damaged[3] == len(ALL) - len(found) == report.lost
        assert ledger.accepted[3] == ROWS
        assert ledger.acked[3] == 200
    else:
        assert ledger.doubt[0] <= len(ALL) - len(found) <= ledger.doubt[1] + ledger.damaged[3]
    return len(ALL) - len(found), saved


def test_a_file_that_is_whole_comes_out_equal(made):
    report = salvage(made, 7)
    lost, saved = judged(made, report)
    assert lost == 0
    assert saved.batches == tuple(batch(number) for number in range(2, 12))
    assert saved.epochs == (OldEpoch(E, 6), OldEpoch(F, 6))
    assert saved.voids == ()
    assert saved.waiting == ((1201, 3000),)
    assert saved.tail == ROWS
    with Outbox(made) as outbox:
        assert outbox.recent_identities() == [number.to_bytes(16, "big") for number in range(ROWS)]
        assert outbox.meta("lineage") is None
    assert report.kept_as.exists()
    assert report.kept_as.name == "outbox.db.damaged-7"


def test_any_one_page_may_be_destroyed(made):
    pages = made.stat().st_size // PAGE
    whole = made.read_bytes()
    worst = 0
    known = 0
    for page in [*range(2, 14), *range(14, pages + 1, 5)]:
        made.write_bytes(whole)
        harm(made, page)
        try:
            with Outbox(made) as outbox:
                outbox.load()
                continue  # a page that nothing uses, or an index of the file's own book-keeping
        except OutboxDamaged:
            known += 1
        for leftover in made.parent.glob("outbox.db-*"):
            leftover.unlink()
        report = salvage(made, page)
        lost, _ = judged(made, report)
        worst = max(worst, lost)
        report.kept_as.unlink()
    assert known > 15
    assert worst <= 60, "a page that only leads to others costs nothing"


def test_a_leaf_page_costs_its_rows_and_their_batches_keep_their_numbers(made):
    with Outbox(made) as outbox:
        leaf = outbox._db.execute(
            "SELECT pageno FROM dbstat WHERE name = 'rows' AND pagetype = 'leaf' ORDER BY path LIMIT 1 OFFSET 3"
        ).fetchone() if _has_dbstat(outbox) else None  # fmt: skip
    if leaf is None:
        pytest.skip("this SQLite has no dbstat")
    harm(made, leaf[0])
    lost, saved = judged(made, salvage(made, 1))
    assert 10 <= lost <= 60
    assert len(saved.batches) == 10
    assert saved.voids == ()


def _has_dbstat(outbox: Outbox) -> bool:
    try:
        outbox._db.execute("SELECT 1 FROM dbstat LIMIT 1")
    except sqlite3.DatabaseError:
        return False
    return True


def test_a_batch_that_lost_all_its_rows_is_void(made):
    with Outbox(made) as outbox:
        outbox._db.execute("DELETE FROM rows WHERE seq BETWEEN 301 AND 400")
    lost, saved = judged(made, salvage(made, 1))
    assert lost == 100
    assert saved.voids == ((E, 4, 4),)
    assert len(saved.batches) == 9


def test_the_first_page_may_be_destroyed(made):
    first = made.read_bytes()[:PAGE]
    harm(made, 1)
    broken = made.read_bytes()[:PAGE]
    assert first != broken
    lost, saved = judged(made, salvage(made, 1))
    assert lost == 0
    assert len(saved.batches) == 10
    assert (made.parent / "outbox.db.first-page").read_bytes() == broken


def test_half_a_file(made):
    data = made.read_bytes()
    made.write_bytes(data[: len(data) // 2 // PAGE * PAGE])
    lost, _ = judged(made, salvage(made, 1))
    assert ROWS * 0.3 < lost < ROWS * 0.7


def test_no_database_at_all(made):
    made.write_bytes(b"\0" * 100_000)
    report = salvage(made, 1)
    assert report.rows == 0
    assert report.at_most >= 1_000
    with Outbox(made) as outbox:
        assert outbox.load().ledger.doubt[1] == report.at_most


@pytest.mark.parametrize("seed", range(12))
def test_bytes_flipped_anywhere(made, seed):
    data = bytearray(made.read_bytes())
    choose = random.Random(seed)
    for _ in range(30):
        data[choose.randrange(PAGE, len(data))] ^= 1 << choose.randrange(8)
    made.write_bytes(data)
    report = salvage(made, 1)
    found = records(made)
    strangers = [seq for seq, record in found.items() if ALL.get(seq) != record]
    assert len(strangers) <= 30, "a flipped letter within a record cannot be seen"
    assert report.rows == len(found) > ROWS * 0.85
    with Outbox(made) as outbox:
        assert outbox.load().ledger.balances()


def test_a_record_that_is_none_is_left_out(made):
    with Outbox(made) as outbox:
        outbox._db.execute("UPDATE rows SET record = X'5B22' WHERE seq = 1500")
    report = salvage(made, 1)
    assert (report.rows, report.lost) == (ROWS - 201, 1)


def test_what_was_only_in_the_log_is_saved_too(made):
    outbox = Outbox(made)
    accepted = outbox.load().ledger.append(count([RowClass.ALARM])).accepted
    with outbox.transaction():
        outbox.append(ROWS, [row("late", RowClass.ALARM)], [], accepted)
    log = made.with_name("outbox.db-wal").read_bytes()
    data = made.read_bytes()
    outbox.close()
    made.write_bytes(data)
    made.with_name("outbox.db-wal").write_bytes(log)
    harm(made, 60)
    salvage(made, 1)
    assert ROWS + 1 in records(made)


class Cut(BaseException):
    pass


@pytest.mark.parametrize("moment", range(1, 12))
def test_a_crash_at_any_moment_loses_nothing(made, monkeypatch, moment):
    harm(made, 40)
    left = [moment]

    def counted(act):
        def wrapped(*args, **kwargs):
            left[0] -= 1
            if left[0] == 0:
                raise Cut
            return act(*args, **kwargs)

        return wrapped

    with monkeypatch.context() as patch:
        for name in ("rename", "unlink", "write_text"):
            patch.setattr(Path, name, counted(getattr(Path, name)))
        patch.setattr(salvage_module, "_sync", counted(salvage_module._sync))
        try:
            salvage(made, 1)
        except Cut:
            cut = True
        else:
            cut = False
    assert cut or moment > 8
    finish(made)
    try:
        with Outbox(made) as outbox:
            outbox.load()
    except OutboxDamaged:
        salvage(made, 2)
    found = records(made)
    assert len(found) > len(ALL) - 100
    assert all(ALL[seq] == record for seq, record in found.items())
    kept = [one for one in made.parent.glob("outbox.db.damaged-*") if one.suffix[1:].startswith("damaged")]
    assert kept, "the damaged file is kept"


def test_only_the_newest_damaged_files_are_kept(made):
    for stamp in range(1, 7):
        salvage(made, stamp)
    kept = sorted(one.name for one in made.parent.glob("outbox.db.damaged-*[0-9]"))
    assert kept == ["outbox.db.damaged-4", "outbox.db.damaged-5", "outbox.db.damaged-6"]
