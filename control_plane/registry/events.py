"""What the registry says happened, and the metrics that it moves."""

import logging
import time
from dataclasses import dataclass

from prometheus_client import Counter, Gauge, Histogram

from shared.events import Event

REGISTRATIONS = Counter("registry_registrations", "Registrations by how they ended", ["result"])
OUTBOX_DEPTH = Gauge("registry_outbox_depth", "Records that wait for Kafka")
OUTBOX_AGE = Gauge("registry_outbox_oldest_seconds", "Age of the oldest record that waits for Kafka")
RELAYED = Counter("registry_relayed_records", "Records that Kafka confirmed")
NUDGES = Counter("gateway_nudges", "How often a gateway was told to ask what changed")
COMMANDS = Counter("broker_commands", "Commands to the broker by who waited and how they ended", ["lane", "result"])
COMMAND_SECONDS = Histogram(
    "broker_command_seconds",
    "From sending a command to the broker's answer",
    buckets=(0.001, 0.005, 0.02, 0.1, 0.5, 2),
)
BROKER_UP = Gauge("registry_broker_connected", "1 while this process is connected to the broker")
BROKER_ASKED = Counter("broker_questions", "Questions of brokers with HTTP authentication", ["door", "result"])
BROKER_DESIRED = Gauge("broker_records_desired", "Records that the broker should hold")
BROKER_ACTUAL = Gauge("broker_records_actual", "Records that the broker holds, of those that it should")
BROKER_CONVERGED = Gauge(
    "broker_converged_timestamp_seconds", "When broker and Postgres last agreed; 0 where this process never saw it"
)
BROKER_RESTART_AT = Gauge("broker_restart_announced_timestamp_seconds", "When the broker will be restarted; 0: not")
BROKER_REBUILDS = Counter("broker_rebuilds", "Rebuilds of the broker by its file, by how they ended", ["result"])
BROKER_MISSING = Gauge("broker_records_missing", "Keys that Postgres holds valid and the broker lost")
BROKER_UNKNOWN = Gauge("broker_records_unknown", "Keys at the broker that Postgres does not know, too many to delete")
BROKER_REPAIRED = Counter("broker_records_repaired", "Records brought in line by command", ["action"])
REQUESTS = Counter("hub_http_requests", "REST requests by route and status", ["method", "route", "status"])
REQUEST_SECONDS = Histogram("hub_http_request_seconds", "Time to answer a REST request", ["method", "route"])


@dataclass(frozen=True, slots=True)
class HealthListening(Event):
    """Where this process answers for its health."""

    service: str
    port: int


@dataclass(frozen=True, slots=True)
class ApiListening(Event):
    """REST is served."""

    url: str


@dataclass(frozen=True, slots=True)
class DeviceRegistered(Event):
    """A device got a key; `reissued` if it is a new one for a device whose first was never seen."""

    device: str
    kind: str
    reissued: bool

    def measure(self) -> None:
        REGISTRATIONS.labels("reissued" if self.reissued else "created").inc()


@dataclass(frozen=True, slots=True)
class PseudonymsNotWritten(Event):
    """Postgres was away; tried again."""

    LEVEL = logging.WARNING
    error: str


@dataclass(frozen=True, slots=True)
class RegistrationRefused(Event):
    """A registration broke a rule."""

    reason: str

    def measure(self) -> None:
        REGISTRATIONS.labels("refused").inc()


@dataclass(frozen=True, slots=True)
class RegistrationFailed(Event):
    """The broker did not take the key in time; nothing is registered."""

    LEVEL = logging.WARNING
    device: str
    error: str

    def measure(self) -> None:
        REGISTRATIONS.labels("failed").inc()


@dataclass(frozen=True, slots=True)
class BrokerConnected(Event):
    """Commands can be sent."""

    def measure(self) -> None:
        BROKER_UP.set(1)


@dataclass(frozen=True, slots=True)
class BrokerLost(Event):
    """The connection ended; tried again after `retry_s`."""

    LEVEL = logging.WARNING
    error: str
    retry_s: float

    def measure(self) -> None:
        BROKER_UP.set(0)


@dataclass(frozen=True, slots=True)
class BrokerCommanded(Event):
    """The broker answered a command, or did not."""

    LEVEL = logging.DEBUG
    command: str
    lane: str
    result: str
    seconds: float

    def measure(self) -> None:
        COMMANDS.labels(self.lane, self.result).inc()
        COMMAND_SECONDS.observe(self.seconds)


@dataclass(frozen=True, slots=True)
class BrokerAnswerStrange(Event):
    """A message on the response topic that no plugin writes."""

    LEVEL = logging.WARNING
    error: str


@dataclass(frozen=True, slots=True)
class BrokerReconciled(Event):
    """The broker's records were compared with Postgres and repaired where a command can. `converged_at`: when both
    agree, else nothing.
    """

    records: int
    desired: int
    actual: int
    deleted: int
    disabled: int
    enabled: int
    created: int
    missing: int
    withheld: int
    seconds: float
    converged_at: float | None

    def measure(self) -> None:
        BROKER_DESIRED.set(self.desired)
        BROKER_ACTUAL.set(self.actual)
        BROKER_MISSING.set(self.missing)
        BROKER_UNKNOWN.set(self.withheld)
        if self.converged_at is not None:
            BROKER_CONVERGED.set(self.converged_at)
        BROKER_REPAIRED.labels("delete").inc(self.deleted)
        BROKER_REPAIRED.labels("disable").inc(self.disabled)
        BROKER_REPAIRED.labels("enable").inc(self.enabled)
        BROKER_REPAIRED.labels("create").inc(self.created)


