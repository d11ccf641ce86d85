import sqlite3

import pytest

from edge_agent.outbox import Outbox
from edge_agent.outbox_load import counted, ledger_text, load, read_ledger, read_meta, waiting_spans
from edge_agent.row import CLASSES
from edge_agent.uplink_state import OldEpoch, Saved
from tests.unit.edge_agent.outbox_files import new_file, row


@pytest.fixture
def db(tmp_path):
    path = new_file(tmp_path / "outbox.db")
    with Outbox(path) as outbox, outbox.transaction():
        outbox.append(0, [row(number) for number in range(10)], [], (0, 0, 0, 10, 0))
    db = sqlite3.connect(path, isolation_level=None)
    yield db
    db.close()


def test_an_empty_file_is_an_empty_start(tmp_path):
    db = sqlite3.connect(new_file(tmp_path / "new.db"))
    assert load(db) == Saved()
    db.close()


def test_waiting_rows_are_the_spans_between_batches_that_hold_any(db):
    assert waiting_spans(db, [], 10) == ((1, 10),)
    assert waiting_spans(db, [(4, 6), (1, 2)], 10) == ((3, 3), (7, 10))
    db.execute("DELETE FROM rows WHERE seq BETWEEN 3 AND 8")
    assert waiting_spans(db, [(1, 2)], 10) == ((9, 10),)
    assert waiting_spans(db, [(1, 2), (9, 10)], 10) == ()


@pytest.mark.parametrize("spans", [[(1, 5), (5, 6)], [(6, 5)], [(0, 3)], [(9, 11)]])
def test_spans_that_make_no_sense_are_refused(db, spans):
    with pytest.raises(ValueError, match="overlap"):
        waiting_spans(db, spans, 10)


def test_the_newest_receipt_counts_what_was_accepted_since_the_ledger_was_saved(db):
    db.execute("INSERT INTO meta VALUES ('ledger', ?)", (ledger_text(read_ledger(None, "0,0,0,4,0")),))
    assert load(db).ledger.accepted == (0, 0, 0, 10, 0)


def test_a_ledger_is_read_back():
    ledger = read_ledger(None, "5,0,0,9,0").ack((1, 0, 0, 2, 0)).thin((0, 0, 0, 3, 0), 1)
    assert read_ledger(ledger_text(ledger), None) == ledger
    assert len(read_ledger(None, None).accepted) == len(CLASSES)


def test_an_epoch_whose_last_number_is_unknown_is_kept_while_it_has_batches(db):
    epoch = "E" * 22
    db.execute("INSERT INTO epochs (epoch, last, known) VALUES (?, 9, 0)", (epoch,))
    assert load(db).epochs == ()
    db.execute("INSERT INTO batches VALUES (?, 4, 'live', 1, 2, '0,0,0,2,0', 10)", (epoch,))
    assert load(db).epochs == (OldEpoch(epoch, None),)
    db.execute("UPDATE epochs SET known = 1")
    assert load(db).epochs == (OldEpoch(epoch, 9),)


def test_what_is_no_epoch_is_refused(db):
    db.execute("INSERT INTO epochs (epoch, last) VALUES ('short', 9)")
    with pytest.raises(ValueError, match="epoch"):
        load(db)


def test_rows_are_counted_by_class_and_words_remembered(db):
    assert counted(db) == (0, 0, 0, 10, 0)
    assert read_meta(db, "nothing") is None
