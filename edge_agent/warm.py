"""Warming up: a channel learns from history before its first live reading.

History is restamped: it ends now, one sample every `interval_s`, as the live readings will come. Nothing in it is an
alarm. `warm_csv` reads one column of a CSV file; anything wrong with the file is a `Rejected` that names the line.
"""

import csv
import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from edge_agent.anomaly.scorer import Scorer
from shared.errors import Reason, Rejected

MAX_ROWS = 1_000_000
"""Rows read of a file; the latest ones are what counts, so a longer file is refused, not cut."""

LEAST_ROWS = 32


@dataclass(frozen=True, slots=True)
class WarmReport:
    """What a warm-up did: rows learned, and rows left out because their cell was empty."""

    learned: int
    empty: int


def warm(
    scorer: Scorer, rows: Iterable[float], *, device_id: str, metric: str, interval_s: float, now_s: float
) -> WarmReport:
    """Let the channel learn `rows`, oldest first, as though sampled every `interval_s` seconds and ending at `now_s`.

    Non-finite rows are left out (their place in time stays empty).
    """
    assert interval_s > 0.0
    values = list(rows)
    learned = 0
    for number, value in enumerate(values):
        if math.isfinite(value):
            scorer.learn(device_id, metric, now_s - (len(values) - 1 - number) * interval_s, value)
            learned += 1
    return WarmReport(learned, len(values) - learned)


def warm_csv(
    path: Path, column: str, *, scorer: Scorer, device_id: str, metric: str, interval_s: float, now_s: float
) -> WarmReport | Rejected:
    """Warm one channel from `column` of a CSV file with a header line, oldest row first."""
    if not (math.isfinite(interval_s) and interval_s > 0.0):
        return Rejected(Reason.BAD_FIELD, "the interval must be a positive number of seconds")
    rows = read_column(path, column)
    if isinstance(rows, Rejected):
        return rows
    return warm(scorer, rows, device_id=device_id, metric=metric, interval_s=interval_s, now_s=now_s)


def read_column(path: Path, column: str) -> list[float] | Rejected:
    """The column's numbers in order, NaN for an empty cell."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            return _numbers(file, path, column)
    except OSError as error:
        return Rejected(Reason.MALFORMED, f"{path}: {error.strerror or error}")
    except (csv.Error, UnicodeDecodeError) as error:
        return Rejected(Reason.MALFORMED, f"{path}: not a CSV file in UTF-8: {error}")


def _numbers(file: Iterable[str], path: Path, column: str) -> list[float] | Rejected:
    reader = csv.reader(file, strict=True)
    header = [name.strip() for name in next(reader, [])]
    if column not in header:
        found = ", ".join(header[:20]) or "nothing"
        return Rejected(Reason.BAD_FIELD, f"{path}, line 1: no column {column!r}; found: {found}")
    at = header.index(column)
    values: list[float] = []
    for row in reader:
        if not row:
            continue
        cell = row[at].strip() if at < len(row) else ""
        try:
            value = float(cell) if cell else math.nan
        except ValueError:
            return Rejected(Reason.BAD_FIELD, f"{path}, line {reader.line_num}: {cell[:40]!r} is not a number")
        values.append(value if math.isfinite(value) else math.nan)
        if len(values) > MAX_ROWS:
            return Rejected(Reason.TOO_LARGE, f"{path}, line {reader.line_num}: more than {MAX_ROWS} rows")
    known = sum(1 for value in values if math.isfinite(value))
    if known < LEAST_ROWS:
        return Rejected(Reason.BAD_FIELD, f"{path}: {known} numbers in {column!r}; at least {LEAST_ROWS} are needed")
    return values
