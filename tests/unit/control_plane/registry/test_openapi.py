"""The description of the whole API: every body and every answer has an example that fits, every refusal is told."""

from collections.abc import Iterator
from inspect import signature
from typing import Any

import jsonschema
import pytest

from control_plane.registry import api
from control_plane.registry.rooms import Rooms


def _document() -> dict[str, Any]:
    parts: list[Any] = [None] * len(signature(Rooms).parameters)
    app: Any = api.build(Rooms(*parts), list)
    found: dict[str, Any] = app._app.openapi()
    return found


DOCUMENT = _document()
OPERATIONS = [
    (f"{method.upper()} {path}", operation)
    for path, operations in DOCUMENT["paths"].items()
    for method, operation in operations.items()
]


def _contents(operation: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    answers = [answer for status, answer in operation["responses"].items() if status.startswith("2")]
    for body in (operation.get("requestBody", {}), *answers):
        yield from body.get("content", {}).items()


def _fits(value: Any, schema: dict[str, Any]) -> None:
    jsonschema.validate(value, {**schema, "components": DOCUMENT["components"]})


@pytest.mark.parametrize(("name", "operation"), OPERATIONS, ids=[name for name, _ in OPERATIONS])
def test_every_body_and_answer_has_an_example_that_fits(name: str, operation: dict[str, Any]) -> None:
    for media, content in _contents(operation):
        found = list(content.get("examples", ())) if isinstance(content.get("examples"), list) else []
        found += [content["example"]] if "example" in content else []
        schema = content.get("schema", {})
        assert found or schema.get("examples"), f"{name}: {media}"
        for value in found:
            _fits(value, schema)


@pytest.mark.parametrize("name", sorted(DOCUMENT["components"]["schemas"]))
def test_what_a_document_says_of_itself_fits_it(name: str) -> None:
    schema = DOCUMENT["components"]["schemas"][name]
    for value in schema.get("examples", ()):
        _fits(value, schema)


@pytest.mark.parametrize(("name", "operation"), OPERATIONS, ids=[name for name, _ in OPERATIONS])
def test_every_refusal_is_told(name: str, operation: dict[str, Any]) -> None:
    told = set(operation["responses"])
    assert {"503", "default"} <= told
    if operation.get("security") != []:
        assert {"401", "429"} <= told
    if "security" not in operation:
        assert "403" in told
    if "{" in name:
        assert "404" in told
    if any(item["name"].lower() == "if-match" for item in operation.get("parameters", ())):
        assert "412" in told
    if "requestBody" in operation:
        assert {"400", "413", "415", "422"} <= told
    if not name.startswith("GET"):
        assert "409" in told


def test_refusals_are_problem_details_with_an_example() -> None:
    for name, response in DOCUMENT["components"]["responses"].items():
        (content,) = response["content"].values()
        _fits(content["example"], content["schema"])
        assert name == f"Refused{content['example']['status']}"
    assert "HTTPValidationError" not in str(DOCUMENT)


def test_the_devices_own_door_takes_keys_and_the_open_ones_nothing() -> None:
    found = dict(OPERATIONS)
    assert found["GET /v1/self"]["security"] == [{"key": []}]
    assert found["POST /v1/enroll"]["security"] == []
    assert "security" not in found["GET /v1/devices"]
