"""JSON Schemas in words: one row a field, of what stands inside a field too. PURE."""

from collections.abc import Iterator, Mapping
from typing import Any

from deploy.reference.facts import Document, Field

Schema = Mapping[str, Any]


def document(name: str, schema: Schema) -> Document:
    """A schema as a document."""
    title = schema.get("title", "")
    text = schema.get("description", "")
    if "enum" in schema:
        text = f"{text} One of {', '.join(f'`{value}`' for value in schema['enum'])}.".lstrip()
    return Document(name, "" if title == name else title, text, tuple(fields(schema)))


def fields(schema: Schema, prefix: str = "") -> Iterator[Field]:
    """Every field, in the schema's order, an inner one right behind what it stands in."""
    required = schema.get("required", ())
    for name, inner in schema.get("properties", {}).items():
        yield Field(prefix + name, words(inner), name in required, inner.get("description", ""))
        yield from fields(inner, f"{prefix}{name}.")
        yield from fields(inner.get("items", {}), f"{prefix}{name}[].")


def words(schema: Schema) -> str:
    """The type of a value."""
    if "$ref" in schema:
        return str(schema["$ref"]).rpartition("/")[2]
    if "enum" in schema:
        return " or ".join(f"`{value}`" for value in schema["enum"])
    for several in ("anyOf", "oneOf"):
        if several in schema:
            return " or ".join(words(option) for option in schema[several])
    kinds = schema.get("type", "any")
    return " or ".join(_kind(kind, schema) for kind in ([kinds] if isinstance(kinds, str) else kinds))


def _kind(kind: str, schema: Schema) -> str:
    match kind:
        case "string":
            return _string(schema)
        case "integer" | "number":
            return kind + _bounds(schema, "minimum", "maximum")
        case "array":
            if "prefixItems" in schema:
                return "list of " + ", ".join(words(item) for item in schema["prefixItems"])
            return f"list of {words(schema.get('items', {}))}{_bounds(schema, 'minItems', 'maxItems')}"
        case "object":
            inner = schema.get("additionalProperties") or next(
                iter(schema.get("patternProperties", {}).values()), None
            )
            of = f" of {words(inner)}" if isinstance(inner, Mapping) else ""
            return f"object{of}{_bounds(schema, 'minProperties', 'maxProperties')}"
        case _:
            return kind


def _string(schema: Schema) -> str:
    if schema.get("format") == "date-time":
        return "time (RFC 3339)"
    if "pattern" in schema:
        return f"string `{schema['pattern']}`"
    return "string" + _bounds(schema, "minLength", "maxLength")


def _bounds(schema: Schema, least: str, most: str) -> str:
    low, high = schema.get(least), schema.get(most)
    if low is None and high is None:
        return ""
    if high is None:
        return f" (at least {low})"
    return f" (at most {high})" if low is None else f" ({low} to {high})"
