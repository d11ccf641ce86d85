"""What became of every accepted row: per class, accepted = acked + waiting + thinned + expired + damaged. PURE.

Each movement takes rows from one column to another, so a ledger that balanced still balances; what can break it is
a file that does not hold what the ledger says, and `Ledger.reconciled` turns that into `damaged`, which is told.
`accepted` of the class `aggregate` counts what thinning made, beside the rows that it took.
"""

import json
from dataclasses import dataclass, replace

from edge_agent.row import CLASSES, NONE, Counts, RowClass


def add(one: Counts, other: Counts) -> Counts:
    """The sum, class by class."""
    return tuple(a + b for a, b in zip(one, other, strict=True))


def subtract(one: Counts, other: Counts) -> Counts:
    """The difference, class by class; never below zero, which would be a bug of ours."""
    result = tuple(a - b for a, b in zip(one, other, strict=True))
    assert min(result) >= 0, f"{one} - {other}"
    return result


@dataclass(frozen=True, slots=True)
class Ledger:
    """Rows per class since this outbox began.

    `doubt`: (at least, at most) rows of any class that were lost together with the counters that knew them; (0, 0)
    unless a file was damaged so far that its counters could not be read.
    """

    accepted: Counts = NONE
    acked: Counts = NONE
    waiting: Counts = NONE
    thinned: Counts = NONE
    expired: Counts = NONE
    damaged: Counts = NONE
    doubt: tuple[int, int] = (0, 0)

    def balances(self) -> bool:
        """True if every accepted row stands in exactly one column."""
        total = NONE
        for column in (self.acked, self.waiting, self.thinned, self.expired, self.damaged):
            total = add(total, column)
        return total == self.accepted

    def append(self, rows: Counts) -> "Ledger":
        """Rows were accepted."""
        return replace(self, accepted=add(self.accepted, rows), waiting=add(self.waiting, rows))

    def ack(self, rows: Counts) -> "Ledger":
        """The hub has them."""
        return replace(self, acked=add(self.acked, rows), waiting=subtract(self.waiting, rows))

    def unack(self, rows: Counts) -> "Ledger":
        """The ledger as it must be on disk while these acknowledged rows are still in the file."""
        return replace(self, acked=subtract(self.acked, rows), waiting=add(self.waiting, rows))

    def thin(self, taken: Counts, made: int) -> "Ledger":
        """Rows became `made` aggregates."""
        aggregates = tuple(made if cls is RowClass.AGGREGATE else 0 for cls in CLASSES)
        waiting = subtract(self.waiting, taken)
        return replace(
            self,
            accepted=add(self.accepted, aggregates),
            waiting=add(waiting, aggregates),
            thinned=add(self.thinned, taken),
        )

    def expire(self, rows: Counts) -> "Ledger":
        """Rows outlived their class's time."""
        return replace(self, expired=add(self.expired, rows), waiting=subtract(self.waiting, rows))

    def reconciled(self, found: Counts) -> "Ledger":
        """This ledger beside a file that holds `found` rows: what it misses is damaged.

        Rows beyond what the counters know count as accepted: the counters, not the rows, are what was lost.
        """
        missing = tuple(max(0, known - there) for known, there in zip(self.waiting, found, strict=True))
        surplus = tuple(max(0, there - known) for known, there in zip(self.waiting, found, strict=True))
        return replace(
            self,
            accepted=add(self.accepted, surplus),
            waiting=found,
            damaged=add(self.damaged, missing),
        )

    def to_json(self) -> str:
        """For a batch's header: per class that ever had a row [accepted, acked, waiting, thinned, expired, damaged],
        and `lost_with_counters` [at least, at most] where there is doubt.
        """
        columns = (self.accepted, self.acked, self.waiting, self.thinned, self.expired, self.damaged)
        lines: dict[str, list[int]] = {}
        for index, cls in enumerate(CLASSES):
            line = [column[index] for column in columns]
            if any(line):
                lines[cls.value] = line
        if self.doubt != (0, 0):
            lines["lost_with_counters"] = list(self.doubt)
        return json.dumps(lines, separators=(",", ":"))
