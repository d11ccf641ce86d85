"""What outbox and uplink report: each event is one log line and the metrics that it moves.

Counts and sizes only; a gateway's own process has one outbox, so nothing is labelled with an id.
"""

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field

from prometheus_client import Counter, Gauge, Histogram

from edge_agent.events import LOCAL_FAILURES as CONNECT_FAILURES
from edge_agent.ledger import Ledger
from edge_agent.row import CLASSES
from shared.events import Event

ROWS = Gauge("agent_outbox_rows", "Rows that wait for the hub's acknowledgement", ["cls"])
OLDEST_S = Gauge("agent_outbox_oldest_age_seconds", "Time since the oldest waiting row was accepted")
USED_BYTES = Gauge("agent_outbox_used_bytes", "Bytes of the outbox file in use")
LEDGER = Gauge("agent_ledger_rows", "Rows by class and by what became of them", ["cls", "column"])
DOUBT = Gauge("agent_ledger_lost_with_counters_at_most", "Rows that may have been lost with damaged counters")
IN_FLIGHT = Gauge("agent_uplink_unacknowledged_batches", "Batches formed and not acknowledged by the hub")
WINDOW = Gauge("agent_uplink_window_batches", "Batches that may be in flight now")
SENT = Counter("agent_batches_sent", "Batches handed to the MQTT client", ["lane", "kind"])
SENT_BYTES = Counter("agent_batches_sent_bytes", "Packed bytes handed to the MQTT client", ["lane"])
ACKED = Counter("agent_batches_acked", "Batches that the hub acknowledged", ["lane"])
ACK_S = Histogram(
    "agent_ack_latency_seconds",
    "From the only send of a batch to the hub's acknowledgement",
    ["lane"],
    buckets=(0.01, 0.025, 0.05, 0.1, 0.15, 0.2, 0.3, 0.5, 1, 2, 5, 15, 60),
)
REFUSED = Counter("agent_publish_refused", "Batches that the broker did not take, by PUBACK reason", ["reason"])
CONNECTS = Counter("agent_uplink_connects", "Connections to the hub that stood")
CONNECTED = Gauge("agent_uplink_connected", "1 while connected to the hub and subscribed")
FULL = Gauge("agent_outbox_full", "1 while the outbox accepts nothing")
BAD_ACKS = Counter("agent_bad_acknowledgements", "Messages on the acknowledgements' topic that are none")
THINNED = Counter("agent_thinned_rows", "Rows that became aggregates for want of space")
_COLUMNS = ("accepted", "acked", "waiting", "thinned", "expired", "damaged")
SALVAGES = Counter("agent_outbox_salvages", "Times a damaged outbox was salvaged")


@dataclass(frozen=True, slots=True)
class BatchSent(Event):
    """A batch is with the MQTT client."""

    LEVEL = logging.DEBUG
    lane: str
    resent: bool
    records: int
    size: int

    def measure(self) -> None:
        SENT.labels(self.lane, "resent" if self.resent else "new").inc()
        SENT_BYTES.labels(self.lane).inc(self.size)


@dataclass(frozen=True, slots=True)
class BatchAcked(Event):
    """The hub has a batch. `latency_s`: since its send, if there was one only."""

    LEVEL = logging.DEBUG
    lane: str
    records: int
    latency_s: float | None

    def measure(self) -> None:
        ACKED.labels(self.lane).inc()
        if self.latency_s is not None:
            ACK_S.labels(self.lane).observe(self.latency_s)


@dataclass(frozen=True, slots=True)
class BatchRefused(Event):
    """The broker did not take a batch; it is sent again after a while."""

    LEVEL = logging.WARNING
    reason: str

    def measure(self) -> None:
        REFUSED.labels(self.reason).inc()


@dataclass(frozen=True, slots=True)
class HubConnected(Event):
    """Batches may be sent."""

    def measure(self) -> None:
        CONNECTS.inc()
        CONNECTED.set(1)


