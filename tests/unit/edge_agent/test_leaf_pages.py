import os
import random
import sqlite3

import pytest

from edge_agent.leaf_pages import cells

SIZE = 4096


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "some.db"
    db = sqlite3.connect(path)
    db.executescript("PRAGMA page_size = 4096; PRAGMA auto_vacuum = INCREMENTAL;")
    db.execute("CREATE TABLE things (id INTEGER PRIMARY KEY, number INTEGER, word TEXT, body BLOB)")
    db.execute("CREATE TABLE others (id INTEGER PRIMARY KEY, number INTEGER)")
    db.close()
    return path


def read(path, columns=4):
    data = path.read_bytes()
    pages = len(data) // SIZE
    return {
        key: tuple(values[1:])
        for key, values in cells(lambda n: data[(n - 1) * SIZE : n * SIZE], pages, SIZE, columns)
    }


def test_every_row_of_every_size_is_read(path):
    choose = random.Random(1)
    edges = [0, 1, 4_000, 4_030, 4_050, 4_061, 4_062, 4_100, 8_000, 8_188, 70_000]
    rows = {
        key: (choose.choice([0, 1, -1, 127, -129, 2**15, 2**23, -(2**31), 2**40, 2**62]), "wörd" * (key % 5),
              os.urandom(edges[key % len(edges)]))
        for key in [1, 2, 3, 300, 70_000, 2**35, *range(1_000, 1_200)]
    }  # fmt: skip
    with sqlite3.connect(path) as db:
        db.executemany("INSERT INTO things VALUES (?, ?, ?, ?)", ((key, *row) for key, row in rows.items()))
        db.executemany("INSERT INTO others VALUES (?, ?)", ((key, key) for key in range(500)))
    db.close()
    assert read(path) == rows
    assert read(path, columns=2) == {key: (key,) for key in range(500)}


def test_rows_that_were_deleted_are_not_raised(path):
    with sqlite3.connect(path) as db:
        db.executemany("INSERT INTO things VALUES (?, 1, 'a', zeroblob(50))", ((key,) for key in range(1, 2_000)))
    with db:
        db.execute("DELETE FROM things WHERE id <= 1500")
    db.close()
    assert sorted(read(path)) == list(range(1_501, 2_000))


@pytest.mark.parametrize("seed", range(20))
def test_no_bytes_make_it_raise(path, seed):
    with sqlite3.connect(path) as db:
        db.executemany("INSERT INTO things VALUES (?, 1, 'abc', zeroblob(5000))", ((key,) for key in range(1, 60)))
    db.close()
    choose = random.Random(seed)
    data = bytearray(path.read_bytes())
    for _ in range(2_000):
        data[choose.randrange(len(data))] = choose.randrange(256)
    path.write_bytes(data)
    read(path)
