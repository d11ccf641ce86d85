"""What the outbox file says at a start: batches, epochs, spans of waiting rows, ledger.

Promises: `load` answers from a consistent file and raises ValueError where tables contradict one another; it writes
nothing. Leaves opening and the names of errors to `edge_agent.outbox`.
"""

import json
import sqlite3
from collections.abc import Iterator, Sequence

from edge_agent.ledger import Ledger
from edge_agent.row import CLASSES, NONE, Counts, counts_of
from edge_agent.uplink_state import Batch, OldEpoch, Saved, Span
from shared.batch import Lane
from shared.ids import Epoch, is_epoch


def load(db: sqlite3.Connection) -> Saved:
    """All that a start needs to know. The ledger is set against the rows: what is missing counts as damaged."""
    batches = [
        Batch(Epoch(epoch), number, Lane(lane), (first, last), counts_of(counts), packed)
        for epoch, number, lane, first, last, counts, packed in db.execute(
            "SELECT b.epoch, number, lane, first, b.last, counts, packed_bytes FROM batches b"
            " LEFT JOIN epochs e ON e.epoch = b.epoch ORDER BY e.id, number"
        )
    ]
    newest = db.execute("SELECT max(seq) FROM rows").fetchone()[0] or 0
    tail = max(int(read_meta(db, "tail") or 0), newest, *(batch.span[1] for batch in batches), 0)
    waiting = waiting_spans(db, [batch.span for batch in batches], tail)
    return Saved(
        tail=tail,
        ledger=_ledger(db),
        batches=tuple(batches),
        epochs=tuple(_epochs(db, batches)),
        voids=tuple((Epoch(epoch), first, last) for epoch, first, last in db.execute("SELECT * FROM voids")),
        waiting=waiting,
        newest_alarm=_newest_alarm(db, waiting),
    )


def _epochs(db: sqlite3.Connection, batches: list[Batch]) -> Iterator[OldEpoch]:
    for epoch, last, known in db.execute("SELECT epoch, last, known FROM epochs ORDER BY id"):
        if not is_epoch(epoch):
            raise ValueError("an epoch that is none")
        numbers = [batch.number for batch in batches if batch.epoch == epoch]
        if known:
            yield OldEpoch(epoch, max([last or 0, *numbers]))
        elif numbers:
            yield OldEpoch(epoch, None)


def waiting_spans(db: sqlite3.Connection, batched: Sequence[Span], tail: int) -> tuple[Span, ...]:
    """The spans up to `tail` that hold rows and are in no batch. Raises ValueError if batches overlap."""
    found: list[Span] = []
    start = 1
    for first, last in [*sorted(batched), (tail + 1, tail + 1)]:
        if first < start or last < first:
            raise ValueError("batches overlap")
        low, high = db.execute(
            "SELECT (SELECT min(seq) FROM rows WHERE seq BETWEEN ?1 AND ?2),"
            " (SELECT max(seq) FROM rows WHERE seq BETWEEN ?1 AND ?2)",
            (start, first - 1),
        ).fetchone()
        if low is not None:
            found.append((low, high))
        start = last + 1
    return tuple(found)


def _newest_alarm(db: sqlite3.Connection, waiting: tuple[Span, ...]) -> int:
    for span in reversed(waiting):
        newest = db.execute("SELECT max(seq) FROM rows WHERE cls = 0 AND seq BETWEEN ? AND ?", span).fetchone()[0]
        if newest is not None:
            return int(newest)
    return 0


def _ledger(db: sqlite3.Connection) -> Ledger:
    receipt = db.execute("SELECT accepted FROM receipts ORDER BY id DESC LIMIT 1").fetchone()
    return read_ledger(read_meta(db, "ledger"), None if receipt is None else receipt[0]).reconciled(counted(db))


def read_ledger(stored: str | None, receipt: str | None) -> Ledger:
    """The ledger of the saved columns and the newest receipt's `accepted`, which appending writes alone.

    `waiting` is what they leave. Raises ValueError.
    """
    columns = json.loads(stored or "{}")
    doubt = columns.get("doubt", (0, 0))
    accepted: Counts = tuple(columns.get("accepted", NONE))
    if receipt is not None:
        accepted = tuple(map(max, accepted, counts_of(receipt)))
    acked, thinned, expired, damaged = (
        tuple(columns.get(name, NONE)) for name in ("acked", "thinned", "expired", "damaged")
    )
    gone = [sum(column) for column in zip(acked, thinned, expired, damaged, strict=True)]
    waiting = tuple(max(0, came - left) for came, left in zip(accepted, gone, strict=True))
    return Ledger(accepted, acked, waiting, thinned, expired, damaged, (doubt[0], doubt[1]))


def ledger_text(ledger: Ledger) -> str:
    """The columns as `read_ledger` reads them; `waiting` is the file's own."""
    names = ("accepted", "acked", "thinned", "expired", "damaged", "doubt")
    return json.dumps({name: getattr(ledger, name) for name in names})


def counted(db: sqlite3.Connection) -> Counts:
    """How many rows of each class the file holds."""
    found = dict(db.execute("SELECT cls, count(*) FROM rows GROUP BY cls").fetchall())
    return tuple(found.get(index, 0) for index in range(len(CLASSES)))


def read_meta(db: sqlite3.Connection, name: str) -> str | None:
    """A remembered word."""
    found = db.execute("SELECT value FROM meta WHERE name = ?", (name,)).fetchone()
    return None if found is None else str(found[0])
