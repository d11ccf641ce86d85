"""REST: the routes, who may use them, and every refusal as problem details.

Leaves what a registration means to `registrar`, the documents' form to `resources`, sizes and times to `doors`.
"""

from collections.abc import Callable
from importlib.resources import files
from typing import Annotated, Any

import prometheus_client
from fastapi import APIRouter, FastAPI, Header, Path, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.openapi.utils import get_openapi
from starlette.exceptions import HTTPException

from control_plane.registry import events, resources
from control_plane.registry.doors import App, Doors
from control_plane.registry.guard import Guard
from control_plane.registry.paging import LONGEST_PAGE, PAGE, after, next_cursor
from control_plane.registry.problem import MEDIA_TYPE, FieldError, Problem, ProblemRaised
from control_plane.registry.registrar import Registrar
from control_plane.registry.registration import Refusal, Refused
from control_plane.registry.rooms import Rooms
from control_plane.registry.store import Store
from shared.authority import Actor, Operation
from shared.device import Kind
from shared.errors import HubError, Transient
from shared.fault import place_of
from shared.ids import ID_PATTERN, DeviceId, is_device_id

_STATUS = {
    Refusal.ID_TAKEN: 409,
    Refusal.SERIAL_TAKEN: 409,
    Refusal.IDEMPOTENCY_KEY_REUSED: 422,
    Refusal.GATEWAY_UNKNOWN: 422,
    Refusal.GATEWAY_BEHIND_GATEWAY: 422,
}
_POINTER = {
    Refusal.ID_TAKEN: "/id",
    Refusal.SERIAL_TAKEN: "/serial",
    Refusal.GATEWAY_UNKNOWN: "/gateway_id",
    Refusal.GATEWAY_BEHIND_GATEWAY: "/gateway_id",
}
_PROBLEM_RESPONSE: dict[int | str, dict[str, Any]] = {
    "default": {
        "description": "A refusal, as problem details (RFC 9457)",
        "content": {
            MEDIA_TYPE: {
                "schema": {
                    "type": "object",
                    "properties": {
                        "type": {"type": "string"},
                        "title": {"type": "string"},
                        "status": {"type": "integer"},
                        "detail": {"type": "string"},
                        "errors": {
                            "type": "array",
                            "items": {
                                "type": "object",
                                "properties": {"pointer": {"type": "string"}, "detail": {"type": "string"}},
                            },
                        },
                    },
                }
            }
        },
    }
}

_NOT_JSON = Problem(400, "the body is not JSON that can be read", "malformed")
_ROUTING = {404: "not-found", 405: "method-not-allowed"}
_UNCHANGED = "nothing was changed, unless the connection broke at the very end; try again"
"""A COMMIT whose answer is lost may have been done: nobody can know."""

Readiness = Callable[[], list[str]]

ROUTERS: tuple[Callable[[Rooms, Guard], APIRouter], ...] = ()
"""The sub-rooms' routes."""


def build(rooms: Rooms, readiness: Readiness) -> App:
    """The whole API as one ASGI application."""
    app = FastAPI(
        title="IoT control hub",
        version="1",
        description="Devices and gateways. Errors are problem details (RFC 9457).",
        docs_url=None,
        redoc_url=None,
        responses=_PROBLEM_RESPONSE,
    )
    _windows(app, readiness)
    guard = Guard(rooms.store)
    _devices(app, rooms.store, rooms.registrar, guard)
    _types(app, rooms.store, guard)
    for router in ROUTERS:
        app.include_router(router(rooms, guard))
    _refusals(app)
    _describe(app)
    return Doors(app)


