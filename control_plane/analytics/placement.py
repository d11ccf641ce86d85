"""Where a sink begins to read a partition. PURE."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Place:
    """Read from `offset` on; `expired` offsets before it are gone from Kafka unread."""

    offset: int
    expired: int = 0


@dataclass(frozen=True, slots=True)
class Ahead:
    """The sink stored more than Kafka has: the log was cut or is another one. By how many offsets."""

    offsets: int


def place(stored: int | None, begin: int, end: int) -> Place | Ahead:
    """From what was stored (None: nothing yet) and the log's first and end offset."""
    assert 0 <= begin <= end
    if stored is None:
        return Place(begin)
    if stored > end:
        return Ahead(stored - end)
    if stored < begin:
        return Place(begin, begin - stored)
    return Place(stored)
