"""Old telemetry as fewer rows: minimum, maximum, mean and count per device, metric and window. PURE.

Promises: only readings with numbers and earlier aggregates are taken, never alarms, anomalies, events or what could
not be parsed; every number that was taken stands in exactly one aggregate; what is made takes places among what was
taken, so that nothing else changes its order. A plan that would not at least halve the rows is none.
Windows are of measurement by the gateway's clock, since a device's own may be anywhere; what was stamped before that
clock was set (in one boot, all shifted alike) is kept apart from the rest, so that it can still be corrected.
Leaves which rows and when to `edge_agent.chores`, which gives only rows that are in no batch.
"""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from edge_agent.row import CLASSES, Counts, Row, RowClass, StoredRow
from shared.batch import AggregateRecord, ClockQuality, ReadingRecord, decode_record, encode_record

WINDOWS_MS = (60_000, 600_000, 3_600_000, 6 * 3_600_000, 24 * 3_600_000)
"""Each pass over the backlog uses the next."""


@dataclass(frozen=True, slots=True)
class Plan:
    """Delete `taken`, store `made` at these sequence numbers. `counts`: of what is taken."""

    taken: tuple[int, ...]
    made: tuple[tuple[int, Row], ...]
    counts: Counts


_Key = tuple[str, str, int, ClockQuality, str]
"""Device, metric, window, quality of the stamps, boot where that matters: what shares an aggregate."""


@dataclass(slots=True)
class _Sum:
    last: StoredRow
    from_ms: int
    to_ms: int
    at_ms: int
    count: int
    low: float
    high: float
    total: float

    def add(self, row: StoredRow, part: AggregateRecord) -> None:
        self.last = row
        self.from_ms = min(self.from_ms, part.from_ms)
        self.to_ms = max(self.to_ms, part.to_ms)
        self.at_ms = max(self.at_ms, part.at_ms)
        self.count += part.count
        self.low = min(self.low, part.min)
        self.high = max(self.high, part.max)
        self.total += part.mean * part.count


def thin(rows: Sequence[StoredRow], window_ms: int) -> Plan | None:
    """The plan for these rows, ascending by sequence number, or None if it would not help."""
    taken: list[int] = []
    counts: Counter[RowClass] = Counter()
    sums: dict[_Key, _Sum] = {}
    for row in rows:
        parts = _parts(row)
        if not parts:
            continue
        taken.append(row.seq)
        counts[row.cls] += 1
        boot_id = row.boot_id if row.clock is ClockQuality.UNSYNCED else ""
        for part in parts:
            key = (part.device, part.metric, part.from_ms // window_ms, row.clock, boot_id)
            known = sums.get(key)
            if known is None:
                sums[key] = _Sum(
                    row, part.from_ms, part.to_ms, part.at_ms, part.count, part.min, part.max, part.mean * part.count
                )
            else:
                known.add(row, part)
    if not taken or 2 * len(sums) > len(taken):
        return None
    ordered = sorted(sums.items(), key=lambda item: item[1].last.seq)
    places = taken[len(taken) - len(ordered) :]
    made = tuple((place, _row(key, found)) for place, (key, found) in zip(places, ordered, strict=True))
    return Plan(tuple(taken), made, tuple(counts[cls] for cls in CLASSES))


def _parts(row: StoredRow) -> list[AggregateRecord]:
    """The row as aggregates, one a metric; none if it is not to be thinned."""
    if row.cls not in (RowClass.TELEMETRY, RowClass.AGGREGATE):
        return []
    record = decode_record(row.record)
    if isinstance(record, AggregateRecord):
        return [record]
    if not isinstance(record, ReadingRecord):
        return []
    at = measured = record.at_ms
    if record.skew_ms is not None:
        measured = max(0, min(at, record.ts_ms - record.skew_ms))
    return [
        AggregateRecord(record.device, at, name, measured, measured, 1, float(value), float(value), float(value))
        for name, value in record.metrics.items()
        if type(value) in (int, float)
    ]


def _row(key: _Key, found: _Sum) -> Row:
    device, metric, _, clock, _ = key
    # Rounding may carry a mean of equal numbers past them, and a sum of huge ones past all numbers.
    mean = found.total / found.count
    mean = min(max(mean, found.low), found.high) if math.isfinite(mean) else found.low / 2 + found.high / 2
    record = AggregateRecord(
        device, found.at_ms, metric, found.from_ms, found.to_ms, found.count, found.low, found.high, mean, clock
    )
    last = found.last
    return Row(RowClass.AGGREGATE, last.wall_ms, last.boot_ms, last.boot_id, last.clock, encode_record(record))
