"""Keys of devices, for operators: give out, look at, end, revoke."""

from datetime import datetime, timedelta
from typing import Annotated

from fastapi import APIRouter, Header, Query, Response
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from control_plane.registry.credentials.rings import Ask
from control_plane.registry.credentials.rotation import KeyRefusal, KeyRefused, Why
from control_plane.registry.credentials.rotator import Issued
from control_plane.registry.credentials.store import KeyRow
from control_plane.registry.guard import Guard
from control_plane.registry.life import Illegal
from control_plane.registry.paging import LONGEST_PAGE, PAGE
from control_plane.registry.problem import Problem, ProblemRaised
from control_plane.registry.rooms import Rooms
from shared.authority import Actor, Operation
from shared.ids import DeviceId, KeyId, is_device_id

LONGEST_OVERLAP_S = 30 * 86_400
_STATUS = {
    KeyRefusal.TOO_MANY_KEYS: 409,
    KeyRefusal.LAST_KEY: 409,
    KeyRefusal.DEVICE_RETIRED: 409,
    KeyRefusal.KEY_OVERTAKEN: 409,
    KeyRefusal.KEY_UNKNOWN: 404,
    KeyRefusal.IDEMPOTENCY_KEY_REUSED: 422,
}


class _Document(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Rotation(_Document):
    """How a device's key is replaced."""

    model_config = ConfigDict(json_schema_extra={"examples": [{}, {"overlap_s": 3600}, {"overlap_s": 0}]})

    overlap_s: Annotated[float, Field(ge=0, le=LONGEST_OVERLAP_S)] | None = Field(
        default=None, description="How long the old keys live on, seconds; left out: as the policy says (a day)."
    )


class FurtherKey(_Document):
    """A further key, beside the others."""

    model_config = ConfigDict(json_schema_extra={"examples": [{}, {"not_after": "2030-01-01T00:00:00Z"}]})

    not_before: AwareDatetime | None = Field(default=None, description="Not valid before.")
    not_after: AwareDatetime | None = Field(default=None, description="Ends then.")


class Revocation(_Document):
    """Why a device is cut off for good."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"reason": "stolen from hall 3"}]})

    reason: Annotated[str, Field(min_length=1, max_length=256, pattern=r"^[^\x00-\x1f\x7f]*$")]


class IssuedKey(BaseModel):
    """A new key."""

    key_id: str
    api_key: str | None = Field(
        description="`<key id>.<secret>`, shown this once; null in the repeat of a request whose key is in use."
    )
    ending: dict[str, datetime] = Field(description="The other living keys that have an end, and when.")
    closed: bool = Field(description="The broker has confirmed what ended with it; false: it is being tried.")


class LivingKey(BaseModel):
    """A living key, without its secret."""

    key_id: str
    why: str = Field(description="How it came to be: registration, rotation, added, self, ...")
    created_at: datetime
    last_used_at: datetime | None = Field(description="Its last connect, or request to REST; null: never.")
    not_before: datetime | None
    not_after: datetime | None
    replaces: str | None = Field(description="The key that ends once this one was used.")


class KeyList(BaseModel):
    """A device's living keys, oldest first."""

    keys: list[LivingKey]


class OverdueView(BaseModel):
    """A key that is older than the policy `credentials` says."""

    key_id: str
    device_id: str
    kind: str
    created_at: datetime
    last_used_at: datetime | None


class OverdueList(BaseModel):
    """The oldest keys that nobody replaced in time. `total`: how many there are in all."""

    keys: list[OverdueView]
    total: int


class Closed(BaseModel):
    """Somebody was cut off. `closed`: the broker has confirmed; false: it is being tried."""

    id: str
    closed: bool


def router(rooms: Rooms, guard: Guard) -> APIRouter:
    """Keys and revocation."""
    routes = APIRouter(tags=["credentials"])
    viewer = guard.needs(Operation.CREDENTIALS_READ)
    rotating = guard.needs(Operation.CREDENTIALS_ROTATE)
    once = Header(min_length=1, max_length=128)

    @routes.post("/v1/devices/{device_id}/credentials:rotate", status_code=201, summary="Replace a device's key")
    async def rotate(
        device_id: str,
        body: Rotation,
        response: Response,
        actor: Annotated[Actor, rotating],
        idempotency_key: Annotated[str | None, once] = None,
    ) -> IssuedKey:
        """Answers when the broker holds the new key; the others end after the overlap. With an Idempotency-Key the
        same request may be sent again: until the key was used it gets a new secret, which ends the unseen one.
        """
        overlap = None if body.overlap_s is None else timedelta(seconds=body.overlap_s)
        ask = Ask(_id(device_id), Why.ROTATION, actor.id, idempotency_key, overlap=overlap)
        return _issued(await rooms.rotator.rotate(ask, actor), response)

    @routes.post("/v1/devices/{device_id}/credentials", status_code=201, summary="Give a device a further key")
    async def add(
        device_id: str,
        body: FurtherKey,
        response: Response,
        actor: Annotated[Actor, rotating],
        idempotency_key: Annotated[str | None, once] = None,
    ) -> IssuedKey:
        """The others are left as they are. At most four keys of a device live at once."""
        ask = Ask(
            *(_id(device_id), Why.ADDED, actor.id, idempotency_key),
            not_before=body.not_before,
            not_after=body.not_after,
        )
        return _issued(await rooms.rotator.rotate(ask, actor), response)

    @routes.get("/v1/devices/{device_id}/credentials", summary="A device's keys", dependencies=[viewer])
    async def show(device_id: str) -> KeyList:
        """Those that live, oldest first, each with its last use."""
        keys = await rooms.credentials.keys(_id(device_id))
        if keys is None:
            raise _no_device()
        return KeyList(keys=[_view(key) for key in keys])

    @routes.get("/v1/credentials/overdue", summary="Keys that nobody replaced in time", dependencies=[viewer])
    async def overdue(limit: Annotated[int, Query(ge=1, le=LONGEST_PAGE)] = PAGE) -> OverdueList:
        """Oldest first. Devices that replace their own keys are told to in time; the others need a hand."""
        policy = await rooms.rings.policy()
        found = await rooms.credentials.overdue(policy, limit)
        views = [
            OverdueView(
                key_id=key.key_id,
                device_id=key.device_id,
                kind=key.kind,
                created_at=key.created_at,
                last_used_at=key.last_used_at,
            )
            for key in found
        ]
        return OverdueList(keys=views, total=await rooms.credentials.overdue_count(policy))

    _endings(routes, rooms, guard)
    return routes


def _endings(routes: APIRouter, rooms: Rooms, guard: Guard) -> None:
    revoking = guard.needs(Operation.CREDENTIALS_REVOKE)

    @routes.delete("/v1/devices/{device_id}/credentials/{key_id}", summary="End one key now")
    async def end(device_id: str, key_id: str, actor: Annotated[Actor, revoking], force: bool = False) -> Closed:
        """Its session at the broker is closed. The device's last key is ended only with `force=true`."""
        closed = await rooms.rotator.cut(_id(device_id), KeyId(key_id), actor, force=force)
        if isinstance(closed, KeyRefused):
            raise refused(closed)
        if closed is None:
            raise _no_device()
        return Closed(id=key_id, closed=closed)

    @routes.post("/v1/devices/{device_id}:revoke", summary="Cut a stolen device off for good")
    async def revoke(device_id: str, body: Revocation, actor: Annotated[Actor, revoking]) -> Closed:
        """All its keys end now, its session is closed, and it is retired: it never comes back."""
        closed = await rooms.rotator.revoke(_id(device_id), body.reason, actor)
        if closed is None:
            raise _no_device()
        if isinstance(closed, Illegal):
            raise ProblemRaised(Problem(409, closed.detail, "illegal-move"))
        return Closed(id=device_id, closed=closed)


def refused(refusal: KeyRefused) -> ProblemRaised:
    """The answer to what a rule of keys forbids."""
    return ProblemRaised(Problem(_STATUS[refusal.why], refusal.detail, refusal.why))


def _issued(found: Issued | KeyRefused | None, response: Response) -> IssuedKey:
    if found is None:
        raise _no_device()
    if isinstance(found, KeyRefused):
        raise refused(found)
    return issued(found, response)


def issued(found: Issued, response: Response) -> IssuedKey:
    """The answer to a rotation."""
    response.headers["Cache-Control"] = "no-store"
    if found.api_key is None:
        response.status_code = 200
    return IssuedKey(
        key_id=found.key_id,
        api_key=found.api_key,
        ending={str(key): at for key, at in (found.ending or {}).items()},
        closed=found.closed,
    )


def _view(key: KeyRow) -> LivingKey:
    return LivingKey(
        key_id=key.key_id,
        why=key.why,
        created_at=key.created_at,
        last_used_at=key.last_used_at,
        not_before=key.not_before,
        not_after=key.not_after,
        replaces=key.replaces,
    )


def _id(text: str) -> DeviceId:
    if not is_device_id(text):
        raise _no_device()
    return DeviceId(text)


def _no_device() -> ProblemRaised:
    return ProblemRaised(Problem(404, "there is no such device", "not-found"))
