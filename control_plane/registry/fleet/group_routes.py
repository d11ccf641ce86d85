"""REST of groups: listed or by query."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Annotated

from fastapi import APIRouter, Header, Path, Query, Response

from control_plane.registry import resources
from control_plane.registry.fleet import answers, etag
from control_plane.registry.fleet.changes import Stale
from control_plane.registry.fleet.group_documents import (
    GroupChange,
    GroupList,
    GroupView,
    Members,
    MembershipView,
    NewGroup,
    view,
)
from control_plane.registry.fleet.group_query import Group
from control_plane.registry.fleet.groups import GroupRefusal, Groups, Membership
from control_plane.registry.fleet.search import Filter
from control_plane.registry.guard import Guard
from control_plane.registry.paging import LONGEST_PAGE, PAGE, after, next_cursor
from control_plane.registry.problem import Problem, ProblemRaised
from control_plane.registry.rooms import Rooms
from shared.authority import Actor, Operation

_NAME = Path(pattern=resources.TYPE_PATTERN)
_WORDS = {
    GroupRefusal.TAKEN: "there is a group of this name",
    GroupRefusal.BY_QUERY: "a group has listed members or a query, and stays so",
}


def router(rooms: Rooms, guard: Guard) -> APIRouter:
    """Groups and their members."""
    found = APIRouter(tags=["groups"])
    _reading(found, rooms, guard)
    _writing(found, rooms, guard)
    _membership(found, rooms, guard)
    return found


def _reading(found: APIRouter, rooms: Rooms, guard: Guard) -> None:
    viewer = guard.needs(Operation.GROUPS_READ)

    @found.get("/v1/groups", summary="List groups", dependencies=[viewer])
    async def list_groups(
        cursor: Annotated[str | None, Query(max_length=128)] = None,
        limit: Annotated[int, Query(ge=1, le=LONGEST_PAGE)] = PAGE,
    ) -> GroupList:
        """In order of name."""
        there = await Groups(rooms.database).list(after=after(cursor), limit=limit + 1)
        more = len(there) > limit
        page = [view(group) for group in there[:limit]]
        return GroupList(groups=page, next_cursor=next_cursor(there[limit - 1].name if more else "", more))

    @found.get("/v1/groups/{name}", summary="Show a group", dependencies=[viewer])
    async def show_group(name: Annotated[str, _NAME], response: Response) -> GroupView:
        return _answer(await Groups(rooms.database).get(name), response)

    @found.get("/v1/groups/{name}/members", summary="List a group's devices", dependencies=[viewer])
    async def list_members(
        name: Annotated[str, _NAME],
        cursor: Annotated[str | None, Query(max_length=128)] = None,
        limit: Annotated[int, Query(ge=1, le=LONGEST_PAGE)] = PAGE,
    ) -> resources.DeviceList:
        """In order of id: who is in it now. A page may be shorter than `limit` and not the last."""
        wanted = await Groups(rooms.database).narrow(Filter(), name)
        if wanted is None:
            raise answers.no_group()
        page = await rooms.finder.page(wanted, after=after(cursor), limit=limit)
        devices = [resources.view(device) for device in page.devices]
        return resources.DeviceList(
            devices=devices, next_cursor=next_cursor(page.after or "", page.after is not None)
        )


def _writing(found: APIRouter, rooms: Rooms, guard: Guard) -> None:
    operator = guard.needs(Operation.GROUPS_WRITE)

    @found.post("/v1/groups", status_code=201, summary="Make a group")
    async def make_group(body: NewGroup, response: Response, actor: Annotated[Actor, operator]) -> GroupView:
        """With a query its members are whoever fits it at the time; without one they are listed."""
        query = body.query.stored() if body.query is not None else None
        made = await Groups(rooms.database).create(body.name, body.description, query, actor)
        response.headers["Location"] = f"/v1/groups/{body.name}"
        return _answer(made, response)

    @found.patch("/v1/groups/{name}", summary="Change a group's description or query")
    async def change_group(
        name: Annotated[str, _NAME],
        body: GroupChange,
        response: Response,
        actor: Annotated[Actor, operator],
        if_match: Annotated[str | None, Header(max_length=512)] = None,
    ) -> GroupView:
        """Needs If-Match with the ETag that was seen. A query is replaced as a whole."""
        if if_match is None:
            raise answers.needs_if_match()
        done = await Groups(rooms.database).change(name, etag.expected(if_match), body.asked(), actor)
        return _answer(done, response)

    @found.delete("/v1/groups/{name}", status_code=204, summary="Delete a group; its devices stay")
    async def delete_group(
        name: Annotated[str, _NAME],
        actor: Annotated[Actor, operator],
        if_match: Annotated[str | None, Header(max_length=512)] = None,
    ) -> None:
        """Needs If-Match with the ETag that was seen."""
        if if_match is None:
            raise answers.needs_if_match()
        done = await Groups(rooms.database).delete(name, etag.expected(if_match), actor)
        if isinstance(done, Stale):
            raise answers.changed_meanwhile(done.version)
        if not done:
            raise answers.no_group()


def _membership(found: APIRouter, rooms: Rooms, guard: Guard) -> None:
    operator = guard.needs(Operation.GROUPS_WRITE)
    change = Callable[[str, Sequence[str], Actor], Awaitable[Membership | GroupRefusal | None]]

    async def done(how: change, name: str, body: Members, actor: Actor, response: Response) -> MembershipView:
        outcome = await how(name, body.devices, actor)
        if not isinstance(outcome, Membership):
            raise _refused(outcome)
        shown = _answer(outcome.group, response)
        return MembershipView(group=shown, changed=outcome.changed, unknown=list(outcome.unknown))

    @found.post("/v1/groups/{name}/members:add", summary="Make devices members of a listed group")
    async def add_members(
        name: Annotated[str, _NAME], body: Members, response: Response, actor: Annotated[Actor, operator]
    ) -> MembershipView:
        """Those that are members stay; `unknown` names ids that are no device's."""
        return await done(Groups(rooms.database).add, name, body, actor, response)

    @found.post("/v1/groups/{name}/members:remove", summary="Take devices out of a listed group")
    async def remove_members(
        name: Annotated[str, _NAME], body: Members, response: Response, actor: Annotated[Actor, operator]
    ) -> MembershipView:
        """`unknown` names ids that are no device's."""
        return await done(Groups(rooms.database).remove, name, body, actor, response)


def _answer(group: Group | Stale | GroupRefusal | None, response: Response) -> GroupView:
    if isinstance(group, Stale):
        raise answers.changed_meanwhile(group.version)
    if not isinstance(group, Group):
        raise _refused(group)
    response.headers["ETag"] = etag.versioned(group.version)
    return view(group)


def _refused(why: GroupRefusal | None) -> ProblemRaised:
    return answers.no_group() if why is None else ProblemRaised(Problem(409, _WORDS[why], why))
