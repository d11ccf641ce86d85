"""Named SQL is read by name."""

import pytest

from control_plane.db import queries


def test_statements_by_name() -> None:
    text = "-- The room's.\n\n-- name: one\nSELECT 1\n\n-- name: two_b\n-- why\nSELECT 2\n"
    assert queries.parse(text) == {"one": "SELECT 1", "two_b": "-- why\nSELECT 2"}


@pytest.mark.parametrize(
    "text", ["-- name: a\nSELECT 1\n-- name: a\nSELECT 2\n", "-- name: a\n\n-- name: b\nSELECT 1\n"]
)
def test_our_own_mistakes_are_assertions(text: str) -> None:
    with pytest.raises(AssertionError):
        queries.parse(text)
