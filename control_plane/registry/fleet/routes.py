"""REST of devices and gateways: register, list, show, change, and the moves of their lives.

Leaves what a registration means to `registrar`, the documents' form to `resources`.
"""

from typing import Annotated

from fastapi import APIRouter, Header, Query, Response

from control_plane.registry import resources
from control_plane.registry.fleet.answers import no_device, refused
from control_plane.registry.guard import Guard
from control_plane.registry.paging import LONGEST_PAGE, PAGE, after, next_cursor
from control_plane.registry.registration import Refused
from control_plane.registry.rooms import Rooms
from shared.authority import Actor, Operation
from shared.device import Kind
from shared.ids import ID_PATTERN, DeviceId, is_device_id


def router(rooms: Rooms, guard: Guard) -> APIRouter:
    """Devices and gateways."""
    found = APIRouter(tags=["devices"])
    viewer = guard.needs(Operation.DEVICES_READ)
    operator = guard.needs(Operation.DEVICES_WRITE)

    @found.post("/v1/devices", status_code=201, summary="Register a device or gateway")
    async def register(
        body: resources.NewDevice,
        response: Response,
        actor: Annotated[Actor, operator],
        idempotency_key: Annotated[str | None, Header(min_length=1, max_length=128)] = None,
    ) -> resources.RegisteredDevice:
        """Answers when the broker holds the key. With an Idempotency-Key the same request may be sent again: until
        the key was used it gets a new secret, which ends the unseen one; afterwards the device without a secret.
        """
        outcome = await rooms.registrar.register(body.request(), actor, idempotency_key)
        if isinstance(outcome, Refused):
            raise refused(outcome)
        response.headers["Location"] = f"/v1/devices/{outcome.device.id}"
        response.headers["ETag"] = f'"{outcome.device.version}"'
        response.headers["Cache-Control"] = "no-store"
        if outcome.api_key is None:
            response.status_code = 200
        return resources.registered(outcome.device, outcome.api_key)

    @found.get("/v1/devices", summary="List devices", dependencies=[viewer])
    async def list_devices(
        cursor: Annotated[str | None, Query(max_length=128)] = None,
        limit: Annotated[int, Query(ge=1, le=LONGEST_PAGE)] = PAGE,
        kind: Kind | None = None,
        gateway_id: Annotated[str | None, Query(pattern=ID_PATTERN)] = None,
    ) -> resources.DeviceList:
        """In order of id. `gateway_id`: those that are behind that gateway now."""
        there = await rooms.store.devices(after=after(cursor), limit=limit + 1, kind=kind, gateway_id=gateway_id)
        page = [resources.view(device) for device in there[:limit]]
        more = len(there) > limit
        return resources.DeviceList(devices=page, next_cursor=next_cursor(there[limit - 1].id if more else "", more))

    @found.get("/v1/devices/{device_id}", summary="Show a device", dependencies=[viewer])
    async def show_device(device_id: str, response: Response) -> resources.DeviceDetail:
        device = await rooms.store.device(DeviceId(device_id)) if is_device_id(device_id) else None
        if device is None:
            raise no_device()
        response.headers["ETag"] = f'"{device.version}"'
        return resources.detail(device)

    @found.post("/v1/devices/{device_id}:assign", summary="Put a device behind a gateway, or none")
    async def assign(
        device_id: str, body: resources.Assignment, actor: Annotated[Actor, operator]
    ) -> resources.DeviceDetail:
        """From now on that gateway speaks for the device. Readings accepted before keep their earlier gateway."""
        gateway_id = DeviceId(body.gateway_id) if body.gateway_id else None
        done = await rooms.store.assign(DeviceId(device_id), gateway_id, actor) if is_device_id(device_id) else False
        if isinstance(done, Refused):
            raise refused(done)
        device = await rooms.store.device(DeviceId(device_id)) if done else None
        if device is None:
            raise no_device()
        return resources.detail(device)

    return found
