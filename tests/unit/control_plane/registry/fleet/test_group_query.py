"""A search narrowed by a group's query."""

import pytest

from control_plane.registry.fleet.group_query import NOBODY, label, narrowed
from control_plane.registry.fleet.search import Filter, Label
from shared.device import Kind


@pytest.mark.parametrize(
    ("wanted", "query", "found"),
    [
        (Filter(), {"kind": "device"}, Filter(kind=Kind.DEVICE)),
        (Filter(type="t"), {"labels": ["a=1", "b"]}, Filter(type="t", labels=(Label("a", "1"), Label("b")))),
        (Filter(labels=(Label("c"),)), {"labels": ["a="]}, Filter(labels=(Label("c"), Label("a", "")))),
        (Filter(type="t"), {"type": "t"}, Filter(type="t")),
        (Filter(type="t"), {"type": "u"}, NOBODY),
        (Filter(kind=Kind.GATEWAY), {"kind": "device"}, NOBODY),
    ],
)
def test_all_of_both_must_hold(wanted: Filter, query: dict[str, object], found: Filter) -> None:
    assert narrowed(wanted, query) == found


def test_selectors() -> None:
    assert label("site=a=b") == Label("site", "a=b")
    assert label("site") == Label("site", None)
