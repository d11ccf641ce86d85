"""The API's description, finished: what opens each door, every refusal as problem details, examples everywhere. PURE.

FastAPI describes what the routes declare; this adds what holds for all of them, so that no route has to repeat it.
"""

from collections.abc import Mapping
from typing import Any

from control_plane.registry import examples
from control_plane.registry.problem import MEDIA_TYPE, Problem

_OPEN = ("/v1/enroll", "/v1/ca", "/internal/")
_DEVICES_OWN = "/v1/self"
_CHANGING = ("post", "put", "patch", "delete")

_PROBLEM_SCHEMA: dict[str, Any] = {
    "type": "object",
    "required": ["type", "title", "status", "detail"],
    "properties": {
        "type": {"type": "string", "description": "Names the case for programs."},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string", "description": "For people."},
        "errors": {
            "type": "array",
            "description": "Each wrong place of the request.",
            "items": {
                "type": "object",
                "required": ["pointer", "detail"],
                "properties": {"pointer": {"type": "string"}, "detail": {"type": "string"}},
            },
        },
    },
}
_RETRY_AFTER = {"Retry-After": {"description": "Seconds.", "schema": {"type": "integer", "minimum": 1}}}
_REFUSALS: dict[str, tuple[str, Problem]] = {
    "400": ("The body is not JSON that can be read", Problem(400, "the body is not JSON", "malformed")),
    "401": (
        "No valid token, or none at all; tells nothing else",
        Problem(401, "send a valid token: Authorization: Bearer TOKEN", "unauthenticated"),
    ),
    "403": ("The role or the scopes do not reach", Problem(403, "this needs the role operator", "forbidden")),
    "404": ("There is no such thing", Problem(404, "there is no such device", "not-found")),
    "409": ("Against what is there now", Problem(409, "the id is taken", "id-taken")),
    "412": ("Changed since it was read (If-Match)", Problem(412, "version 4 is there, not 3", "changed")),
    "413": ("The body is too large", Problem(413, "the body is larger than 65536 bytes", "too-large")),
    "415": ("The body is of another media type", Problem(415, "send Content-Type: application/json", "not-json")),
    "422": ("Not valid; `errors` names the places", Problem(422, "/serial: Field required", "invalid")),
    "429": (
        "Too many failed attempts to authenticate; a valid token is still served",
        Problem(429, "too many failed attempts to authenticate", "too-many-attempts", retry_after_s=6),
    ),
    "503": ("A server is away; nothing was changed", Problem(503, "Postgres does not answer", "unavailable")),
}


def finish(document: dict[str, Any]) -> dict[str, Any]:
    """The same document, with security, refusals and examples."""
    components = document.setdefault("components", {})
    schemas: dict[str, Any] = components.setdefault("schemas", {})
    for name in ("HTTPValidationError", "ValidationError"):
        schemas.pop(name, None)
    for schema in schemas.values():
        _restore_nulls(schema)
    schemas["Problem"] = _PROBLEM_SCHEMA
    components["securitySchemes"] = {
        "token": {"type": "http", "scheme": "bearer", "description": "An API token, `t-....<secret>`"},
        "key": {"type": "http", "scheme": "bearer", "description": "A device's own key, `k:....<secret>`"},
    }
    components["responses"] = {f"Refused{status}": _refusal(status) for status in _REFUSALS}
    document["security"] = [{"token": []}]
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            _security(path, operation)
            _add_refusals(path, method, operation)
            _add_examples(operation, schemas)
    return document


def _restore_nulls(schema: dict[str, Any]) -> None:
    """The framework leaves out of examples what is null, also where the field must be there."""
    for said in schema.get("examples", ()):
        for name in set(schema.get("required", ())) - set(said):
            if {"type": "null"} in schema["properties"][name].get("anyOf", ()):
                said[name] = None


def _security(path: str, operation: dict[str, Any]) -> None:
    if path.startswith(_OPEN):
        operation["security"] = []
    elif path.startswith(_DEVICES_OWN):
        operation["security"] = [{"key": []}]


def _add_refusals(path: str, method: str, operation: dict[str, Any]) -> None:
    responses: dict[str, Any] = operation["responses"]
    parameters: list[dict[str, Any]] = operation.get("parameters", [])
    wanted = {"503"}
    if not path.startswith(_OPEN):
        wanted |= {"401", "429"} | (set() if path.startswith(_DEVICES_OWN) else {"403"})
    if any(item["in"] == "path" for item in parameters):
        wanted.add("404")
    if method in _CHANGING:
        wanted.add("409")
    if any(item["name"].lower() == "if-match" for item in parameters):
        wanted.add("412")
    if parameters or "requestBody" in operation:
        wanted.add("422")
    if "requestBody" in operation:
        wanted |= {"400", "413", "415"}
    if "422" in responses and MEDIA_TYPE not in responses["422"].get("content", {}):
        del responses["422"]  # the framework's own form, which is never sent
    for status in sorted(wanted):
        responses.setdefault(status, {"$ref": f"#/components/responses/Refused{status}"})
    responses.setdefault("default", _problem("A refusal, as problem details (RFC 9457)"))


def _add_examples(operation: dict[str, Any], schemas: Mapping[str, Any]) -> None:
    bodies = [operation.get("requestBody", {})]
    bodies += [answer for status, answer in operation["responses"].items() if status.startswith("2")]
    for body in bodies:
        for media, content in body.get("content", {}).items():
            if "example" not in content and "examples" not in content:
                content["example"] = examples.of_content(media, content.get("schema", {}), schemas)


def _refusal(status: str) -> dict[str, Any]:
    words, problem = _REFUSALS[status]
    found = _problem(words)
    found["content"][MEDIA_TYPE]["example"] = problem.document()
    if "Retry-After" in problem.headers():
        found["headers"] = _RETRY_AFTER
    return found


def _problem(words: str) -> dict[str, Any]:
    return {"description": words, "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}}
