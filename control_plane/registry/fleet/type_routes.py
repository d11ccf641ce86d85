"""REST of device types: what is expected of their metrics."""

from typing import Annotated

from fastapi import APIRouter, Path, Query

from control_plane.registry import resources
from control_plane.registry.guard import Guard
from control_plane.registry.paging import LONGEST_PAGE, PAGE, after, next_cursor
from control_plane.registry.problem import Problem, ProblemRaised
from control_plane.registry.rooms import Rooms
from shared.authority import Actor, Operation


def router(rooms: Rooms, guard: Guard) -> APIRouter:
    """Types of devices."""
    found = APIRouter(tags=["types"])
    viewer = guard.needs(Operation.TYPES_READ)
    operator = guard.needs(Operation.TYPES_WRITE)
    name_of = Path(pattern=resources.TYPE_PATTERN)

    @found.get("/v1/types", summary="List device types", dependencies=[viewer])
    async def list_types(
        cursor: Annotated[str | None, Query(max_length=128)] = None,
        limit: Annotated[int, Query(ge=1, le=LONGEST_PAGE)] = PAGE,
    ) -> resources.TypeList:
        """In order of name."""
        there = await rooms.store.types(after=after(cursor), limit=limit + 1)
        page = [resources.type_view(item) for item in there[:limit]]
        more = len(there) > limit
        return resources.TypeList(types=page, next_cursor=next_cursor(there[limit - 1].name if more else "", more))

    @found.get("/v1/types/{name}", summary="Show a device type", dependencies=[viewer])
    async def show_type(name: Annotated[str, name_of]) -> resources.TypeView:
        there = await rooms.store.type(name)
        if there is None:
            raise ProblemRaised(Problem(404, "there is no such type", "not-found"))
        return resources.type_view(there)

    @found.put("/v1/types/{name}", summary="Say what is expected of a type's metrics")
    async def put_type(
        name: Annotated[str, name_of], body: resources.TypeExpectation, actor: Annotated[Actor, operator]
    ) -> resources.TypeView:
        """Makes the type, or replaces all that was said of it."""
        return resources.type_view(await rooms.store.put_type(name, body.stored(), body.stored_limits(), actor))

    return found
