"""`/v1/self`: what a device may ask about itself, by its own key."""

from collections.abc import Callable
from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Response
from pydantic import BaseModel, Field

from control_plane.registry.credentials.self_guard import UNKNOWN_KEY, SelfActor, SelfGuard
from control_plane.registry.credentials.store import KeyRow, Own
from control_plane.registry.guard import Guard
from control_plane.registry.problem import ProblemRaised
from control_plane.registry.rooms import Rooms
from shared.device import Kind, Status
from shared.ids import DeviceId, KeyId

MOST_DEVICES = 1_000


class SelfKey(BaseModel):
    """One of its living keys, without the secret."""

    key_id: str
    created_at: datetime
    last_used_at: datetime | None
    not_before: datetime | None
    not_after: datetime | None = Field(description="When it ends; null: no end is set.")
    replaces: str | None = Field(description="The key that ends once this one was used.")
    present: bool = Field(description="The one that this request was made with.")


class Self(BaseModel):
    """A device as it may see itself."""

    id: str
    kind: Kind
    status: Status
    gateway_id: str | None
    pseudonym: str = Field(description="Its name in logs and metrics.")
    keys: list[SelfKey]
    rotate_due: bool = Field(description="Its key is old enough to be rotated now.")
    devices: dict[str, str] = Field(description="Devices behind this gateway and their pseudonyms, the first 1,000.")


def router(rooms: Rooms, guard: Guard) -> APIRouter:
    """The devices' own door."""
    del guard
    routes = APIRouter(tags=["self"])
    device = SelfGuard(rooms).device()

    @routes.get("/v1/self", summary="What the hub knows of the device that asks")
    async def show_self(response: Response, who: Annotated[SelfActor, device]) -> Self:
        """By the device's own key: `Authorization: Bearer <key id>.<secret>`."""
        own = await rooms.credentials.own(who.device_id, most_devices=MOST_DEVICES)
        if own is None:
            raise ProblemRaised(UNKNOWN_KEY)
        response.headers["Cache-Control"] = "no-store"
        return _view(own, who.key_id, rooms.pseudonym)

    return routes


def _view(own: Own, present: KeyId, pseudonym: Callable[[DeviceId], str]) -> Self:
    return Self(
        id=own.id,
        kind=own.kind,
        status=own.status,
        gateway_id=own.gateway_id,
        pseudonym=pseudonym(own.id),
        keys=[_key(key, present) for key in own.keys],
        rotate_due=False,
        devices={device: pseudonym(device) for device in own.devices},
    )


def _key(key: KeyRow, present: KeyId) -> SelfKey:
    return SelfKey(
        key_id=key.key_id,
        created_at=key.created_at,
        last_used_at=key.last_used_at,
        not_before=key.not_before,
        not_after=key.not_after,
        replaces=key.replaces,
        present=key.key_id == present,
    )
