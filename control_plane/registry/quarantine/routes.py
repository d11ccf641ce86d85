"""REST of the quarantine: put a device in, let it out, see who is in it and why."""

import json
from datetime import datetime
from importlib.resources import files
from typing import Annotated, Any

from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict, Field

from control_plane.db import queries
from control_plane.db.connect import acquire
from control_plane.registry.fleet.answers import no_device
from control_plane.registry.guard import Guard
from control_plane.registry.life import Illegal
from control_plane.registry.paging import LONGEST_PAGE, PAGE, after, next_cursor
from control_plane.registry.problem import FieldError, Problem, ProblemRaised
from control_plane.registry.rooms import Rooms
from shared.authority import Actor, Operation
from shared.device import Status
from shared.ids import ID_PATTERN, DeviceId, is_device_id

_SQL = queries.parse((files(__package__) / "queries.sql").read_text(encoding="utf-8"))
_WORDS = r"^[^\x00-\x1f\x7f]+$"
_LONGEST_S = 10 * 365 * 24 * 3_600


class QuarantineOrder(BaseModel):
    """Why, and for how long."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"examples": [{"reason": "floods since noon", "for_s": 3600}]}
    )

    reason: str = Field(
        min_length=1, max_length=256, pattern=r"^[^\x00-\x1f\x7f]+$", description="For the audit log."
    )
    for_s: int | None = Field(default=None, ge=1, le=_LONGEST_S, description="Seconds; null: until it is released.")


class ReleaseOrder(BaseModel):
    """Why, if somebody will want to know."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"reason": "the firmware was mended"}]})

    reason: str | None = Field(default=None, min_length=1, max_length=256, pattern=_WORDS)


class QuarantineView(BaseModel):
    """One quarantine of a device."""

    id: int
    device_id: str
    status: Status = Field(description="The device's, now.")
    at: datetime
    by: str = Field(description="A token's id, or `policy:` and the rule.")
    reason: str
    evidence: dict[str, Any] = Field(description="Of a rule: what was counted, in what time, and digests of samples.")
    until: datetime | None = Field(description="Null: until somebody releases it.")
    released_at: datetime | None
    released_by: str | None


class QuarantineList(BaseModel):
    """A page of quarantines, the newest first."""

    quarantines: list[QuarantineView]
    next_cursor: str | None


def router(rooms: Rooms, guard: Guard) -> APIRouter:
    """The routes."""
    found = APIRouter(tags=["quarantine"])
    reader, writer = guard.needs(Operation.QUARANTINE_READ), guard.needs(Operation.QUARANTINE_WRITE)

    @found.post("/v1/devices/{device_id}:quarantine", summary="Cut a device off, with a reason")
    async def quarantine(device_id: str, body: QuarantineOrder, actor: Annotated[Actor, writer]) -> QuarantineView:
        """Its session is closed before the answer is given, or, with the broker away, when that is back."""
        name = _id(device_id)
        outcome = await rooms.quarantine.enter(name, actor, body.reason, for_s=body.for_s)
        if outcome is None:
            raise no_device()
        if isinstance(outcome, Illegal):
            raise ProblemRaised(Problem(409, outcome.detail, "illegal-move"))
        return (await _page(rooms, before=outcome.id + 1, ended=True, device_id=name, limit=1))[0]

    @found.post("/v1/devices/{device_id}:release", summary="Let a quarantined device speak again")
    async def release(device_id: str, body: ReleaseOrder, actor: Annotated[Actor, writer]) -> QuarantineView:
        """It may connect again when this is answered; what it did before is not held against it any more."""
        name = _id(device_id)
        outcome = await rooms.quarantine.release(name, actor, body.reason)
        if outcome is None:
            raise no_device()
        if isinstance(outcome, Illegal):
            raise ProblemRaised(Problem(409, outcome.detail, "illegal-move"))
        return (await _page(rooms, before=None, ended=True, device_id=name, limit=1))[0]

    @found.get("/v1/quarantines", summary="List quarantines with their evidence", dependencies=[reader])
    async def list_quarantines(
        cursor: Annotated[str | None, Query(max_length=128)] = None,
        limit: Annotated[int, Query(ge=1, le=LONGEST_PAGE)] = PAGE,
        ended: bool = False,
        device_id: Annotated[str | None, Query(pattern=ID_PATTERN)] = None,
    ) -> QuarantineList:
        """The newest first; `ended`: those that are over as well."""
        there = await _page(rooms, before=_before(cursor), ended=ended, device_id=device_id, limit=limit + 1)
        more = len(there) > limit
        return QuarantineList(
            quarantines=there[:limit], next_cursor=next_cursor(str(there[limit - 1].id) if more else "", more)
        )

    return found


async def _page(
    rooms: Rooms, *, before: int | None, ended: bool, device_id: str | None, limit: int
) -> list[QuarantineView]:
    async with acquire(rooms.database) as db:
        rows = await db.fetch(_SQL["list"], before, ended, device_id, limit)
    return [QuarantineView(**(dict(row) | {"evidence": json.loads(row["evidence"])})) for row in rows]


def _id(device_id: str) -> DeviceId:
    if not is_device_id(device_id):
        raise no_device()
    return DeviceId(device_id)


def _before(cursor: str | None) -> int | None:
    text = after(cursor)
    if not text:
        return None
    if not (text.isascii() and text.isdigit() and len(text) < 19):
        errors = [FieldError("?cursor", "is not one that a list gave")]
        raise ProblemRaised(Problem(422, "the cursor is not one that a list gave", "invalid", errors))
    return int(text)
