"""An example of any document, made from its JSON Schema. PURE.

What a document says of itself (`examples`) goes first; a field that says nothing gets a value that fits its name, or
else its type, so that no request and no answer stands in the description without one.
"""

from collections.abc import Mapping
from typing import Any

Schema = Mapping[str, Any]

_HASH = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
_WORDS: dict[str, Any] = {
    "id": "cellar-1", "serial": "SN-0001", "type": "thermometer", "gateway_id": "hall-3", "device_id": "cellar-1",
    "key_id": "k:ab3kq9w2m7xz", "api_key": "k:ab3kq9w2m7xz.SHOWN-ONCE", "token": "t-abcdefghijkm.SHOWN-ONCE",
    "name": "dashboard", "actor": "t-abcdefghijkm", "created_by": "t-abcdefghijkm", "source": "192.0.2.7",
    "action": "device.register", "target": "cellar-1", "reason": "seen at two sites at once", "unit": "°C",
    "description": "Berlin, cellars", "place": "hall 3", "lat": 52.52, "lon": 13.4, "version": 3, "why": "rotation",
    "pseudonym": "d-5f2c9a7be01d4c33", "hardware_id": _HASH, "mqtt_url": "mqtts://hub.example:8883",
    "mqtt_mtls_url": "mqtts://hub.example:8884", "api_url": "https://hub.example", "agent_version": "0.1.0",
    "next_cursor": "Y2VsbGFyLTE", "values_sha256": _HASH, "replaces": None, "until": "2026-01-02T12:00:00Z",
    "ca_pem": "-----BEGIN CERTIFICATE-----\n...\n-----END CERTIFICATE-----\n",
}  # fmt: skip
_MOMENT = "2026-01-01T12:00:00Z"
_LINES = {
    "application/jsonl": '{"id": "cellar-1"}\n',
    "application/x-ndjson": '{"id": "cellar-1"}\n',
    "text/csv": "id,serial,type\r\ncellar-1,SN-0001,thermometer\r\n",
}
_DEEPEST = 8


def of_content(media: str, schema: Schema, components: Mapping[str, Schema]) -> Any:
    """An example of a body of that media type. `components`: the described documents by name."""
    if media in _LINES:
        return _LINES[media]
    return example(schema, components)


def example(schema: Schema, components: Mapping[str, Schema], name: str = "", depth: int = 0) -> Any:
    """A value that fits the schema; `name` is the field it stands in."""
    reference = schema.get("$ref")
    if isinstance(reference, str):
        return example(components[reference.rpartition("/")[2]], components, name, depth + 1)
    for said in ("examples", "enum"):
        if schema.get(said):
            return schema[said][0]
    if "const" in schema:
        return schema["const"]
    choices = schema.get("anyOf") or schema.get("oneOf") or schema.get("allOf")
    if choices:
        return _choice(choices, components, name, depth)
    kind = schema.get("type")
    if kind == "object" or "properties" in schema:
        return _object(schema, components, depth)
    if kind == "array":
        return [] if depth > _DEEPEST else [example(schema.get("items", {}), components, name.rstrip("s"), depth + 1)]
    if kind in ("integer", "number"):
        return _number(schema, name)
    if kind == "boolean":
        return False
    if kind == "string":
        return _text(schema, name)
    return None if kind == "null" else {}


def _choice(choices: list[Schema], components: Mapping[str, Schema], name: str, depth: int) -> Any:
    nothing_allowed = any(choice.get("type") == "null" for choice in choices)
    if nothing_allowed and (_WORDS.get(name, "") is None or depth > _DEEPEST):
        return None
    value = next(choice for choice in choices if choice.get("type") != "null")
    return example(value, components, name, depth)


def _object(schema: Schema, components: Mapping[str, Schema], depth: int) -> dict[str, Any]:
    properties: Mapping[str, Schema] = schema.get("properties", {})
    if properties:
        return {name: example(inner, components, name, depth + 1) for name, inner in properties.items()}
    inner = schema.get("additionalProperties")
    if isinstance(inner, Mapping) and depth <= _DEEPEST:
        return {"site": example(inner, components, "place", depth + 1)}
    return {}


def _number(schema: Schema, name: str) -> int | float:
    least: int | float = schema.get(
        "minimum", schema.get("exclusiveMinimum", 0) + (1 if "exclusiveMinimum" in schema else 0)
    )
    found = _WORDS.get(name)
    value: int | float = found if isinstance(found, int | float) else 1
    most: int | float = schema.get("maximum", max(value, least))
    return min(max(value, least), most)


def _text(schema: Schema, name: str) -> str:
    if schema.get("format") == "date-time":
        return _MOMENT
    found = _WORDS.get(name)
    text = found if isinstance(found, str) else "berlin"
    return text.ljust(schema.get("minLength", 0), "x")[
        : schema.get("maxLength", len(text) + schema.get("minLength", 0))
    ]
