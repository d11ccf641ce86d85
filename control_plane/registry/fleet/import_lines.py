"""Lines of an import: each a device as a registration takes it, in JSON or CSV, or what is wrong with it. PURE.

An export is such a file: `status` and `created_at` are read and left aside, since every life begins anew; a line that
says `retired` is refused, so that nobody comes back by mistake.
"""

import csv
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from pydantic import ValidationError

from control_plane.registry.resources import NewDevice, RateLimits
from shared.device import Status

LINE_BYTES = 16 * 1024
LABEL_COLUMN = "label."
_PLACES = ("place", "lat", "lon")
_LIMITS = ("messages_per_s", "bytes_per_s", "readings_per_s")
COLUMNS = ("id", "serial", "type", "kind", "gateway_id", "status", "labels", *_PLACES, *_LIMITS, "created_at")
"""Of a CSV file; `labels` is a JSON object, and each `label.NAME` a column of its own beside it."""


class Format(StrEnum):
    """How a file is written."""

    JSON_LINES = "jsonl"
    CSV = "csv"


class ImportLine(NewDevice):
    """One line."""

    limits: RateLimits | None = None
    status: Status | None = None
    created_at: str | None = None


@dataclass(frozen=True, slots=True)
class Wanted:
    """A good line by its number, from 1."""

    line: int
    device: ImportLine


@dataclass(frozen=True, slots=True)
class Bad:
    """What is wrong with a line; `pointer`: the field, if it is one."""

    line: int
    why: str
    detail: str
    pointer: str | None = None


def bounded(readline: Callable[[int], bytes]) -> Iterator[bytes]:
    """A file's lines; of one that is too long only so much that this can be seen."""
    while line := readline(LINE_BYTES + 2):
        yield line
        while len(line) == LINE_BYTES + 2 and not line.endswith(b"\n"):
            line = readline(LINE_BYTES + 2)


def parse(lines: Iterable[bytes], written: Format) -> Iterator[Wanted | Bad]:
    """Every line that is not blank, in order."""
    return _json_lines(lines) if written is Format.JSON_LINES else _csv(lines)


def _json_lines(lines: Iterable[bytes]) -> Iterator[Wanted | Bad]:
    for number, line in enumerate(lines, 1):
        if len(line) > LINE_BYTES + 1:
            yield Bad(number, "too-large", f"the line is longer than {LINE_BYTES} bytes")
        elif line.strip():
            yield _judged(number, line)


def _judged(number: int, body: bytes | Mapping[str, Any]) -> Wanted | Bad:
    try:
        if isinstance(body, bytes):  # noqa: SIM108 - by type, not by value
            device = ImportLine.model_validate_json(body)
        else:
            device = ImportLine.model_validate(body)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        if first["type"] == "json_invalid":
            return Bad(number, "malformed", "the line is not JSON that can be read")
        pointer = "".join(f"/{part}" for part in first["loc"])
        return Bad(number, "invalid", str(first["msg"]).removeprefix("Value error, "), pointer)
    if device.status is Status.RETIRED:
        return Bad(number, "retired", "the line is of a retired device, whose life is over", "/status")
    return Wanted(number, device)


def _csv(lines: Iterable[bytes]) -> Iterator[Wanted | Bad]:
    rows = csv.reader(_text(lines), strict=True)
    header: list[str] | None = None
    while True:
        try:
            row = next(rows)
        except StopIteration:
            return
        except (csv.Error, UnicodeDecodeError) as error:
            # What follows cannot be told apart from what is broken.
            yield Bad(rows.line_num or 1, "malformed", f"the file is not CSV from here on: {_words(error)}")
            return
        if header is None:
            header = [name.strip().removeprefix("\ufeff") for name in row]
            wrong = [name for name in header if name not in COLUMNS and not name.startswith(LABEL_COLUMN)]
            if wrong or len(set(header)) < len(header):
                detail = f"no such column: {wrong[0]!r}" if wrong else "a column is named twice"
                yield Bad(1, "malformed", f"{detail}; there are {', '.join(COLUMNS)} and label.NAME")
                return
        elif row:
            yield _row(rows.line_num, header, row)


def _text(lines: Iterable[bytes]) -> Iterator[str]:
    for line in lines:
        if len(line) > LINE_BYTES + 1:
            raise csv.Error(f"a line is longer than {LINE_BYTES} bytes")
        yield line.decode()


def _words(error: Exception) -> str:
    return "it is not UTF-8" if isinstance(error, UnicodeDecodeError) else str(error)


def _row(number: int, header: list[str], row: list[str]) -> Wanted | Bad:
    if len(row) != len(header):
        return Bad(number, "malformed", f"the line has {len(row)} fields, the first one {len(header)}")
    body: dict[str, Any] = {}
    labels: dict[str, Any] = {}
    parts: dict[str, dict[str, Any]] = {"location": {}, "limits": {}}
    for name, cell in zip(header, row, strict=True):
        if cell == "":
            continue
        if name.startswith(LABEL_COLUMN):
            labels[name.removeprefix(LABEL_COLUMN)] = cell
        elif name == "labels":
            try:
                labels |= json.loads(cell)
            except (ValueError, TypeError, RecursionError):
                return Bad(number, "invalid", "is no JSON object", "/labels")
        elif name in _PLACES or name in _LIMITS:
            parts["location" if name in _PLACES else "limits"][name] = cell
        else:
            body[name] = cell
    return _judged(number, body | {"labels": labels} | {name: value for name, value in parts.items() if value})
