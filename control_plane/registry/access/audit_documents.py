"""The audit log as REST shows it: as JSON, as JSON lines, as CSV. PURE."""

import csv
import json
from collections.abc import Iterable
from datetime import datetime
from enum import StrEnum
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

_FORMULA = ("=", "+", "-", "@", "\t", "\r")


class AuditEntry(BaseModel):
    """Who did what to whom, from where. Lines are never changed."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "id": 17, "at": "2026-01-01T12:00:00Z", "actor": "t-abcdefghijkm", "source": "192.0.2.7",
                    "action": "device.suspend", "target": "cellar-1", "detail": {"from": "active", "to": "suspended"},
                    "before": None, "after": None, "erased": False, "values_sha256": None,
                }
            ]
        }
    )  # fmt: skip

    id: int
    at: datetime
    actor: str = Field(description="A token's or a key's id, or the rule that acted (`policy:...`).")
    source: str | None = Field(description="The address that asked; null where the hub acted by itself.")
    action: str = Field(description="Family and verb, such as `device.register`.")
    target: str = Field(description="The device, type, token or the like that it was done to.")
    detail: dict[str, Any] = Field(description="Ids, counts and reasons; kept for ever.")
    before: dict[str, Any] | None = Field(description="Values that were changed, as they were.")
    after: dict[str, Any] | None = Field(description="The same, as they became.")
    erased: bool = Field(description="There were values before and after, and forgetting the device erased them.")
    values_sha256: str | None = Field(
        description="SHA-256 of `before` and `after` as they were written (JSON, keys sorted); it outlives them."
    )


class AuditList(BaseModel):
    """A page of the audit log, newest first."""

    entries: list[AuditEntry]
    next_cursor: str | None = Field(description="Give it as `cursor` for the next page; null on the last.")


class ExportFormat(StrEnum):
    """How an export is written."""

    JSON_LINES = "jsonl"
    CSV = "csv"

    @property
    def media_type(self) -> str:
        """For Content-Type."""
        return "text/csv; charset=utf-8" if self is ExportFormat.CSV else "application/jsonl"


def header(kind: ExportFormat) -> bytes:
    """What stands before the first entry."""
    return _csv([list(AuditEntry.model_fields)]) if kind is ExportFormat.CSV else b""


def lines(kind: ExportFormat, entries: Iterable[AuditEntry]) -> bytes:
    """One line an entry."""
    if kind is ExportFormat.JSON_LINES:
        return b"".join(entry.model_dump_json().encode() + b"\n" for entry in entries)
    return _csv([_cell(value) for value in entry.model_dump(mode="json").values()] for entry in entries)


class _Parts(list[str]):
    """What the csv module writes into."""

    def write(self, text: str) -> None:
        self.append(text)


def _csv(rows: Iterable[list[str]]) -> bytes:
    parts = _Parts()
    csv.writer(parts, lineterminator="\r\n").writerows(rows)
    return "".join(parts).encode()


def _cell(value: Any) -> str:
    text = value if isinstance(value, str) else "" if value is None else json.dumps(value, ensure_ascii=False)
    # A table calculator would run it: what a device or a person named themselves must not become a formula.
    return f"'{text}" if text.startswith(_FORMULA) else text
