"""A row stamped before the clock was set, with its true times. PURE.

The boot clock ran right all along: the true wall time is the boot's zero plus the row's time since boot.
"""

from dataclasses import dataclass, replace

import msgspec

from edge_agent.row import Row
from shared.batch import AggregateRecord, ClockQuality, ReadingRecord, Record, decode_record, encode_record
from shared.errors import Rejected


@dataclass(frozen=True, slots=True)
class Fix:
    """What became known when the clock was set: `zero_ms`, the epoch ms at which the boot `boot_id` began.

    It holds for what was stamped until then, `until_ms` after the boot. What is stamped unsynced later (the
    synchronisation was lost again) waits for the next one.
    """

    boot_id: str
    zero_ms: int
    until_ms: int


def corrected(row: Row, fix: Fix) -> Row | None:
    """The row with its stamp, its record's times and the device's offset mended and marked; None if it needs none.

    A device's offset was measured against the wrong clock, so it changes by as much, the other way.
    """
    if row.clock is not ClockQuality.UNSYNCED or row.boot_id != fix.boot_id or row.boot_ms > fix.until_ms:
        return None
    record = decode_record(row.record)
    if isinstance(record, Rejected):
        return None
    shift_ms = fix.zero_ms + row.boot_ms - row.wall_ms
    return replace(
        row,
        wall_ms=row.wall_ms + shift_ms,
        clock=ClockQuality.CORRECTED,
        record=encode_record(_shifted(record, shift_ms)),
    )


def _shifted(record: Record, shift_ms: int) -> Record:
    moved = msgspec.structs.replace(record, at_ms=record.at_ms + shift_ms)
    if isinstance(moved, AggregateRecord):
        return msgspec.structs.replace(
            moved,
            from_ms=moved.from_ms + shift_ms,
            to_ms=moved.to_ms + shift_ms,
            clock=ClockQuality.CORRECTED,
        )
    if isinstance(moved, ReadingRecord):
        skew_ms = None if moved.skew_ms is None else moved.skew_ms - shift_ms
        return msgspec.structs.replace(moved, clock=ClockQuality.CORRECTED, skew_ms=skew_ms)
    return moved
