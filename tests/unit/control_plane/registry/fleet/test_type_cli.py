"""`hub type` as a user types it."""

import pytest

from tests.unit.control_plane.registry.conftest import Hub


def test_types(hub: Hub) -> None:
    found = {"name": "t", "metrics": {}}
    status, _, _ = hub("type", "set", "t", "--metric", "a=-20..60", "--metric", "b=..5", answers=[(200, found)])
    assert status == 0
    assert hub.asked[0]["body"] == {"metrics": {"a": {"min": -20.0, "max": 60.0}, "b": {"max": 5.0}}}
    _, out, _ = hub("type", "list", answers=[(200, {"types": [found], "next_cursor": None})])
    assert out == "t\n"


@pytest.mark.parametrize("bounds", ["a=5", "a=x..5"])
def test_bounds_that_make_no_sense_reach_nobody(hub: Hub, bounds: str) -> None:
    status, _, err = hub("type", "set", "t", "--metric", bounds, answers=[])
    assert (status, hub.asked) == (2, [])
    assert err.startswith("hub: ")
