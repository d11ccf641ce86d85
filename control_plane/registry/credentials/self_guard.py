"""What stands before the devices' own door (`/v1/self`): a valid key of a device that may connect.

A device is known by its key and sees only what is its own, so no role is asked for. A refusal tells nothing: the key
may be wrong, ended, not valid yet, or its device quarantined, suspended or retired.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import Depends, Header, Request

from control_plane.registry import projection
from control_plane.registry.access.attempts import Failure
from control_plane.registry.credentials import presented
from control_plane.registry.problem import Problem, ProblemRaised
from control_plane.registry.rooms import Rooms
from shared.authority import Actor, Role
from shared.device import Kind
from shared.ids import DeviceId, KeyId

UNKNOWN_KEY = Problem(
    401, "send a valid key of a device that may connect: Authorization: Bearer KEY", "unauthenticated"
)
_REPLACED = Problem(
    403,
    "another gateway took this one's place: it may send what it had accepted before, and nothing else",
    "forbidden",
)
DOOR = "self"


@dataclass(frozen=True, slots=True)
class SelfActor:
    """The device that asks, by which of its keys, from which address."""

    device_id: DeviceId
    key_id: KeyId
    kind: Kind
    source: str | None = None
    replaced: bool = False

    @property
    def actor(self) -> Actor:
        """For the audit log. It has the least role: devices pass no other guard than their own."""
        return Actor(self.key_id, Role.VIEWER, frozenset(), self.source)


class SelfGuard:
    """Makes the dependency of the devices' own routes. The use of the key is noted before the route is run."""

    def __init__(self, rooms: Rooms) -> None:
        self._rooms = rooms

    def device(self, *, replaced: bool = False) -> Any:
        """A FastAPI dependency whose value is the `SelfActor`; anybody else leaves with 401 or 429.

        `replaced`: also for a gateway whose place another took, which elsewhere leaves with 403.
        """
        return Depends(self._dependency(replaced=replaced))

    def _dependency(self, *, replaced: bool) -> Callable[..., Awaitable[SelfActor]]:
        async def device(
            request: Request, authorization: Annotated[str | None, Header(include_in_schema=False)] = None
        ) -> SelfActor:
            source = request.client.host if request.client else None
            shown = presented.read_header(authorization)

            async def look() -> SelfActor | Failure:
                if shown is None:
                    return Failure.MALFORMED if authorization else Failure.MISSING
                return await self._look(shown, source)

            name = shown.key_id if shown else None
            actor = await self._rooms.logins.attempt(DOOR, source, name, look, UNKNOWN_KEY)
            if actor.replaced and not replaced:
                raise ProblemRaised(_REPLACED)
            return actor

        return device

    async def _look(self, shown: presented.Presented, source: str | None) -> SelfActor | Failure:
        credentials = self._rooms.credentials
        stored = await credentials.presented(shown.key_id)
        good = presented.matches(shown.secret, stored.hash if stored else None)
        if stored is None or not good:
            return Failure.WRONG if stored else Failure.UNKNOWN
        if not projection.enabled(stored.status):
            return Failure.BARRED
        if not stored.fresh:
            await self._rooms.rings.use({shown.key_id: datetime.now(UTC)})
        return SelfActor(stored.device_id, shown.key_id, stored.kind, source, stored.replaced)
