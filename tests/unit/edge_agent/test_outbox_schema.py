import sqlite3

import pytest

from edge_agent.outbox import VERSION
from edge_agent.outbox_schema import migrate


def test_a_new_file_has_the_schema_and_doing_it_again_changes_nothing(tmp_path):
    path = tmp_path / "outbox.db"
    migrate(path)
    db = sqlite3.connect(path)
    first = db.execute("SELECT * FROM sqlite_master").fetchall()
    migrate(path)
    names = {name for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    assert {"rows", "receipts", "batches", "epochs", "voids", "boots", "meta"} <= names
    assert db.execute("PRAGMA user_version").fetchone()[0] == VERSION
    assert db.execute("SELECT * FROM sqlite_master").fetchall() == first
    db.close()


def test_two_new_files_are_laid_out_alike_which_salvage_relies_on(tmp_path):
    places = []
    for name in ("a", "b"):
        migrate(tmp_path / name)
        db = sqlite3.connect(tmp_path / name)
        places.append(db.execute("SELECT name, rootpage FROM sqlite_master ORDER BY name").fetchall())
        db.close()
    assert places[0] == places[1]


def test_a_word_where_a_number_belongs_is_refused_by_the_file_itself(tmp_path):
    migrate(tmp_path / "a")
    db = sqlite3.connect(tmp_path / "a")
    with pytest.raises(sqlite3.IntegrityError):
        db.execute("INSERT INTO rows VALUES (1, 'x', 1, 1, 1, 1, X'00')")
    db.close()
