"""REST of devices and gateways: register, list, show, change, and the moves of their lives.

Leaves what a registration means to `registrar`, what is found to `finder`, the documents' form to `resources`.
"""

from collections.abc import Mapping
from typing import Annotated

from fastapi import APIRouter, Depends, Header, Query, Response

from control_plane.registry import resources
from control_plane.registry.device import Device
from control_plane.registry.fleet import answers, documents, etag
from control_plane.registry.fleet.asked import search_of
from control_plane.registry.fleet.changes import Stale
from control_plane.registry.fleet.search import Filter
from control_plane.registry.guard import Guard
from control_plane.registry.life import Illegal, Move
from control_plane.registry.paging import LONGEST_PAGE, PAGE, after, next_cursor
from control_plane.registry.problem import Problem, ProblemRaised
from control_plane.registry.registration import Refused
from control_plane.registry.rooms import Rooms
from shared.authority import Actor, Operation
from shared.ids import DeviceId, is_device_id

MOVES: Mapping[Move, str] = {
    Move.APPROVE: "Approve a device that waits: from now on it is heard",
    Move.SUSPEND: "Suspend a device: it is cut off until it is resumed",
    Move.RESUME: "Resume a suspended device",
    Move.RETIRE: "Retire a device for good: its keys end, its id stays taken",
}
"""The moves that an operator makes here; those of quarantine and of keys have rooms of their own."""


def router(rooms: Rooms, guard: Guard) -> APIRouter:
    """Devices and gateways."""
    found = APIRouter(tags=["devices"])
    _reading(found, rooms, guard)
    _writing(found, rooms, guard)
    for move, summary in MOVES.items():
        _move(found, rooms, guard, move, summary)
    return found


def _reading(found: APIRouter, rooms: Rooms, guard: Guard) -> None:
    viewer = guard.needs(Operation.DEVICES_READ)

    @found.get("/v1/devices", summary="List devices", dependencies=[viewer])
    async def list_devices(
        wanted: Annotated[Filter, Depends(search_of(rooms))],
        cursor: Annotated[str | None, Query(max_length=128)] = None,
        limit: Annotated[int, Query(ge=1, le=LONGEST_PAGE)] = PAGE,
    ) -> resources.DeviceList:
        """In order of id; all that is asked must hold. A page may be shorter than `limit`, even empty, and not the
        last: the list ends where `next_cursor` is null.
        """
        page = await rooms.finder.page(wanted, after=after(cursor), limit=limit)
        return resources.DeviceList(
            devices=[resources.view(device) for device in page.devices],
            next_cursor=next_cursor(page.after or "", page.after is not None),
        )

    @found.get("/v1/devices/{device_id}", summary="Show a device", dependencies=[viewer])
    async def show_device(
        device_id: str, response: Response, if_none_match: Annotated[str | None, Header(max_length=512)] = None
    ) -> resources.DeviceDetail:
        """With If-None-Match: 304 if the client has it already."""
        device = await _device(rooms, device_id)
        _tagged(response, device)
        if etag.seen(if_none_match, etag.tag(device)):
            raise NotModified(etag.tag(device))
        return resources.detail(device)


def _writing(found: APIRouter, rooms: Rooms, guard: Guard) -> None:
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
            raise answers.refused(outcome)
        response.headers["Location"] = f"/v1/devices/{outcome.device.id}"
        _tagged(response, outcome.device)
        response.headers["Cache-Control"] = "no-store"
        if outcome.api_key is None:
            response.status_code = 200
        return resources.registered(outcome.device, outcome.api_key)

    @found.patch("/v1/devices/{device_id}", summary="Change serial, labels, location or limits")
    async def patch_device(
        device_id: str,
        body: documents.DevicePatch,
        response: Response,
        actor: Annotated[Actor, operator],
        if_match: Annotated[str | None, Header(max_length=512)] = None,
    ) -> resources.DeviceDetail:
        """A merge patch (RFC 7396): what is not named stays, null removes. Needs If-Match with the ETag that was
        seen: 412 with the present one if somebody was quicker, `*` for whatever there is.
        """
        if if_match is None:
            raise answers.needs_if_match()
        if not is_device_id(device_id):
            raise answers.no_device()
        done = await rooms.changes.patch(DeviceId(device_id), body.patch(), etag.expected(if_match), actor)
        if isinstance(done, Stale):
            raise answers.changed_meanwhile(done.version)
        if isinstance(done, Refused):
            raise answers.refused(done)
        return await _shown(rooms, device_id if done is not None else "", response)

    @found.post("/v1/devices/{device_id}:assign", summary="Put a device behind a gateway, or none")
    async def assign(
        device_id: str, body: resources.Assignment, response: Response, actor: Annotated[Actor, operator]
    ) -> resources.DeviceDetail:
        """From now on that gateway speaks for the device. Readings accepted before keep their earlier gateway."""
        gateway_id = DeviceId(body.gateway_id) if body.gateway_id else None
        done = await rooms.store.assign(DeviceId(device_id), gateway_id, actor) if is_device_id(device_id) else False
        if isinstance(done, Refused):
            raise answers.refused(done)
        return await _shown(rooms, device_id if done else "", response)


def _move(found: APIRouter, rooms: Rooms, guard: Guard, wanted: Move, summary: str) -> None:
    @found.post(f"/v1/devices/{{device_id}}:{wanted}", summary=summary, name=f"{wanted}_device")
    async def move(
        device_id: str,
        response: Response,
        actor: Annotated[Actor, guard.needs(Operation.DEVICES_WRITE)],
        body: documents.MoveReason | None = None,
    ) -> resources.DeviceDetail:
        if not is_device_id(device_id):
            raise answers.no_device()
        reason = body.reason if body else None
        done = await rooms.changes.move(DeviceId(device_id), wanted, actor, reason)
        if isinstance(done, Illegal):
            raise answers.illegal(done)
        if done is not None:
            await rooms.projector.device(DeviceId(device_id))
        return await _shown(rooms, device_id, response)


class NotModified(ProblemRaised):
    """304: a refusal to say again what is known; it has no body."""

    def __init__(self, tag: str) -> None:
        super().__init__(Problem(304, "not modified"), {"ETag": tag})


async def _device(rooms: Rooms, device_id: str) -> Device:
    device = await rooms.store.device(DeviceId(device_id)) if is_device_id(device_id) else None
    if device is None:
        raise answers.no_device()
    return device


async def _shown(rooms: Rooms, device_id: str, response: Response) -> resources.DeviceDetail:
    device = await _device(rooms, device_id)
    _tagged(response, device)
    return resources.detail(device)


def _tagged(response: Response, device: Device) -> None:
    response.headers["ETag"] = etag.tag(device)
