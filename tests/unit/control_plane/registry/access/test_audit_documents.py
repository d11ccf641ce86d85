"""The audit log as lines of a file."""

import csv
import io
import json
from datetime import UTC, datetime
from typing import Any

import pytest

from control_plane.registry.access.audit_documents import AuditEntry, ExportFormat, header, lines


def entry(**more: Any) -> AuditEntry:
    fields: dict[str, Any] = AuditEntry.model_json_schema()["examples"][0]
    return AuditEntry.model_validate(fields | {"at": datetime(2026, 1, 1, tzinfo=UTC)} | more)


def test_json_lines_are_what_the_list_shows() -> None:
    found = [entry(id=1), entry(id=2, target="zwei\nlines ü")]
    written = header(ExportFormat.JSON_LINES) + lines(ExportFormat.JSON_LINES, found)
    assert [AuditEntry.model_validate_json(line) for line in written.splitlines()] == found
    assert written.endswith(b"\n")


def test_csv_has_a_heading_and_a_cell_for_each_field() -> None:
    found = [entry(after={"name": 'a "b", c'}, source=None)]
    text = (header(ExportFormat.CSV) + lines(ExportFormat.CSV, found)).decode()
    (row,) = csv.DictReader(io.StringIO(text, newline=""))
    assert list(row) == list(AuditEntry.model_fields)
    assert (row["id"], row["source"], row["erased"]) == ("17", "", "false")
    assert json.loads(row["after"]) == {"name": 'a "b", c'}


@pytest.mark.parametrize("start", ["=1+1", "+1", "-1", "@sum", "\tx", "\rx"])
def test_a_cell_never_becomes_a_formula(start: str) -> None:
    text = lines(ExportFormat.CSV, [entry(target=start)]).decode()
    (row,) = csv.reader(io.StringIO(text, newline=""))
    assert row[list(AuditEntry.model_fields).index("target")] == f"'{start}"


def test_media_types() -> None:
    assert [kind.media_type.partition(";")[0] for kind in ExportFormat] == ["application/jsonl", "text/csv"]
