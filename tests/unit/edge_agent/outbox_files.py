"""Outbox files for tests: made by the real migration once, then copied."""

import functools
import shutil
import tempfile
from pathlib import Path

from edge_agent.outbox_schema import migrate
from edge_agent.row import Row, RowClass
from shared.batch import ClockQuality, EventRecord, encode_record


@functools.cache
def _template() -> bytes:
    directory = Path(tempfile.mkdtemp())
    try:
        migrate(directory / "outbox.db")
        return (directory / "outbox.db").read_bytes()
    finally:
        shutil.rmtree(directory)


def new_file(path: Path) -> Path:
    """A fresh outbox file at `path`."""
    path.write_bytes(_template())
    return path


def row(
    name: int | str, cls: RowClass = RowClass.TELEMETRY, *, size: int = 0, boot: str = "boot-1", at: int = 0
) -> Row:
    """A row whose record is an event of this name."""
    record = EventRecord("d1", at, str(name), {"x": "y" * size} if size else {})
    return Row(cls, at, at, boot, ClockQuality.SYNCED, encode_record(record))
