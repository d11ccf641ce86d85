"""What ingest says of itself: its events, and the metrics that they and the hot path move.

No event at INFO or above is per message. Devices do not appear, not even as pseudonyms: ingest counts.
"""

import logging
import time
from dataclasses import dataclass
from typing import ClassVar

from prometheus_client import Counter, Gauge, Histogram

from control_plane.ingest import refused_connects
from control_plane.ingest.rate import Rate
from shared.events import Event

RATE = Rate(span_s=10)

# The exact exposed names of the first two are fixed; a Counter would be exposed with `_total` behind its name.
INGEST_RATE = Gauge("telemetry_ingest_rate", "Messages per second received over the last 10 seconds")
INGEST_RATE.set_function(lambda: RATE.per_s(time.monotonic()))
CONNECT_FAILURES = Gauge(
    "telemetry_mqtt_connect_failures", "Connects to the broker that failed since the start; only grows", ["kind"]
)
# The first three are ingest's own; the others everybody's, as the broker's log tells.
for _kind in ("unreachable", "refused", "timeout", *refused_connects.KINDS):
    CONNECT_FAILURES.labels(_kind)

RECEIVED = Counter("telemetry_ingest_received", "Messages received", ["outcome"])
NEW, REPEAT, FOREIGN, DROPPED = (RECEIVED.labels(name) for name in ("new", "repeat", "foreign", "dropped"))
PRODUCED = Counter("telemetry_ingest_produced", "Records that Kafka confirmed")
CUT = Counter("telemetry_ingest_cut", "Messages of which only the beginning was kept", ["why"])
CUT_FOR_SIZE, CUT_FOR_REFUSAL = CUT.labels("size"), CUT.labels("refused")
HEADERS_CUT = Counter("telemetry_ingest_headers_cut", "Messages of which properties over the limits were left out")
HUB_ACKS = Counter("telemetry_ingest_hub_acks", "Hub acknowledgements by the broker's answer", ["answer"])
TAKEN, NOBODY, REFUSED = (HUB_ACKS.labels(name) for name in ("taken", "nobody", "refused"))
HUB_ACKS_FORGOTTEN = Gauge("telemetry_ingest_hub_acks_forgotten", "Numbers not told because too many waited")
ACK_LATENCY = Histogram(
    "telemetry_ingest_ack_latency_seconds",
    "From receipt to Kafka's confirmation, of the oldest message of each Kafka batch",
    buckets=(0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60),
)
UNACKNOWLEDGED = Gauge("telemetry_ingest_unacknowledged", "Messages of this connection that are not acknowledged")
UNCONFIRMED = Gauge("telemetry_ingest_unconfirmed", "Messages held until Kafka confirms them")
PAUSES = Counter("telemetry_ingest_pauses", "Times that reading paused because the broker broke Receive Maximum")
LEASE_HELD = Gauge("telemetry_ingest_lease_held", "1 while this process holds its session slot")
LEASE_CERTAIN = Gauge(
    "telemetry_ingest_lease_certain", "1 while nobody else can hold the slot: Postgres confirmed it"
)
SESSIONS_LOST = Counter("telemetry_ingest_sessions_lost", "Connects at which the broker had no session of ours")
RECONNECTS = Counter("telemetry_ingest_disconnects", "Connections to the broker that ended")
PRODUCERS_RETIRED = Counter("telemetry_ingest_producers_retired", "Kafka producers that failed and were replaced")
TAIL_TRUNCATED = Gauge("telemetry_ingest_tail_truncated", "Records of raw that the last reading of its tail left out")
BROKER_DROPPED = Gauge("telemetry_broker_dropped_messages", "$SYS/broker/publish/messages/dropped, as last seen")


RATE_LIMITED = Counter("telemetry_rate_limited_messages", "Messages marked as over their device's limit")
NOTICES = Counter("telemetry_notices", "Notices sent to devices that are over their limit")
HINTS = Counter("telemetry_flow_hints", "Flow hints sent to gateways, repetitions included")
HINTS_IGNORED = Counter("telemetry_flow_hints_ignored", "Batches of gateways that do not obey the hint they echo")
HINTED = Gauge("telemetry_hinted_gateways", "Gateways that are asked to send more slowly")
LIMITS_KNOWN = Gauge("telemetry_ingest_limits_known", "Senders whose type and own limits are known to ingest")


@dataclass(frozen=True, slots=True)
class HealthListening(Event):
    """Where the health pages are."""

    host: str
    port: int


@dataclass(frozen=True, slots=True)
class LeaseTaken(Event):
    """This process holds the slot."""

    slot: int
    resumed: bool

    def measure(self) -> None:
        LEASE_HELD.set(1)


@dataclass(frozen=True, slots=True)
class LeaseLost(Event):
    """Another process holds the slot now; this one stands by."""

    LEVEL: ClassVar[int] = logging.WARNING
    slot: int

    def measure(self) -> None:
        LEASE_HELD.set(0)


