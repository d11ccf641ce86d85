"""What is told fits its published schema."""

import json
from pathlib import Path

import jsonschema
import pytest

import shared
from control_plane.registry import lifecycle_event
from control_plane.registry.lifecycle_event import Change, encode
from shared.device import DeviceView, Kind, Limits, Ownership, Status, encode_view

SCHEMAS = Path(shared.__file__).parent / "schemas"
MOVED = DeviceView(
    "dev", Kind.DEVICE, "t", Status.PROVISIONED, 3, (Ownership("gw1", 1, 2), Ownership("gw2", 2)), Limits(1.0)
)


def schema(name: str) -> jsonschema.Draft202012Validator:
    document = json.loads((SCHEMAS / f"{name}.json").read_text(encoding="utf-8"))
    jsonschema.Draft202012Validator.check_schema(document)
    return jsonschema.Draft202012Validator(document)


@pytest.mark.parametrize("change", list(Change))
def test_events_fit_their_schema(change: Change) -> None:
    body = json.loads(encode(MOVED, change))
    schema(lifecycle_event.TYPE).validate(body)
    assert (body["device_id"], body["change"], body["version"], body["gateway_id"]) == ("dev", change, 3, "gw2")


def test_a_device_behind_nobody_has_no_gateway() -> None:
    view = DeviceView("dev", Kind.DEVICE, "t", Status.PROVISIONED, 2, (Ownership("gw1", 1, 2),))
    assert "gateway_id" not in json.loads(encode(view, Change.ASSIGNED))


def test_views_fit_their_schema() -> None:
    schema(lifecycle_event.VIEW_TYPE).validate(json.loads(encode_view(MOVED)))


def test_the_schema_refuses_what_is_none() -> None:
    with pytest.raises(jsonschema.ValidationError):
        schema(lifecycle_event.TYPE).validate({"device_id": "dev", "change": "exploded"})
