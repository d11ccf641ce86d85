"""REST of the broker: bring all its records back by one announced restart."""

from typing import Annotated

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field

from control_plane.registry.broker_restart import BY_HAND, NOT_CONFIGURED
from control_plane.registry.guard import Guard
from control_plane.registry.problem import Problem, ProblemRaised
from control_plane.registry.rooms import Rooms
from shared.authority import Actor, Operation

LONGEST_S = 600.0


class RebuildWanted(BaseModel):
    """`announce_s`: from the announcement to the restart; the policy's if left out."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"announce_s": 60}]})

    announce_s: Annotated[float | None, Field(ge=0, le=LONGEST_S)] = None


class RebuildDone(BaseModel):
    """`records`: how many the broker holds now; `arrived`: keys of imports that became valid; `restarts` it took."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"records": 20_003, "arrived": 0, "restarts": 1}]})

    records: int
    arrived: int
    restarts: int


def router(rooms: Rooms, guard: Guard) -> APIRouter:
    """The broker's routes."""
    routes = APIRouter(tags=["broker"])
    admin = guard.needs(Operation.BROKER_REBUILD)

    @routes.post("/v1/broker:rebuild", summary="Restart the broker with all records")
    async def rebuild(body: RebuildWanted, actor: Annotated[Actor, admin]) -> RebuildDone:
        """Answers when the broker is back and holds every record. Every connection to it is closed for a moment."""
        if not rooms.rebuild.possible:
            raise ProblemRaised(Problem(409, f"{NOT_CONFIGURED}; {BY_HAND}", "not-configured"))
        done = await rooms.rebuild.run("asked for", actor, announce_s=body.announce_s)
        return RebuildDone(records=done.records, arrived=done.arrived, restarts=done.restarts)

    return routes
