"""The search that a request's query asks for: the same for the list and for the export."""

from collections.abc import Awaitable, Callable
from typing import Annotated

from fastapi import Query

from control_plane.registry.fleet import documents, group_query
from control_plane.registry.fleet.groups import Groups
from control_plane.registry.fleet.search import Filter
from control_plane.registry.problem import FieldError, Problem, ProblemRaised
from control_plane.registry.resources import TYPE_PATTERN
from control_plane.registry.rooms import Rooms
from shared.device import Kind, Status
from shared.ids import ID_PATTERN

NO_CONTROL = r"^[^\x00-\x1f\x7f]*$"


def search_of(rooms: Rooms) -> Callable[..., Awaitable[Filter]]:
    """A FastAPI dependency."""

    async def wanted(
        kind: Kind | None = None,
        status: Status | None = None,
        type: Annotated[str | None, Query(pattern=TYPE_PATTERN)] = None,  # noqa: A002 - the parameter's public name
        gateway_id: Annotated[
            str | None, Query(pattern=ID_PATTERN, description="Those behind that gateway now.")
        ] = None,
        group: Annotated[str | None, Query(pattern=TYPE_PATTERN, description="Those in that group.")] = None,
        label: Annotated[
            list[documents.Selector],
            Query(max_length=documents.SELECTORS, description="`name=value`, or `name` for whatever value."),
        ] = [],  # noqa: B006 - never changed
        q: Annotated[
            str | None,
            Query(
                min_length=2,
                max_length=128,
                pattern=NO_CONTROL,
                description="A part of the serial, in whatever case.",
            ),
        ] = None,
    ) -> Filter:
        asked = Filter(kind, status, type, gateway_id, labels=tuple(map(group_query.label, label)), text=q)
        if group is None:
            return asked
        narrowed = await Groups(rooms.database).narrow(asked, group)
        if narrowed is None:
            errors = [FieldError("?group", "there is no such group")]
            raise ProblemRaised(Problem(422, "there is no such group", "invalid", errors))
        return narrowed

    return wanted
