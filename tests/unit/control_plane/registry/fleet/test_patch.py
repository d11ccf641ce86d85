"""A change as RFC 7396 means it."""

import pytest

from control_plane.registry.fleet.patch import Patch, Values, apply, difference

BEFORE = Values("S", {"site": "berlin", "floor": "2"}, {"place": "hall", "lat": 1.0}, {"messages_per_s": 5.0})


@pytest.mark.parametrize(
    ("asked", "field", "after"),
    [
        ({}, "serial", "S"),
        ({"serial": "T"}, "serial", "T"),
        ({"labels": {"site": "paris"}}, "labels", {"site": "paris", "floor": "2"}),
        ({"labels": {"site": None, "new": ""}}, "labels", {"floor": "2", "new": ""}),
        ({"labels": None}, "labels", {}),
        ({"labels": {"unknown": None}}, "labels", BEFORE.labels),
        ({"location": {"lat": None}}, "location", {"place": "hall"}),
        ({"location": {"lat": None, "place": None}}, "location", None),
        ({"location": None}, "location", None),
        ({"limits": {"bytes_per_s": 9.0}}, "limits", {"messages_per_s": 5.0, "bytes_per_s": 9.0}),
        ({"limits": None}, "limits", None),
    ],
)
def test_what_comes_of_it(asked: dict[str, object], field: str, after: object) -> None:
    found = apply(Patch(asked), BEFORE)
    assert getattr(found, field) == after
    others = [name for name in Values.__slots__ if name != field]
    assert [getattr(found, name) for name in others] == [getattr(BEFORE, name) for name in others]


def test_the_difference_names_only_what_changed() -> None:
    after = apply(Patch({"serial": "T", "labels": {"site": "berlin"}}), BEFORE)
    assert difference(BEFORE, after) == ({"serial": "S"}, {"serial": "T"})
    assert difference(BEFORE, BEFORE) == ({}, {})
