"""REST of the audit log: read it page by page, or take a copy of it."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Annotated

from fastapi import APIRouter, Depends, Query
from fastapi.responses import StreamingResponse
from pydantic import AwareDatetime

from control_plane.registry import paging
from control_plane.registry.access.audit_documents import AuditList, ExportFormat, header, lines
from control_plane.registry.access.audit_store import EARLIEST, LATEST, NEWEST, AuditStore, Filter, Place
from control_plane.registry.access.events import AuditExported
from control_plane.registry.guard import Guard
from control_plane.registry.paging import LONGEST_PAGE, PAGE, next_cursor
from control_plane.registry.problem import FieldError, Problem, ProblemRaised
from control_plane.registry.rooms import Rooms
from shared.authority import Actor, Operation

_TEXT = r"^[^\x00-\x1f\x7f]{1,128}$"

_FORMS = {kind.media_type.partition(";")[0]: {"schema": {"type": "string"}} for kind in ExportFormat}


def router(rooms: Rooms, guard: Guard) -> APIRouter:
    """The audit log."""
    found = APIRouter(tags=["audit"])
    reader = guard.needs(Operation.AUDIT_READ)

    @found.get("/v1/audit", summary="Read the audit log", dependencies=[reader])
    async def read_audit(
        wanted: Annotated[Filter, Depends(_filter)],
        cursor: Annotated[str | None, Query(max_length=128)] = None,
        limit: Annotated[int, Query(ge=1, le=LONGEST_PAGE)] = PAGE,
    ) -> AuditList:
        """Newest first. `action`: one, such as `device.register`, or a family, such as `device`."""
        there = await AuditStore(rooms.database).page(wanted, _place(cursor), limit + 1)
        page = there[:limit]
        last = f"{page[-1].at.isoformat()} {page[-1].id}" if page else ""
        return AuditList(entries=page, next_cursor=next_cursor(last, len(there) > limit))

    @found.get(
        "/v1/audit:export",
        summary="Take a copy of the audit log",
        response_class=StreamingResponse,
        responses={200: {"content": _FORMS}},
    )
    async def export_audit(
        wanted: Annotated[Filter, Depends(_filter)],
        actor: Annotated[Actor, reader],
        kind: Annotated[ExportFormat, Query(alias="format")] = ExportFormat.JSON_LINES,
    ) -> StreamingResponse:
        """Oldest first, one line an entry: JSON lines, or CSV with a heading. That it was taken is a line of the log
        itself. A connection that ends without its last chunk is a copy that is not whole.
        """
        store = AuditStore(rooms.database)
        await store.note_export(wanted, actor)
        return StreamingResponse(_export(store, wanted, kind), media_type=kind.media_type)

    return found


async def _export(store: AuditStore, wanted: Filter, kind: ExportFormat) -> AsyncIterator[bytes]:
    """Page after page: the next is read when the one before went out."""
    rows = 0
    yield header(kind)
    async for page in store.all(wanted):
        rows += len(page)
        yield lines(kind, page)
    AuditExported(rows).emit()


def _filter(
    actor: Annotated[str | None, Query(pattern=_TEXT, description="Who: a token's or key's id.")] = None,
    target: Annotated[str | None, Query(pattern=_TEXT, description="To what: a device's id, for one.")] = None,
    action: Annotated[str | None, Query(pattern=_TEXT)] = None,
    since: Annotated[AwareDatetime | None, Query(alias="from", description="From this moment on.")] = None,
    to: Annotated[AwareDatetime | None, Query(description="Until before this moment.")] = None,
) -> Filter:
    return Filter(actor, target, action, _within(since, EARLIEST), _within(to, LATEST))


def _within(moment: datetime | None, none: datetime) -> datetime:
    """A moment that Postgres can hold, whatever its offset."""
    if moment is None:
        return none
    return min(max(moment, EARLIEST), LATEST).astimezone(UTC)


def _place(cursor: str | None) -> Place:
    if not cursor:
        return NEWEST
    place = _read_place(paging.after(cursor))
    if place is None:
        errors = [FieldError("?cursor", "is not one that a list gave")]
        raise ProblemRaised(Problem(422, "the cursor is not one that a list gave", "invalid", errors))
    return place


def _read_place(text: str) -> Place | None:
    at, _, number = text.partition(" ")
    try:
        place = Place(datetime.fromisoformat(at), int(number))
    except ValueError:
        return None
    sound = place.at.tzinfo is not None and EARLIEST <= place.at < LATEST and 0 < place.id < NEWEST.id
    return place if sound else None
