"""REST of privacy: who a pseudonym is, and the forgetting of a device."""

from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Path
from pydantic import BaseModel, ConfigDict, Field

from control_plane.registry.fleet import answers
from control_plane.registry.fleet.privacy import UNREACHED, StillAlive
from control_plane.registry.guard import Guard
from control_plane.registry.life import Illegal, Move
from control_plane.registry.problem import Problem, ProblemRaised
from control_plane.registry.rooms import Rooms
from shared.authority import Actor, Operation
from shared.ids import DeviceId, is_device_id

PSEUDONYM_PATTERN = r"^p-[a-z2-7]{16}$"


class Named(BaseModel):
    """Whose pseudonym it is."""

    pseudonym: str
    device_id: str


class Forgetting(BaseModel):
    """How to forget."""

    model_config = ConfigDict(extra="forbid", frozen=True, json_schema_extra={"examples": [{"force": True}]})

    force: bool = Field(default=False, description="Retire it first, if it is not.")


class ForgottenView(BaseModel):
    """What was forgotten, and what could not be reached."""

    device_id: str
    forgotten_at: datetime
    erased: dict[str, int] = Field(description="Rows by what they were.")
    not_reached: list[str]


def router(rooms: Rooms, guard: Guard) -> APIRouter:
    """Whois and forget."""
    found = APIRouter(tags=["privacy"])

    @found.get("/v1/pseudonyms/{pseudonym}", summary="Which device a pseudonym of the logs is")
    async def whois(
        pseudonym: Annotated[str, Path(pattern=PSEUDONYM_PATTERN)],
        actor: Annotated[Actor, guard.needs(Operation.DEVICES_WHOIS)],
    ) -> Named:
        """Each question is in the audit log."""
        device_id = await rooms.privacy.whois(pseudonym, actor)
        if device_id is None:
            raise ProblemRaised(Problem(404, "no device has this pseudonym", "not-found"))
        return Named(pseudonym=pseudonym, device_id=device_id)

    @found.post("/v1/devices/{device_id}:forget", summary="Erase what is known of a retired device")
    async def forget(
        device_id: str,
        actor: Annotated[Actor, guard.needs(Operation.DEVICES_FORGET)],
        body: Forgetting | None = None,
    ) -> ForgottenView:
        """Its serial, labels, location, hardware, groups, telemetry, anomalies and all audit details go; its id stays
        taken, and the audit log keeps who did what to it and when. The answer says what could not be reached.
        """
        if not is_device_id(device_id):
            raise answers.no_device()
        name = DeviceId(device_id)
        if body is not None and body.force:
            retired = await rooms.changes.move(name, Move.RETIRE, actor, "to be forgotten")
            if retired is not None and not isinstance(retired, Illegal):  # illegal: it is retired already
                await rooms.projector.device(name)
        done = await rooms.privacy.forget(name, actor)
        if done is None:
            raise answers.no_device()
        if isinstance(done, StillAlive):
            detail = f"the device is {done.status}; retire it first, or force it"
            raise ProblemRaised(Problem(409, detail, "not-retired"))
        return ForgottenView(
            device_id=device_id, forgotten_at=done.at, erased=dict(done.erased), not_reached=list(UNREACHED)
        )

    return found
