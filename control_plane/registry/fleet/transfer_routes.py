"""REST of many devices at once: import and export, streamed."""

import dataclasses
import json
from collections.abc import AsyncIterator
from contextlib import aclosing
from tempfile import SpooledTemporaryFile
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import StreamingResponse

from control_plane.db.connect import transaction
from control_plane.registry import events, journal
from control_plane.registry.doors import LARGE, LARGE_BYTES
from control_plane.registry.fleet import export_lines
from control_plane.registry.fleet.asked import search_of
from control_plane.registry.fleet.import_lines import Bad, Format, bounded, parse
from control_plane.registry.fleet.importer import (
    LINES,
    LINES_AT_ONCE,
    LINES_WITH_KEYS,
    Created,
    Mode,
    Progress,
    Report,
)
from control_plane.registry.fleet.search import Filter
from control_plane.registry.guard import Guard
from control_plane.registry.problem import Problem
from control_plane.registry.rooms import Rooms
from shared.authority import Actor, Operation
from shared.device import Kind
from shared.errors import HubError, Transient
from shared.fault import place_of

NDJSON = "application/x-ndjson"
_MEDIA = {Format.JSON_LINES: NDJSON, Format.CSV: "text/csv; charset=utf-8"}
_IN_MEMORY_BYTES = 8 * 1024 * 1024
_EXPORT_PAGE = 1_000
_LINES = {"type": "string", "description": "One device a line, as `POST /v1/devices` takes it, or CSV."}
_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            kind.decode(): {"schema": _LINES, "example": example}
            for kind, example in zip(
                sorted(LARGE["POST", "/v1/devices:import"]),
                (
                    '{"serial": "SN-1", "type": "thermometer"}\n',
                    '{"serial": "SN-1", "type": "thermometer", "gateway_id": "hall-3"}\n',
                    "serial,type,gateway_id,label.site\nSN-1,thermometer,hall-3,berlin\n",
                ),
                strict=True,
            )
        },
    }
}
_REPORT: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "A report, one JSON object a line",
        "content": {
            NDJSON: {
                "schema": {"type": "string"},
                "example": '{"line": 1, "result": "created", "id": "ab3kq9w2m7xz"}\n'
                '{"progress": {"lines": 1, "created": 1, "refused": 0}}\n'
                '{"done": {"lines": 1, "created": 1, "refused": 0}}\n',
            }
        },
    }
}
_EXPORTED: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "One device a line",
        "content": {media.partition(";")[0]: {"schema": {"type": "string"}} for media in _MEDIA.values()},
    }
}


def router(rooms: Rooms, guard: Guard) -> APIRouter:
    """Import and export."""
    found = APIRouter(tags=["devices"])
    _import(found, rooms, guard)
    _export(found, rooms, guard)
    return found


def _import(found: APIRouter, rooms: Rooms, guard: Guard) -> None:
    @found.post(
        "/v1/devices:import",
        summary="Register many devices",
        description=f"A body of up to {LARGE_BYTES // 1024**2} MiB and {LINES:,} lines, JSON lines or CSV. Each line "
        "is judged as a single registration is. `mode=per_line`: what is good is registered; `all_or_nothing` (up to "
        f"{LINES_AT_ONCE:,} lines): one refused line and nothing is. `keys=true` (up to {LINES_WITH_KEYS:,} lines): "
        "each device gets a key, shown in the report this once; they enter the broker by one announced restart, and "
        "the devices are there when it holds them. The answer reports line by line while it works, after each batch "
        "how far it is, and at the end `done`, or `failed` with a problem: then what was not reported was not done.",
        responses=_REPORT,
        openapi_extra=_BODY,
        response_class=StreamingResponse,
    )
    async def import_devices(
        request: Request,
        actor: Annotated[Actor, guard.needs(Operation.DEVICES_IMPORT)],
        mode: Annotated[Mode, Query()] = Mode.PER_LINE,
        keys: Annotated[bool, Query()] = False,
    ) -> StreamingResponse:
        written = Format.CSV if "csv" in request.headers.get("content-type", "") else Format.JSON_LINES
        # Whole before the first answer: a client that sends all before it reads would wait for us as we for it.
        file = SpooledTemporaryFile(_IN_MEMORY_BYTES)  # noqa: SIM115 - closed when the answer ends
        try:
            async for piece in request.stream():
                file.write(piece)
            file.seek(0)
            reports = rooms.importer.run(parse(bounded(file.readline), written), mode=mode, keys=keys, actor=actor)
            answer = _said(reports, mode)
        except BaseException:
            file.close()
            raise
        return StreamingResponse(_closing(answer, file), media_type=NDJSON, headers={"Cache-Control": "no-store"})


