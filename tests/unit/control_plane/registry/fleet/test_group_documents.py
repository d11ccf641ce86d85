"""What a group may be."""

import pytest
from pydantic import ValidationError

from control_plane.registry.fleet.group_documents import GroupChange, Members, NewGroup


def test_a_query_keeps_only_what_was_said() -> None:
    group = NewGroup.model_validate({"name": "g", "query": {"labels": ["a=1"], "kind": "device"}})
    assert group.query is not None
    assert group.query.stored() == {"labels": ["a=1"], "kind": "device"}


def test_a_change_names_what_it_changes() -> None:
    assert GroupChange.model_validate({}).asked() == {}
    assert GroupChange.model_validate({"description": "x"}).asked() == {"description": "x"}
    assert GroupChange.model_validate({"query": {"type": "t"}}).asked() == {"query": {"type": "t"}}


@pytest.mark.parametrize(
    "body",
    [
        {"name": "g", "query": {}},
        {"name": "g", "query": {"labels": ["=x"]}},
        {"name": "g", "query": {"status": "active"}},
        {"name": "g", "query": {"labels": ["a"] * 9}},
        {"name": "-"},
    ],
)
def test_what_makes_no_group_is_refused(body: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        NewGroup.model_validate(body)


def test_members_are_at_most_500_ids() -> None:
    with pytest.raises(ValidationError):
        Members(devices=["a"] * 501)
    with pytest.raises(ValidationError):
        Members(devices=["../a"])
