"""The REST half of the misuse matrix: every guarded route of the API, met with each kind of bad token.

The rows are made from the application itself, so a new route is in the matrix the day it is written; a route without
a guard must stand in OPEN, with the reason.
"""

import re
from dataclasses import dataclass
from typing import Any, cast

from fastapi.routing import APIRoute

from control_plane.registry import api
from control_plane.registry.rooms import Rooms
from shared.authority import RULES, Operation, Role, family

OPEN = {
    "/healthz": "says that the process lives",
    "/readyz": "says what is missing, in words without names",
    "/metrics": "counts, without device ids",
    "/schemas/{name}.json": "the events' published form",
    "/v1/ca": "the CA's certificate, which is public",
    "/v1/enroll": "the enrolment token in the body is the guard",
    "/v1/self": "a device's own door: its key is the guard",
    "/internal/mqtt": "a broker's own door: its secret is the guard",
}
"""Paths, or the beginnings of paths, that no API token guards, and why."""


@dataclass(frozen=True, slots=True)
class Door:
    """One guarded route."""

    method: str
    path: str
    operation: Operation

    @property
    def name(self) -> str:
        return f"{self.method} {self.path}"

    def filled(self, value: str) -> str:
        """The path with `value` in the place of each parameter."""
        return re.sub(r"\{[^}]+\}", value, self.path)


def _routes() -> list[APIRoute]:
    parts = [cast("Any", None)] * len(Rooms.__dataclass_fields__)
    app = cast("Any", api.build(Rooms(*parts), list))._app
    return [route for route in app.routes if isinstance(route, APIRoute)]


def _operation(route: APIRoute) -> Operation | None:
    for dependant in route.dependant.dependencies:
        found = getattr(dependant.call, "operation", None)
        if isinstance(found, Operation):
            return found
    return None


DOORS = [
    Door(method, route.path, operation)
    for route in _routes()
    for method in sorted(route.methods)
    if (operation := _operation(route)) is not None
]
UNGUARDED = sorted(
    route.path for route in _routes() if _operation(route) is None and not route.path.startswith(tuple(OPEN))
)

BAD_HEADERS = {
    "no token": None,
    "an empty header": "",
    "the scheme alone": "Bearer",
    "another scheme": "Basic {admin}",
    "no scheme": "{admin}",
    "an id without a secret": "Bearer {admin.id}.",
    "a wrong secret": "Bearer {admin.id}." + "x" * 43,
    "a secret with a letter less": "Bearer {admin.short}",
    "another's secret": "Bearer {admin.id}.{viewer.secret}",
    "an unknown id": "Bearer t-{nobody}.{admin.secret}",
    "an expired token": "Bearer {expired}",
    "a revoked token": "Bearer {revoked}",
    "a device's key": "Bearer {a.key}.{a.secret}",
    "SQL": "Bearer t-{nobody}' OR '1'='1.x",
    "a very long token": "Bearer t-" + "a" * 4_000 + ".x",
}
"""What may be in the Authorization header; each is refused with 401."""


def too_low(door: Door) -> list[str]:
    """The tokens whose role is too low or whose scopes are too narrow for the door."""
    names = [role.name.lower() for role in Role if role < RULES[door.operation]]
    return [*names, "narrow" if family(door.operation) != "types" else "narrow to groups"]