@dataclass(frozen=True, slots=True)
class BrokerRecordsMissing(Event):
    """The broker lost keys whose secrets nobody knows; only its file and a restart bring them back."""

    LEVEL = logging.ERROR
    missing: int
    hint: str = "`hub broker-rebuild`, or stop the broker, `hub broker-file --out FILE`, start it (docs/broker.md)"


@dataclass(frozen=True, slots=True)
class BrokerRecordsUnknown(Event):
    """So many of the broker's keys are unknown to this database that it may be the wrong one; none was deleted."""

    LEVEL = logging.ERROR
    unknown: int
    hint: str = "is HUB_DATABASE_URL the right one? if so, `hub broker-rebuild` (docs/broker.md)"


@dataclass(frozen=True, slots=True)
class BrokerRestartAnnounced(Event):
    """The broker will be restarted with all records in `in_s` seconds: every connection is closed for a moment."""

    LEVEL = logging.WARNING
    reason: str
    arriving: int
    in_s: float

    def measure(self) -> None:
        BROKER_RESTART_AT.set(time.time() + self.in_s)


@dataclass(frozen=True, slots=True)
class BrokerRebuilt(Event):
    """The broker holds all records again; `arrived`: keys of imports that became valid by it."""

    LEVEL = logging.WARNING
    reason: str
    records: int
    arrived: int
    restarts: int
    seconds: float

    def measure(self) -> None:
        BROKER_REBUILDS.labels("done").inc()
        BROKER_RESTART_AT.set(0)


@dataclass(frozen=True, slots=True)
class BrokerRebuildFailed(Event):
    """The broker's rebuild came to no end; doing it again mends it."""

    LEVEL = logging.ERROR
    reason: str
    error: str

    def measure(self) -> None:
        BROKER_REBUILDS.labels("failed").inc()
        BROKER_RESTART_AT.set(0)


@dataclass(frozen=True, slots=True)
class BrokerOwed(Event):
    """The broker was away when a device's records were to be changed; they are, first of all, when it is back."""

    LEVEL = logging.WARNING
    devices: int


@dataclass(frozen=True, slots=True)
class BrokerAsked(Event):
    """A broker with HTTP authentication asked whether to let somebody in, or what they may do."""

    LEVEL = logging.DEBUG
    door: str
    result: str

    def measure(self) -> None:
        BROKER_ASKED.labels(self.door, self.result).inc()


@dataclass(frozen=True, slots=True)
class ReconcilerDeaf(Event):
    """Calls of other API processes are not heard for a moment; all is compared when they are again."""

    LEVEL = logging.WARNING
    error: str


@dataclass(frozen=True, slots=True)
class ReconcilerNotCalled(Event):
    """The leader could not be told that the broker may hold a key too many; it finds it within ten minutes."""

    LEVEL = logging.WARNING
    error: str


@dataclass(frozen=True, slots=True)
class ReconcileFailed(Event):
    """The comparison could not be done; it is tried again."""

    LEVEL = logging.WARNING
    error: str


@dataclass(frozen=True, slots=True)
class Relayed(Event):
    """Kafka has these records of the outbox."""

    LEVEL = logging.DEBUG
    records: int

    def measure(self) -> None:
        RELAYED.inc(self.records)


@dataclass(frozen=True, slots=True)
class RelayFailed(Event):
    """Kafka or Postgres did not take part; the records wait."""

    LEVEL = logging.WARNING
    error: str
    retry_s: float


@dataclass(frozen=True, slots=True)
class OutboxMeasured(Event):
    """How much waits for Kafka."""

    LEVEL = logging.DEBUG
    waiting: int
    oldest_s: float

    def measure(self) -> None:
        OUTBOX_DEPTH.set(self.waiting)
        OUTBOX_AGE.set(self.oldest_s)


@dataclass(frozen=True, slots=True)
class LeadershipWon(Event):
    """This process now relays, reconciles and watches, alone among all API processes."""


@dataclass(frozen=True, slots=True)
class LeadershipLost(Event):
    """Another may take over; tried again after `retry_s`."""

    LEVEL = logging.WARNING
    error: str
    retry_s: float


@dataclass(frozen=True, slots=True)
class WatchLost(Event):
    """The broker's log cannot be read: which key was used is learnt when it is back (it queues for an hour)."""

    LEVEL = logging.WARNING
    error: str
    retry_s: float


@dataclass(frozen=True, slots=True)
class RequestServed(Event):
    """One REST request."""

    LEVEL = logging.DEBUG
    method: str
    route: str
    status: int
    seconds: float

    def measure(self) -> None:
        REQUESTS.labels(self.method, self.route, str(self.status)).inc()
        REQUEST_SECONDS.labels(self.method, self.route).observe(self.seconds)


@dataclass(frozen=True, slots=True)
class RequestFailed(Event):
    """A request met a bug of ours."""

    LEVEL = logging.ERROR
    method: str
    route: str
    error: str


@dataclass(frozen=True, slots=True)
class PolicyChanged(Event):
    """Somebody replaced a policy."""

    policy: str
    version: int


@dataclass(frozen=True, slots=True)
class GatewaysNudged(Event):
    """So many gateways were told to ask what changed."""

    LEVEL = logging.DEBUG
    gateways: int

    def measure(self) -> None:
        NUDGES.inc(self.gateways)


@dataclass(frozen=True, slots=True)
class NudgesStopped(Event):
    """Gateways are not told of changes until Postgres is back: they ask by themselves, later."""

    LEVEL = logging.WARNING
    error: str
