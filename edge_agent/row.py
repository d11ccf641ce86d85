"""What the outbox holds: one accepted record with its class and its two clocks. PURE.

Intake makes rows, the outbox stores them, the uplink joins them into batches; this module is the word they share.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from shared.batch import ClockQuality


class RowClass(StrEnum):
    """How precious a row is. Decides thinning, expiry and the ledger's line; never the order of sending."""

    ALARM = "alarm"
    ANOMALY = "anomaly"
    EVENT = "event"
    TELEMETRY = "telemetry"
    AGGREGATE = "aggregate"  # made by thinning, never by intake; counted apart


CLASSES = tuple(RowClass)
"""The classes in their stored order: a row's class is kept as its index here. Append only."""

Counts = tuple[int, ...]
"""A number of rows per class, in the order of `CLASSES`."""

NONE: Counts = (0,) * len(CLASSES)


def count(rows: Iterable[RowClass]) -> Counts:
    """How many of each class."""
    tally = Counter(rows)
    return tuple(tally[cls] for cls in CLASSES)


def counts_text(counts: Counts) -> str:
    """Counts as stored: numbers with commas."""
    return ",".join(map(str, counts))


def counts_of(text: str) -> Counts:
    """Counts of `counts_text`, also of a version that knew fewer classes. Raises ValueError."""
    counts = tuple(map(int, text.split(",")))
    return counts + (0,) * (len(CLASSES) - len(counts))


@dataclass(frozen=True, slots=True)
class Row:
    """One record as accepted. `wall_ms`: epoch ms; `boot_ms`: ms since the boot `boot_id` (shared.clock).

    `record` is the output of `shared.batch.encode_record`; it leaves the gateway with these very bytes.
    """

    cls: RowClass
    wall_ms: int
    boot_ms: int
    boot_id: str
    clock: ClockQuality
    record: bytes


@dataclass(frozen=True, slots=True)
class StoredRow:
    """A row as it lies in the outbox."""

    seq: int
    cls: RowClass
    wall_ms: int
    boot_ms: int
    boot_id: str
    clock: ClockQuality
    record: bytes

    def row(self) -> Row:
        """The row without its place."""
        return Row(self.cls, self.wall_ms, self.boot_ms, self.boot_id, self.clock, self.record)