@dataclass(frozen=True, slots=True)
class HubLost(Event):
    """No connection to the hub's broker; tried again after `retry_s`."""

    LEVEL = logging.WARNING
    error: str
    retry_s: float

    def measure(self) -> None:
        CONNECTED.set(0)
        CONNECT_FAILURES.labels("hub").inc()


@dataclass(frozen=True, slots=True)
class HubLeft(Event):
    """The connection to the hub was closed in order."""

    def measure(self) -> None:
        CONNECTED.set(0)


@dataclass(frozen=True, slots=True)
class BadAcknowledgement(Event):
    """A message on the acknowledgements' topic was none."""

    LEVEL = logging.WARNING
    detail: str

    def measure(self) -> None:
        BAD_ACKS.inc()


@dataclass(frozen=True, slots=True)
class HintTaken(Event):
    """The hub asked for less."""

    hint: str
    readings_per_s: float
    for_s: float


@dataclass(frozen=True, slots=True)
class OutboxOpened(Event):
    """The outbox is ready."""

    rows: int
    batches: int


@dataclass(frozen=True, slots=True)
class OutboxFull(Event):
    """Nothing is accepted: the local broker keeps the messages. ALARM."""

    LEVEL = logging.CRITICAL
    why: str

    def measure(self) -> None:
        FULL.set(1)


@dataclass(frozen=True, slots=True)
class OutboxResumed(Event):
    """Rows are accepted again."""

    LEVEL = logging.WARNING

    def measure(self) -> None:
        FULL.set(0)


@dataclass(frozen=True, slots=True)
class OutboxThinned(Event):
    """Old telemetry became aggregates, for want of space."""

    LEVEL = logging.WARNING
    rows: int
    aggregates: int
    window_ms: int

    def measure(self) -> None:
        THINNED.inc(self.rows)


@dataclass(frozen=True, slots=True)
class RowsExpired(Event):
    """Rows outlived the time set for their class."""

    LEVEL = logging.WARNING
    cls: str
    rows: int


@dataclass(frozen=True, slots=True)
class OutboxSalvaged(Event):
    """The outbox was damaged. What could be read is in a new file, the old one is kept as `kept_as`. ALARM.

    `lost`: rows that the counters knew and the file no longer held; `at_most`: rows beyond that which may be lost
    where the counters themselves were.
    """

    LEVEL = logging.CRITICAL
    why: str
    kept_as: str
    rows: int
    lost: int
    at_most: int

    def measure(self) -> None:
        SALVAGES.inc()


@dataclass(frozen=True, slots=True)
class OutboxReplaced(Event):
    """The outbox file is a copy of another time: what it holds is sent anew, and may show twice."""

    LEVEL = logging.CRITICAL
    rows: int


@dataclass(frozen=True, slots=True)
class ClockCorrected(Event):
    """Rows stamped before the clock was set got their true times."""

    rows: int


@dataclass(frozen=True, slots=True)
class OutboxMeasured(Event):
    """How the outbox stands, every few seconds."""

    LEVEL = logging.DEBUG
    ledger: Mapping[str, list[int]] = field(default_factory=dict)
    at_most: int = 0
    oldest_s: float = 0.0
    used_bytes: int = 0
    batches: int = 0
    window: int = 0

    def measure(self) -> None:
        OLDEST_S.set(self.oldest_s)
        USED_BYTES.set(self.used_bytes)
        IN_FLIGHT.set(self.batches)
        WINDOW.set(self.window)
        DOUBT.set(self.at_most)
        for cls, line in self.ledger.items():
            ROWS.labels(cls).set(line[2])
            for column, rows in zip(_COLUMNS, line, strict=True):
                LEDGER.labels(cls, column).set(rows)


def lines(ledger: Ledger) -> dict[str, list[int]]:
    """Per class [accepted, acked, waiting, thinned, expired, damaged]."""
    columns = (ledger.accepted, ledger.acked, ledger.waiting, ledger.thinned, ledger.expired, ledger.damaged)
    return {cls.value: [column[index] for column in columns] for index, cls in enumerate(CLASSES)}
