"""A row stamped before the clock was set, with its true times. PURE.

The boot clock ran right all along: the true wall time is the boot's zero plus the row's time since boot.
"""

from dataclasses import replace

import msgspec

from edge_agent.row import Row, StoredRow
from shared.batch import ClockQuality, ReadingRecord, decode_record, encode_record
from shared.errors import Rejected


def corrected(row: StoredRow, zero_ms: int) -> Row | None:
    """The row with its stamp, its record's stamp and the device's offset mended and marked; None if it needs none.

    `zero_ms`: epoch ms at which the row's boot began. A device's offset was measured against the wrong clock, so it
    changes by as much, the other way.
    """
    if row.clock is not ClockQuality.UNSYNCED:
        return None
    record = decode_record(row.record)
    if isinstance(record, Rejected):
        return None
    shift_ms = zero_ms + row.boot_ms - row.wall_ms
    if isinstance(record, ReadingRecord):
        skew_ms = None if record.skew_ms is None else record.skew_ms - shift_ms
        record = msgspec.structs.replace(record, clock=ClockQuality.CORRECTED, skew_ms=skew_ms)
    record = msgspec.structs.replace(record, at_ms=record.at_ms + shift_ms)
    return replace(
        row.row(), wall_ms=row.wall_ms + shift_ms, clock=ClockQuality.CORRECTED, record=encode_record(record)
    )
