"""`hub group` as a user types it."""

from tests.unit.control_plane.registry.conftest import Hub

GROUP = {"name": "g", "description": "", "query": None, "version": 1}


def test_create_listed_and_by_query(hub: Hub) -> None:
    hub("group", "create", "g", "--description", "first", answers=[(201, GROUP)])
    assert hub.asked[0]["body"] == {"name": "g", "description": "first"}
    hub("group", "create", "g", "--label", "site=x", "--label", "mains", "--type", "t", answers=[(201, GROUP)])
    assert hub.asked[0]["body"]["query"] == {"labels": ["site=x", "mains"], "type": "t"}


def test_members(hub: Hub) -> None:
    status, out, _ = hub("group", "add", "g", "a", "b", answers=[(200, {"changed": 1, "unknown": ["b"]})])
    assert (status, out) == (1, "1 changed\nb: no such device\n")
    assert (hub.asked[0]["path"], hub.asked[0]["body"]) == ("/v1/groups/g/members:add", {"devices": ["a", "b"]})
    _, out, _ = hub("group", "members", "g", answers=[(200, {"devices": [{"id": "a"}], "next_cursor": None})])
    assert out == "a\n"
    _, out, _ = hub("group", "list", answers=[(200, {"groups": [GROUP], "next_cursor": None})])
    assert "listed" in out
    status, _, err = hub("group", "add", "g", *["a"] * 501, answers=[])
    assert status == 2
    assert "at most 500" in err