def _devices(app: FastAPI, store: Store, registrar: Registrar, guard: Guard) -> None:
    viewer = guard.needs(Operation.DEVICES_READ)
    operator = guard.needs(Operation.DEVICES_WRITE)

    @app.post("/v1/devices", status_code=201, tags=["devices"], summary="Register a device or gateway")
    async def register(
        body: resources.NewDevice,
        response: Response,
        actor: Annotated[Actor, operator],
        idempotency_key: Annotated[str | None, Header(min_length=1, max_length=128)] = None,
    ) -> resources.RegisteredDevice:
        """Answers when the broker holds the key. With an Idempotency-Key the same request may be sent again: until
        the key was used it gets a new secret, which ends the unseen one; afterwards the device without a secret.
        """
        outcome = await registrar.register(body.request(), actor, idempotency_key)
        if isinstance(outcome, Refused):
            raise _refused(outcome)
        response.headers["Location"] = f"/v1/devices/{outcome.device.id}"
        response.headers["ETag"] = f'"{outcome.device.version}"'
        response.headers["Cache-Control"] = "no-store"
        if outcome.api_key is None:
            response.status_code = 200
        return resources.registered(outcome.device, outcome.api_key)

    @app.get("/v1/devices", tags=["devices"], summary="List devices", dependencies=[viewer])
    async def list_devices(
        cursor: Annotated[str | None, Query(max_length=128)] = None,
        limit: Annotated[int, Query(ge=1, le=LONGEST_PAGE)] = PAGE,
        kind: Kind | None = None,
        gateway_id: Annotated[str | None, Query(pattern=ID_PATTERN)] = None,
    ) -> resources.DeviceList:
        """In order of id. `gateway_id`: those that are behind that gateway now."""
        found = await store.devices(after=after(cursor), limit=limit + 1, kind=kind, gateway_id=gateway_id)
        page = [resources.view(device) for device in found[:limit]]
        more = len(found) > limit
        return resources.DeviceList(devices=page, next_cursor=next_cursor(found[limit - 1].id if more else "", more))

    @app.get("/v1/devices/{device_id}", tags=["devices"], summary="Show a device", dependencies=[viewer])
    async def show_device(device_id: str, response: Response) -> resources.DeviceDetail:
        device = await store.device(DeviceId(device_id)) if is_device_id(device_id) else None
        if device is None:
            raise _no_device()
        response.headers["ETag"] = f'"{device.version}"'
        return resources.detail(device)

    @app.post("/v1/devices/{device_id}:assign", tags=["devices"], summary="Put a device behind a gateway, or none")
    async def assign(
        device_id: str, body: resources.Assignment, actor: Annotated[Actor, operator]
    ) -> resources.DeviceDetail:
        """From now on that gateway speaks for the device. Readings accepted before keep their earlier gateway."""
        gateway_id = DeviceId(body.gateway_id) if body.gateway_id else None
        done = await store.assign(DeviceId(device_id), gateway_id, actor) if is_device_id(device_id) else False
        if isinstance(done, Refused):
            raise _refused(done)
        device = await store.device(DeviceId(device_id)) if done else None
        if device is None:
            raise _no_device()
        return resources.detail(device)


def _types(app: FastAPI, store: Store, guard: Guard) -> None:
    viewer = guard.needs(Operation.TYPES_READ)
    operator = guard.needs(Operation.TYPES_WRITE)
    name_of = Path(pattern=resources.TYPE_PATTERN)

    @app.get("/v1/types", tags=["types"], summary="List device types", dependencies=[viewer])
    async def list_types(
        cursor: Annotated[str | None, Query(max_length=128)] = None,
        limit: Annotated[int, Query(ge=1, le=LONGEST_PAGE)] = PAGE,
    ) -> resources.TypeList:
        """In order of name."""
        found = await store.types(after=after(cursor), limit=limit + 1)
        page = [resources.type_view(item) for item in found[:limit]]
        more = len(found) > limit
        return resources.TypeList(types=page, next_cursor=next_cursor(found[limit - 1].name if more else "", more))

    @app.get("/v1/types/{name}", tags=["types"], summary="Show a device type", dependencies=[viewer])
    async def show_type(name: Annotated[str, name_of]) -> resources.TypeView:
        found = await store.type(name)
        if found is None:
            raise ProblemRaised(Problem(404, "there is no such type", "not-found"))
        return resources.type_view(found)

    @app.put("/v1/types/{name}", tags=["types"], summary="Say what is expected of a type's metrics")
    async def put_type(
        name: Annotated[str, name_of], body: resources.TypeExpectation, actor: Annotated[Actor, operator]
    ) -> resources.TypeView:
        """Makes the type, or replaces all that was said of it."""
        return resources.type_view(await store.put_type(name, body.stored(), actor))


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
        return _response(error.problem)

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
    """OpenAPI with the bearer token, and with our 422 instead of the framework's."""
    made: dict[str, Any] = {}

    def openapi() -> dict[str, Any]:
        if not made:
            made.update(
                get_openapi(title=app.title, version=app.version, routes=app.routes, description=app.description)
            )
            components = made.setdefault("components", {})
            components["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
            made["security"] = [{"token": []}]
            for name in ("HTTPValidationError", "ValidationError"):
                components.get("schemas", {}).pop(name, None)
            for path in made["paths"].values():
                for operation in path.values():
                    operation["responses"].pop("422", None)
                    operation["responses"].setdefault("default", _PROBLEM_RESPONSE["default"])
        return made

    app.openapi = openapi  # type: ignore[method-assign]  # the framework's documented way


def _response(problem: Problem) -> Response:
    return Response(problem.body(), status_code=problem.status, headers=problem.headers())


def _refused(refused: Refused) -> ProblemRaised:
    pointer = _POINTER.get(refused.why)
    errors = [FieldError(pointer, refused.detail)] if pointer else []
    return ProblemRaised(Problem(_STATUS[refused.why], refused.detail, refused.why, errors))


def _no_device() -> ProblemRaised:
    return ProblemRaised(Problem(404, "there is no such device", "not-found"))


def _pointer(location: tuple[int | str, ...]) -> str:
    where, *rest = location
    if where == "body":
        return "".join("/" + str(part).replace("~", "~0").replace("/", "~1") for part in rest)  # RFC 6901
    return ("?" if where == "query" else f"{where}: ") + "/".join(str(part) for part in rest)
