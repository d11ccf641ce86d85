"""What a sink says of itself."""

import logging
from dataclasses import dataclass

from prometheus_client import Counter, Gauge, Histogram

from shared.events import Event

ROWS = Counter("sink_rows", "Rows stored, committed together with their offsets", ["sink", "table"])
SKIPPED = Counter("sink_skipped", "Events not stored", ["sink", "why"])
STORE_SECONDS = Histogram(
    "sink_store_seconds", "One batch into Postgres", ["sink"], buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1, 5)
)
_WAITING = Gauge("sink_waiting", "1 while the sink keeps a batch that Postgres does not take", ["sink"])
_STALE = Counter("sink_stale_batches", "Batches left to the partition's new owner", ["sink"])
_EXPIRED = Counter("sink_expired_offsets", "Offsets that Kafka no longer had when the sink came for them", ["sink"])


@dataclass(frozen=True, slots=True)
class PartitionPlaced(Event):
    """The sink owns a partition of its topic and reads on from `offset`."""

    sink: str
    partition: int
    offset: int


@dataclass(frozen=True, slots=True)
class OffsetsExpired(Event):
    """Kafka dropped records before this sink stored them: its retention is shorter than the sink was away."""

    LEVEL = logging.ERROR
    sink: str
    partition: int
    offsets: int

    def measure(self) -> None:
        _EXPIRED.labels(self.sink).inc(self.offsets)


@dataclass(frozen=True, slots=True)
class StoreWaits(Event):
    """Postgres does not take a batch; the sink keeps it and tries again."""

    LEVEL = logging.WARNING
    sink: str
    error: str

    def measure(self) -> None:
        _WAITING.labels(self.sink).set(1)


@dataclass(frozen=True, slots=True)
class StoreResumed(Event):
    """Postgres takes batches again."""

    sink: str
    waited_s: float

    def measure(self) -> None:
        _WAITING.labels(self.sink).set(0)


@dataclass(frozen=True, slots=True)
class BatchStale(Event):
    """Another process has stored what this one wanted to: it lost the partition and did not know yet."""

    LEVEL = logging.WARNING
    sink: str
    partition: int

    def measure(self) -> None:
        _STALE.labels(self.sink).inc()


@dataclass(frozen=True, slots=True)
class EventUnreadable(Event):
    """An event of a known type is none: a writer of ours is broken. It is skipped."""

    LEVEL = logging.ERROR
    sink: str
    partition: int
    offset: int
    detail: str

    def measure(self) -> None:
        SKIPPED.labels(self.sink, "unreadable").inc()


@dataclass(frozen=True, slots=True)
class RowRefused(Event):
    """Postgres refuses one row for what is in it. It is skipped."""

    LEVEL = logging.ERROR
    sink: str
    table: str
    error: str

    def measure(self) -> None:
        SKIPPED.labels(self.sink, "refused").inc()


@dataclass(frozen=True, slots=True)
class KafkaAway(Event):
    """The sink lost Kafka, or cannot reach it, and tries again."""

    LEVEL = logging.WARNING
    sink: str
    error: str


@dataclass(frozen=True, slots=True)
class PartitionMade(Event):
    """A time partition was made ahead of need."""

    partition: str


@dataclass(frozen=True, slots=True)
class PartitionDropped(Event):
    """A time partition expired and was dropped with its rows."""

    partition: str


@dataclass(frozen=True, slots=True)
class KeeperWaits(Event):
    """Time partitions could not be looked after; tried again soon."""

    LEVEL = logging.WARNING
    error: str
