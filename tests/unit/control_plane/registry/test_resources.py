"""What the API accepts, with its limits, and what it shows."""

from datetime import UTC, datetime
from typing import Any

import pytest
from pydantic import ValidationError

from control_plane.registry.device import Device, DeviceType, KeyUse
from control_plane.registry.registration import Request
from control_plane.registry.resources import (
    LABELS,
    Assignment,
    NewDevice,
    TypeExpectation,
    detail,
    registered,
    type_view,
    view,
)
from shared.device import Kind, Status

GOOD = {"serial": "S1", "type": "thermometer"}
AT = datetime(2026, 1, 1, tzinfo=UTC)
DEVICE = Device(
    "dev", "S1", "t", Kind.DEVICE, Status.PROVISIONED, "gw", {"a": "b"}, 2, AT, AT, (KeyUse("k:a", AT, None),)
)


def test_a_registration_in_the_domains_words() -> None:
    body = NewDevice.model_validate({**GOOD, "id": "dev", "gateway_id": "gw", "labels": {"site": "x"}})
    assert body.request() == Request("S1", "thermometer", Kind.DEVICE, "dev", "gw", {"site": "x"})  # type: ignore[arg-type]
    assert NewDevice.model_validate(GOOD).request() == Request("S1", "thermometer", Kind.DEVICE)


@pytest.mark.parametrize(
    ("change", "place"),
    [
        ({"id": "_ingest"}, ("id",)),
        ({"id": ""}, ("id",)),
        ({"id": "a/b"}, ("id",)),
        ({"id": "a" * 65}, ("id",)),
        ({"id": "a\n"}, ("id",)),
        ({"gateway_id": "+"}, ("gateway_id",)),
        ({"serial": ""}, ("serial",)),
        ({"serial": "x" * 129}, ("serial",)),
        ({"serial": "a\x00"}, ("serial",)),
        ({"type": "a b"}, ("type",)),
        ({"kind": "robot"}, ("kind",)),
        ({"labels": {f"l{number}": "" for number in range(LABELS + 1)}}, ("labels",)),
        ({"labels": {"a b": ""}}, ("labels", "a b", "[key]")),
        ({"labels": {"a": "x" * 129}}, ("labels", "a")),
        ({"labels": {"a": 1}}, ("labels", "a")),
        ({"status": "active"}, ("status",)),
    ],
)
def test_what_is_refused_and_where(change: dict[str, Any], place: tuple[str, ...]) -> None:
    with pytest.raises(ValidationError) as caught:
        NewDevice.model_validate(GOOD | change)
    assert [error["loc"] for error in caught.value.errors()] == [place]


def test_an_assignment_says_where_or_nowhere() -> None:
    assert Assignment.model_validate({"gateway_id": None}).gateway_id is None
    with pytest.raises(ValidationError):
        Assignment.model_validate({})


@pytest.mark.parametrize("metric", [{"min": 2, "max": 1}, {"min": float("nan")}, {"max": float("inf")}, {"low": 1}])
def test_expectations_that_make_no_sense(metric: dict[str, float]) -> None:
    with pytest.raises(ValidationError):
        TypeExpectation.model_validate({"metrics": {"temperature": metric}})


def test_only_what_was_said_is_stored_and_shown() -> None:
    stored = TypeExpectation.model_validate({"metrics": {"t": {"max": 60}, "v": {}}}).stored()
    assert stored == {"t": {"max": 60.0}, "v": {}}
    assert type_view(DeviceType("x", stored, None, 1, AT)).metrics == stored


def test_keys_are_shown_without_secrets_and_the_new_one_once() -> None:
    assert "keys" not in view(DEVICE).model_dump()
    shown = detail(DEVICE).model_dump()
    assert shown["keys"] == [{"key_id": "k:a", "created_at": AT, "last_used_at": None}]
    assert "api_key" not in shown
    assert registered(DEVICE, "k:a.s").api_key == "k:a.s"
