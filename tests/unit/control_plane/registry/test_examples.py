"""Examples made from schemas fit them."""

from typing import Any

import jsonschema
import pytest

from control_plane.registry.examples import example, of_content

COMPONENTS: dict[str, Any] = {
    "Said": {"type": "object", "properties": {"a": {"type": "integer"}}, "examples": [{"a": 41}]},
}


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "string"},
        {"type": "string", "minLength": 40, "maxLength": 41},
        {"type": "string", "maxLength": 2},
        {"type": "string", "format": "date-time"},
        {"type": "integer", "minimum": 5},
        {"type": "integer", "exclusiveMinimum": 5},
        {"type": "number", "maximum": 0.5},
        {"type": "boolean"},
        {"type": "null"},
        {"const": 7},
        {"enum": ["x", "y"]},
        {"type": "array", "items": {"enum": ["x"]}},
        {"type": "object", "additionalProperties": {"type": "number"}},
        {"type": "object"},
        {"anyOf": [{"type": "null"}, {"type": "integer"}]},
        {},
    ],
)
def test_each_kind_fits_its_schema(schema: dict[str, Any]) -> None:
    jsonschema.validate(example(schema, {}), schema)


def test_what_a_document_says_of_itself_goes_first() -> None:
    assert example({"$ref": "#/components/schemas/Said"}, COMPONENTS) == {"a": 41}


@pytest.mark.parametrize(("name", "kind", "value"), [("serial", "string", "SN-0001"), ("version", "integer", 3)])
def test_a_field_gets_a_word_that_fits_its_name(name: str, kind: str, value: object) -> None:
    assert example({"type": "object", "properties": {name: {"type": kind}}}, {}) == {name: value}


def test_lines_have_examples_of_their_own() -> None:
    assert of_content("text/csv", {"type": "string"}, {}).endswith("\r\n")
    assert of_content("application/json", {"type": "integer"}, {}) == 1
