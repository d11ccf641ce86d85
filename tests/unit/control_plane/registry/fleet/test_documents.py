"""What a change may say."""

import pytest
from pydantic import ValidationError

from control_plane.registry.fleet.documents import DevicePatch, MoveReason


def test_only_what_is_named_is_asked() -> None:
    body = DevicePatch.model_validate_json('{"labels": {"a": null}, "location": {"lat": 1}, "limits": null}')
    assert body.patch().asked == {"labels": {"a": None}, "location": {"lat": 1.0}, "limits": None}
    assert DevicePatch().patch().asked == {}


@pytest.mark.parametrize(
    "text",
    [
        '{"serial": null}',
        '{"serial": ""}',
        '{"serial": "\\u0000"}',
        '{"colour": "red"}',
        '{"labels": {"1a": "x"}}',
        '{"labels": {"a": 1}}',
        '{"location": {"lat": 91}}',
        '{"limits": {"messages_per_s": 0}}',
        '{"limits": {"messages_per_s": 1e400}}',
        '{"status": "active"}',
    ],
)
def test_what_makes_no_sense_is_refused(text: str) -> None:
    with pytest.raises(ValidationError):
        DevicePatch.model_validate_json(text)


def test_a_reason_is_short() -> None:
    assert MoveReason(reason="sold").reason == "sold"
    with pytest.raises(ValidationError):
        MoveReason(reason="x" * 257)
