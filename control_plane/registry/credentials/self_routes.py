"""`/v1/self`: what a device may ask about itself and do with its own key."""

import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Annotated

from fastapi import APIRouter, Header, Response
from pydantic import BaseModel, Field

from control_plane.registry.credentials.policy import CredentialsPolicy, due_at
from control_plane.registry.credentials.rings import Ask
from control_plane.registry.credentials.rotation import KeyRefused, Why
from control_plane.registry.credentials.routes import IssuedKey, issued, refused
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
    known = SelfGuard(rooms).device(replaced=True)
    device = SelfGuard(rooms).device()
    paces = Paces()

    @routes.get("/v1/self", summary="What the hub knows of the device that asks")
    async def show_self(response: Response, who: Annotated[SelfActor, known]) -> Self:
        """By the device's own key: `Authorization: Bearer <key id>.<secret>`."""
        own = await rooms.credentials.own(who.device_id, most_devices=MOST_DEVICES)
        if own is None:
            raise ProblemRaised(UNKNOWN_KEY)
        response.headers["Cache-Control"] = "no-store"
        policy = await rooms.rings.policy()
        due = rotation_due(policy, own, who.key_id, datetime.now(UTC)) and paces.take(policy.most_per_minute)
        return _view(own, who.key_id, rooms.pseudonym, rotate_due=due)

    @routes.post("/v1/self/credentials:rotate", status_code=201, summary="A new key for the device that asks")
    async def rotate(
        response: Response,
        who: Annotated[SelfActor, device],
        idempotency_key: Annotated[str, Header(min_length=1, max_length=128)],
    ) -> IssuedKey:
        """Answers when the broker holds the new key. The key that asks lives on until the new one was used, and a
        grace after. The same request may be sent again: until the new key was used it gets another secret.
        """
        ask = Ask(who.device_id, Why.SELF, f"device:{who.device_id}", idempotency_key, who.key_id)
        found = await rooms.rotator.rotate(ask, who.actor)
        if found is None:
            raise ProblemRaised(UNKNOWN_KEY)
        if isinstance(found, KeyRefused):
            raise refused(found)
        return issued(found, response)

    return routes


def rotation_due(policy: CredentialsPolicy, own: Own, present: KeyId, now: datetime) -> bool:
    """Whether the device is to rotate now: the key that it asks with is old enough, or has been given an end."""
    key = next((key for key in own.keys if key.key_id == present), None)
    if key is None:
        return False
    at = due_at(policy, key.key_id, key.created_at, own.status)
    return key.not_after is not None or (at is not None and at <= now)


class Paces:
    """So many a minute, at most; a token bucket of one minute's worth."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._left = 1.0
        self._at = clock()

    def take(self, most_per_minute: int) -> bool:
        """Whether one more may go now."""
        now = self._clock()
        self._left = min(max(1.0, most_per_minute), self._left + (now - self._at) * most_per_minute / 60)
        self._at = now
        if most_per_minute == 0 or self._left < 1:
            return False
        self._left -= 1
        return True


def _view(own: Own, present: KeyId, pseudonym: Callable[[DeviceId], str], *, rotate_due: bool) -> Self:
    return Self(
        id=own.id,
        kind=own.kind,
        status=own.status,
        gateway_id=own.gateway_id,
        pseudonym=pseudonym(own.id),
        keys=[_key(key, present) for key in own.keys],
        rotate_due=rotate_due,
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