def _export(found: APIRouter, rooms: Rooms, guard: Guard) -> None:
    @found.get(
        "/v1/devices:export",
        summary="All devices, or those of a search, as a file that can be imported",
        responses=_EXPORTED,
        response_class=StreamingResponse,
    )
    async def export_devices(
        wanted: Annotated[Filter, Depends(search_of(rooms))],
        actor: Annotated[Actor, guard.needs(Operation.DEVICES_EXPORT)],
        format: Annotated[Format, Query()] = Format.JSON_LINES,  # noqa: A002 - the parameter's public name
    ) -> StreamingResponse:
        """Gateways first, then the others, each in order of id; without keys. What changes meanwhile may or may not
        be in it. Where the hub cannot go on, the connection breaks before the end of the chunked answer.
        """
        async with transaction(rooms.database) as db:
            asked = {name: value for name, value in dataclasses.asdict(wanted).items() if value}
            asked.pop("text", None)  # a part of a serial
            await journal.audit(db, actor, "device.export", "devices", {"filter": asked, "format": format.value})
        return StreamingResponse(_exported(rooms, wanted, format), media_type=_MEDIA[format])


async def _exported(rooms: Rooms, wanted: Filter, written: Format) -> AsyncIterator[str]:
    yield export_lines.header(written)
    for kind in (Kind.GATEWAY, Kind.DEVICE):
        if wanted.kind not in (None, kind):
            continue
        after: str | None = ""
        while after is not None:
            page = await rooms.finder.page(dataclasses.replace(wanted, kind=kind), after=after, limit=_EXPORT_PAGE)
            yield export_lines.lines(page.devices, written)
            after = page.after


async def _said(reports: AsyncIterator[Report], mode: Mode) -> AsyncIterator[bytes]:
    """The report's lines, a piece for each batch."""
    progress = Progress()
    waiting: list[bytes] = []
    try:
        async with aclosing(reports) as running:  # type: ignore[type-var]  # it is a generator
            async for report in running:
                if isinstance(report, Progress):
                    progress = report
                waiting.append(_line(report))
                if isinstance(report, Progress) or len(waiting) > _EXPORT_PAGE:
                    yield b"".join(waiting)
                    waiting.clear()
    except HubError as error:
        waiting.append(
            _json({"failed": json.loads(Problem(503 if isinstance(error, Transient) else 500, str(error)).body())})
        )
    except Exception as error:  # noqa: BLE001 - the answer has begun, so it must end in words
        events.RequestFailed("POST", "/v1/devices:import", place_of(error)).emit()
        problem = Problem(500, "the hub could not do this; its log says why")
        waiting.append(_json({"failed": json.loads(problem.body())}))
    else:
        nothing = mode is Mode.ALL_OR_NOTHING and progress.refused > 0
        created = 0 if nothing else progress.created
        waiting.append(_json({"done": dataclasses.asdict(progress) | {"created": created}}))
    yield b"".join(waiting)


def _line(report: Report) -> bytes:
    if isinstance(report, Progress):
        return _json({"progress": dataclasses.asdict(report)})
    if isinstance(report, Created):
        key = {"api_key": str(report.api_key)} if report.api_key is not None else {}
        return _json({"line": report.line, "result": "created", "id": report.id} | key)
    return _json(_bad(report))


def _bad(bad: Bad) -> dict[str, Any]:
    found = {"line": bad.line, "result": "refused", "why": bad.why, "detail": bad.detail}
    return found | ({"pointer": bad.pointer} if bad.pointer else {})


def _json(found: dict[str, Any]) -> bytes:
    return json.dumps(found).encode() + b"\n"


async def _closing(answer: AsyncIterator[bytes], file: Any) -> AsyncIterator[bytes]:
    try:
        async for piece in answer:
            yield piece
    finally:
        file.close()
