"""Cursors."""

import pytest

from control_plane.registry.paging import after, next_cursor
from control_plane.registry.problem import ProblemRaised


@pytest.mark.parametrize("last", ["a", "dev-1", "Zz_9", "x" * 64])
def test_there_and_back(last: str) -> None:
    assert after(next_cursor(last, more=True)) == last


def test_the_first_and_the_last_page() -> None:
    assert after(None) == after("") == ""
    assert next_cursor("a", more=False) is None


@pytest.mark.parametrize("cursor", ["!", "====", "gg", "AA", "_w"])
def test_what_no_list_gave(cursor: str) -> None:
    with pytest.raises(ProblemRaised) as raised:
        after(cursor)
    assert raised.value.problem.status == 422