@dataclass(frozen=True, slots=True)
class LeaseReleased(Event):
    """The slot was given back in order."""

    slot: int

    def measure(self) -> None:
        LEASE_HELD.set(0)


@dataclass(frozen=True, slots=True)
class StandingBy(Event):
    """The slot is another process's."""

    slot: int


@dataclass(frozen=True, slots=True)
class DatabaseAway(Event):
    """The lease cannot be read or renewed; a connected ingest goes on."""

    LEVEL: ClassVar[int] = logging.WARNING
    detail: str


@dataclass(frozen=True, slots=True)
class DatabaseBack(Event):
    """The lease can be read again."""

    away_s: float


@dataclass(frozen=True, slots=True)
class TailRead(Event):
    """What `raw` already has, so that a repeat is known. `truncated`: records that could be delivered again and were
    left out, because no more can be remembered (HUB_INGEST_REMEMBER); the normaliser drops their repeats.
    """

    identities: int
    truncated: int
    seconds: float

    def measure(self) -> None:
        TAIL_TRUNCATED.set(self.truncated)


@dataclass(frozen=True, slots=True)
class BrokerConnected(Event):
    """Connected and subscribed."""

    generation: int
    session_present: bool


@dataclass(frozen=True, slots=True)
class SessionAbsent(Event):
    """The broker had no session of ours: what devices sent meanwhile reached nobody (agents send it again).

    Normal at the very first start, before devices may connect; afterwards an alert.
    """

    LEVEL: ClassVar[int] = logging.WARNING
    slot: int

    def measure(self) -> None:
        SESSIONS_LOST.inc()


@dataclass(frozen=True, slots=True)
class BrokerConnectFailed(Event):
    """A connect failed; it is tried again."""

    LEVEL: ClassVar[int] = logging.WARNING
    kind: str
    detail: str

    def measure(self) -> None:
        CONNECT_FAILURES.labels(self.kind).inc()


@dataclass(frozen=True, slots=True)
class BrokerDisconnected(Event):
    """The connection ended; the broker keeps what is unacknowledged."""

    LEVEL: ClassVar[int] = logging.WARNING
    detail: str
    unacknowledged: int

    def measure(self) -> None:
        RECONNECTS.inc()


@dataclass(frozen=True, slots=True)
class BrokerDropped(Event):
    """The broker dropped messages: a queue is full, or a subscriber was away without a session."""

    LEVEL: ClassVar[int] = logging.WARNING
    messages: int


@dataclass(frozen=True, slots=True)
class BrokerWatchEnded(Event):
    """The broker's own figures are not heard for now."""

    LEVEL: ClassVar[int] = logging.DEBUG
    detail: str


@dataclass(frozen=True, slots=True)
class KafkaAway(Event):
    """Kafka does not confirm; messages are kept, at most Receive Maximum of them."""

    LEVEL: ClassVar[int] = logging.WARNING
    detail: str


@dataclass(frozen=True, slots=True)
class KafkaBack(Event):
    """Kafka confirms again."""

    away_s: float


@dataclass(frozen=True, slots=True)
class ProducerRetired(Event):
    """A Kafka producer failed for good; a fresh one goes on from what the topic has."""

    LEVEL: ClassVar[int] = logging.WARNING
    error: str

    def measure(self) -> None:
        PRODUCERS_RETIRED.inc()


@dataclass(frozen=True, slots=True)
class BatchReconciled(Event):
    """After a failure of unknown outcome the topic was read: `found` of the batch were there, the rest is sent."""

    found: int
    missing: int


@dataclass(frozen=True, slots=True)
class RecordRefused(Event):
    """Kafka refused a record for good; its cut form is written."""

    LEVEL: ClassVar[int] = logging.WARNING
    error: str
    size: int

    def measure(self) -> None:
        CUT_FOR_REFUSAL.inc()


@dataclass(frozen=True, slots=True)
class TimestampRefused(Event):
    """Kafka refused a record's time: the two clocks are apart. From now on records go without one.

    `hub migrate` sets the topic so that this does not happen; look at the clocks all the same.
    """

    LEVEL: ClassVar[int] = logging.ERROR
    received_ms: int


@dataclass(frozen=True, slots=True)
class CutFormRefused(Event):
    """Kafka refuses even the cut form: the topic's limits are set wrong. It is tried again."""

    LEVEL: ClassVar[int] = logging.ERROR
    error: str
    size: int


@dataclass(frozen=True, slots=True)
class Drained(Event):
    """Stopped in order; `left` messages stay with the broker."""

    left: int


@dataclass(frozen=True, slots=True)
class LimitsAway(Event):
    """The registry topic cannot be read; the limits that are known stay in use, of others the defaults."""

    LEVEL: ClassVar[int] = logging.WARNING
    error: str


@dataclass(frozen=True, slots=True)
class LimitsUnreadable(Event):
    """A record of the registry topic is none; it is passed over."""

    LEVEL: ClassVar[int] = logging.ERROR
    error: str
