"""Which migrations are to be applied, and which disagreements are refused."""

import hashlib
from pathlib import Path

import pytest

from control_plane.db.migrate import Migration, pending, read_migrations
from shared.errors import Permanent


def migration(number: int, sql: str = "SELECT 1") -> Migration:
    return Migration(number, f"{number:04d}_x.sql", sql, hashlib.sha256(sql.encode()).hexdigest())


def record(applied: Migration) -> tuple[int, str, str]:
    return applied.number, applied.name, applied.sha256


ONE, TWO, THREE = migration(1), migration(2), migration(3)


def test_an_empty_database_gets_all_in_order() -> None:
    assert pending([ONE, TWO], []) == [ONE, TWO]


def test_only_what_is_missing() -> None:
    assert pending([ONE, TWO, THREE], [record(ONE)]) == [TWO, THREE]
    assert pending([ONE], [record(ONE)]) == []


def test_a_changed_file_is_refused() -> None:
    with pytest.raises(Permanent, match=r"0001_x.sql changed after it was applied"):
        pending([migration(1, "SELECT 2")], [record(ONE)])


def test_a_database_ahead_of_this_code_is_refused() -> None:
    with pytest.raises(Permanent, match=r"0002_x.sql, which this hub does not know. upgrade"):
        pending([ONE], [record(ONE), record(TWO)])


def test_a_file_that_comes_too_late_is_refused() -> None:
    with pytest.raises(Permanent, match=r"0002_x.sql would come after 0003_x.sql"):
        pending([ONE, TWO, THREE], [record(ONE), record(THREE)])


def test_files_in_order_with_their_hash(tmp_path: Path) -> None:
    (tmp_path / "0002_b.sql").write_text("B")
    (tmp_path / "0001_a.sql").write_text("A")
    found = read_migrations(tmp_path)
    assert [(m.number, m.name, m.sql) for m in found] == [(1, "0001_a.sql", "A"), (2, "0002_b.sql", "B")]
    assert found[0].sha256 == hashlib.sha256(b"A").hexdigest()


@pytest.mark.parametrize("names", [["1_a.sql"], ["0001-a.sql"], ["0001_a.sql", "0001_b.sql"]])
def test_names_out_of_form_and_numbers_used_twice(tmp_path: Path, names: list[str]) -> None:
    for name in names:
        (tmp_path / name).write_text("A")
    with pytest.raises(Permanent):
        read_migrations(tmp_path)


def test_our_own_files_are_in_form() -> None:
    assert [m.number for m in read_migrations()][:1] == [1]
