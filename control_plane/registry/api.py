"""REST: the sub-rooms' routes put together, the windows that need no token, and every refusal as problem details.

Leaves the routes themselves to the sub-rooms, sizes and times to `doors`.
"""

from collections.abc import Callable
from importlib.resources import files
from typing import Annotated, Any

import prometheus_client
from fastapi import APIRouter, FastAPI, Path, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.openapi.utils import get_openapi
from starlette.exceptions import HTTPException

from control_plane.registry import broker_routes, events, openapi, policies
from control_plane.registry.access import audit_routes, token_routes
from control_plane.registry.credentials import routes as credential_routes
from control_plane.registry.credentials import self_routes
from control_plane.registry.doors import App, Doors
from control_plane.registry.enrolment import behind_routes
from control_plane.registry.enrolment import routes as enrolment_routes
from control_plane.registry.fleet import group_routes, privacy_routes, routes, transfer_routes, type_routes
from control_plane.registry.guard import Guard
from control_plane.registry.mqtt_door import routes as mqtt_door_routes
from control_plane.registry.pki import routes as certificate_routes
from control_plane.registry.problem import FieldError, Problem, ProblemRaised
from control_plane.registry.quarantine import routes as quarantine_routes
from control_plane.registry.rooms import Rooms
from shared.errors import HubError, Transient
from shared.fault import place_of

_NOT_JSON = Problem(400, "the body is not JSON that can be read", "malformed")
_ROUTING = {404: "not-found", 405: "method-not-allowed"}
_UNCHANGED = "nothing was changed, unless the connection broke at the very end; try again"
"""A COMMIT whose answer is lost may have been done: nobody can know."""

Readiness = Callable[[], list[str]]

ROUTERS: tuple[Callable[[Rooms, Guard], APIRouter], ...] = (
    routes.router,
    type_routes.router,
    credential_routes.router,
    self_routes.router,
    policies.router,
    quarantine_routes.router,
    group_routes.router,
    transfer_routes.router,
    privacy_routes.router,
    enrolment_routes.router,
    behind_routes.router,
    token_routes.router,
    broker_routes.router,
    audit_routes.router,
    mqtt_door_routes.router,
    certificate_routes.router,
)
"""The sub-rooms' routes."""


def build(rooms: Rooms, readiness: Readiness) -> App:
    """The whole API as one ASGI application."""
    app = FastAPI(
        title="IoT control hub",
        version="1",
        description="Devices and gateways. Errors are problem details (RFC 9457).",
        docs_url=None,
        redoc_url=None,
    )
    _windows(app, readiness)
    guard = Guard(rooms.store, rooms.logins, rooms.token_uses)
    for router in ROUTERS:
        app.router.routes.extend(router(rooms, guard).routes)  # as they are: the reference reads each one
    _refusals(app)
    _describe(app)
    return Doors(app)


def _windows(app: FastAPI, readiness: Readiness) -> None:
    @app.get("/healthz", include_in_schema=False)
    async def healthz() -> dict[str, str]:
        return {"status": "ok"}

    @app.get("/readyz", include_in_schema=False)
    async def readyz(response: Response) -> dict[str, object]:
        missing = readiness()
        response.status_code = 503 if missing else 200
        return {"ready": not missing, "missing": missing}

    @app.get("/metrics", include_in_schema=False)
    async def metrics() -> Response:
        return Response(prometheus_client.generate_latest(), media_type=prometheus_client.CONTENT_TYPE_LATEST)

    @app.get("/schemas/{name}.json", include_in_schema=False)
    async def schema(name: Annotated[str, Path(pattern=r"^[a-z0-9._]{1,100}$")]) -> Response:
        found = files("shared") / "schemas" / f"{name}.json"
        if not found.is_file():
            raise ProblemRaised(Problem(404, "there is no such schema", "not-found"))
        return Response(found.read_bytes(), media_type="application/schema+json")


def _refusals(app: FastAPI) -> None:
    @app.exception_handler(ProblemRaised)
    async def raised(_: Request, error: ProblemRaised) -> Response:
        if error.problem.status == 304:
            return Response(status_code=304, headers=error.headers)
        response = _response(error.problem)
        response.headers.update(error.headers)
        return response

    @app.exception_handler(RequestValidationError)
    async def invalid(_: Request, error: RequestValidationError) -> Response:
        found = error.errors()
        if any(item["type"] == "json_invalid" for item in found):
            return _response(_NOT_JSON)
        errors = [FieldError(_pointer(item["loc"]), item["msg"].removeprefix("Value error, ")) for item in found]
        return _response(
            Problem(422, "; ".join(f"{e.pointer or 'the body'}: {e.detail}" for e in errors), "invalid", errors)
        )

    @app.exception_handler(HTTPException)
    async def routing(_: Request, error: HTTPException) -> Response:
        # The framework's only 400: a body that breaks its parser otherwise than by its grammar, such as by bytes that
        # are no UTF-8, brackets without end or an integer of thousands of digits.
        kind = _ROUTING.get(error.status_code, "")
        problem = _NOT_JSON if error.status_code == 400 else Problem(error.status_code, str(error.detail), kind)
        response = _response(problem)
        response.headers.update(error.headers or {})
        return response

    @app.exception_handler(HubError)
    async def broken(request: Request, error: HubError) -> Response:
        if isinstance(error, Transient):
            return _response(Problem(503, f"{error.args[0]}; {_UNCHANGED}", "unavailable"))
        return await bug(request, error)

    @app.exception_handler(Exception)
    async def bug(request: Request, error: Exception) -> Response:
        route = getattr(request.scope.get("route"), "path", "none")
        events.RequestFailed(request.method, route, place_of(error)).emit()
        return _response(Problem(500, "the hub could not do this; its log says why"))


def _describe(app: FastAPI) -> None:
    """OpenAPI with what holds for all routes (`openapi`)."""
    made: dict[str, Any] = {}

    def description() -> dict[str, Any]:
        if not made:
            found = get_openapi(title=app.title, version=app.version, routes=app.routes, description=app.description)
            made.update(openapi.finish(found))
        return made

    app.openapi = description  # type: ignore[method-assign]  # the framework's documented way


def _response(problem: Problem) -> Response:
    return Response(problem.body(), status_code=problem.status, headers=problem.headers())


def _pointer(location: tuple[int | str, ...]) -> str:
    where, *rest = location
    if where == "body":
        return "".join("/" + str(part).replace("~", "~0").replace("/", "~1") for part in rest)  # RFC 6901
    return ("?" if where == "query" else f"{where}: ") + "/".join(str(part) for part in rest)
