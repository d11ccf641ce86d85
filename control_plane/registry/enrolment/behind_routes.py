"""`/v1/self/devices`: a gateway reports devices that it does not know, and asks which are its own."""

import hashlib
from collections import Counter
from typing import Annotated

import msgspec
from fastapi import APIRouter, Header, Response

from control_plane.db.connect import acquire
from control_plane.registry import policies
from control_plane.registry.credentials.self_guard import SelfActor, SelfGuard
from control_plane.registry.enrolment import behind, documents, events
from control_plane.registry.enrolment.behind_rules import Word
from control_plane.registry.enrolment.policy import EnrolmentPolicy
from control_plane.registry.guard import Guard
from control_plane.registry.problem import Problem, ProblemRaised
from control_plane.registry.rooms import Rooms
from shared.device import Kind
from shared.ids import DeviceId

_NO_GATEWAY = Problem(403, "only gateways have devices behind them", "forbidden")


def router(rooms: Rooms, guard: Guard) -> APIRouter:
    """The routes."""
    del guard
    routes = APIRouter(tags=["self"])
    device = SelfGuard(rooms).device()

    @routes.post("/v1/self/devices", summary="Report devices that the gateway does not know")
    async def report(body: documents.Report, who: Annotated[SelfActor, device]) -> documents.ReportAnswer:
        """By the gateway's own key. What happens to them is the policy `enrolment`; a report may be sent again."""
        gateway_id = _gateway(who)
        reported = [behind.Reported(DeviceId(one.id), one.type, one.serial or one.id) for one in body.devices]
        found = await behind.report(rooms.database, await _policy(rooms), gateway_id, reported, who.actor)
        count = Counter(found.values())
        events.DevicesReported(
            rooms.pseudonym(gateway_id),
            count[Word.PENDING],
            count[Word.KNOWN],
            count[Word.REFUSED] + count[Word.LATER],
        ).emit()
        return documents.ReportAnswer(devices={name: word.value for name, word in found.items()})

    @routes.get("/v1/self/devices", summary="The devices that the gateway speaks for", response_model=None)
    async def own(
        response: Response, who: Annotated[SelfActor, device], if_none_match: Annotated[str | None, Header()] = None
    ) -> documents.OwnDevices | Response:
        """By the gateway's own key: each device's status, pseudonym and key hashes, for its local broker. With
        `If-None-Match` 304 while nothing changed.
        """
        gateway_id = _gateway(who)
        policy = await _policy(rooms)
        devices = [
            documents.OwnDevice(
                id=one.id,
                pseudonym=rooms.pseudonym(one.id),
                status=one.status,
                keys=[documents.KeyHash(key_id=name, hash=digest) for name, digest in one.keys],
            )
            for one in await behind.own(rooms.database, gateway_id)
        ]
        said = [policy.unknown_devices, *(one.model_dump() for one in devices)]
        version = hashlib.sha256(msgspec.json.encode(said)).hexdigest()[:32]
        headers = {"ETag": f'"{version}"', "Cache-Control": "no-store"}
        if if_none_match == headers["ETag"]:
            return Response(status_code=304, headers=headers)
        response.headers.update(headers)
        return documents.OwnDevices(devices=devices, version=version, unknown_devices=policy.unknown_devices)

    return routes


def _gateway(who: SelfActor) -> DeviceId:
    if who.kind is not Kind.GATEWAY:
        raise ProblemRaised(_NO_GATEWAY)
    return who.device_id


async def _policy(rooms: Rooms) -> EnrolmentPolicy:
    async with acquire(rooms.database) as db:
        return await policies.load(db, EnrolmentPolicy)
