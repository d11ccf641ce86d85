"""What the agent reports about itself: each event is one log line and the metrics that it moves.

Intake's events count whole commits, never single messages; no field names a device.
"""

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field

from prometheus_client import Counter, Gauge

from shared.events import Event

MESSAGES = Counter("agent_intake_messages", "Messages taken from the local broker")
REPEATS = Counter("agent_intake_repeats", "Messages recognised as delivered before, acknowledged and not stored")
FOREIGN = Counter("agent_intake_foreign_topics", "Messages on topics of no device, acknowledged and not stored")
ROWS = Counter("agent_accepted_rows", "Rows committed to the outbox", ["cls"])
REFUSED = Counter("agent_unparsed", "Objects kept as bytes for the hub to judge", ["reason"])
FAILED_COMMITS = Counter("agent_failed_commits", "Commits that stored nothing; the messages stay unacknowledged")
LOCAL_FAILURES = Counter("agent_broker_connect_failures", "Connections to a broker that failed or broke", ["broker"])
LOCAL_CONNECTED = Gauge("agent_local_broker_connected", "1 while the local broker is connected")
LOCAL_DROPPED = Gauge(
    "agent_local_broker_dropped_messages", "Messages that the local broker dropped since its start, by its own count"
)
SYNCED = Gauge("agent_clock_synced", "1 while the kernel holds the wall clock for synchronised")
CLOCK_STEPS = Counter("agent_clock_steps", "Times the wall clock was set by a second or more")
SKEW_WORST = Gauge("agent_device_clock_skew_worst_seconds", "Largest known offset of a device's clock")
SKEW_DOUBT = Gauge("agent_device_clocks_in_doubt", "Devices whose clock contradicts its estimate")
SKEW_JUMPS = Counter("agent_device_clock_jumps", "Device clocks found to have moved")
SKEW_RESETS = Counter("agent_device_clock_resets", "Device clocks found to count from before 2015")
UNSCORABLE = Counter("agent_unscorable_samples", "Samples whose size broke a model's arithmetic")
MODELS_SAVED = Counter("agent_models_saved", "Channel states written to the model file")

RENEWALS = Counter(
    "agent_certificate_renewals", "Renewals of the gateway's certificate by how they ended", ["result"]
)


@dataclass(frozen=True, slots=True)
class AgentStarted(Event):
    """Everything is built; services start."""

    scoring: str
    health_port: int


@dataclass(frozen=True, slots=True)
class AgentStopped(Event):
    """All services have drained."""


@dataclass(frozen=True, slots=True)
class LocalBrokerConnected(Event):
    """Intake takes messages. `session`: the broker had kept our session."""

    session: bool

    def measure(self) -> None:
        LOCAL_CONNECTED.set(1)


@dataclass(frozen=True, slots=True)
class LocalBrokerLost(Event):
    """No connection to the local broker; tried again after `retry_s`."""

    LEVEL = logging.WARNING
    error: str
    retry_s: float

    def measure(self) -> None:
        LOCAL_CONNECTED.set(0)
        LOCAL_FAILURES.labels("local").inc()


@dataclass(frozen=True, slots=True)
class LocalBrokerDropped(Event):
    """The local broker dropped messages for want of queue space, `more` since it was last asked. ALARM."""

    LEVEL = logging.CRITICAL
    more: int
    since_its_start: int

    def measure(self) -> None:
        LOCAL_DROPPED.set(self.since_its_start)


@dataclass(frozen=True, slots=True)
class Committed(Event):
    """Messages are durable and acknowledged. `rows` by class, `refused` by reason."""

    LEVEL = logging.DEBUG
    messages: int
    repeats: int
    foreign: int
    rows: Mapping[str, int] = field(default_factory=dict)
    refused: Mapping[str, int] = field(default_factory=dict)

    def measure(self) -> None:
        MESSAGES.inc(self.messages)
        REPEATS.inc(self.repeats)
        FOREIGN.inc(self.foreign)
        for name, count in self.rows.items():
            ROWS.labels(name).inc(count)
        for name, count in self.refused.items():
            REFUSED.labels(name).inc(count)


@dataclass(frozen=True, slots=True)
class CommitFailed(Event):
    """Nothing of this commit was stored; it is tried again after `retry_s`, and nothing was acknowledged."""

    LEVEL = logging.ERROR
    error: str
    rows: int
    retry_s: float

    def measure(self) -> None:
        FAILED_COMMITS.inc()


@dataclass(frozen=True, slots=True)
class ClockSynced(Event):
    """The wall clock became trustworthy."""

    def measure(self) -> None:
        SYNCED.set(1)


@dataclass(frozen=True, slots=True)
class ClockUnsynced(Event):
    """The kernel does not hold the wall clock for synchronised: rows are stamped `unsynced` until it does."""

    LEVEL = logging.WARNING

    def measure(self) -> None:
        SYNCED.set(0)


@dataclass(frozen=True, slots=True)
class ClockStepped(Event):
    """The wall clock was set, by so much."""

    LEVEL = logging.WARNING
    step_ms: int

    def measure(self) -> None:
        CLOCK_STEPS.inc()


@dataclass(frozen=True, slots=True)
class DeviceClocks(Event):
    """The state of device clocks, once a minute. Jumps and resets since the last time."""

    LEVEL = logging.DEBUG
    worst_ms: int
    in_doubt: int
    jumps: int
    resets: int

    def measure(self) -> None:
        SKEW_WORST.set(self.worst_ms / 1_000)
        SKEW_DOUBT.set(self.in_doubt)
        SKEW_JUMPS.inc(self.jumps)
        SKEW_RESETS.inc(self.resets)


@dataclass(frozen=True, slots=True)
class ScoringStartedCold(Event):
    """Stored state could not be used, all of it or that of so many `channels`: they learn anew."""

    LEVEL = logging.WARNING
    reason: str
    channels: int


@dataclass(frozen=True, slots=True)
class ModelsSaved(Event):
    """Channel states were written."""

    LEVEL = logging.DEBUG
    channels: int

    def measure(self) -> None:
        MODELS_SAVED.inc(self.channels)


@dataclass(frozen=True, slots=True)
class ModelsNotSaved(Event):
    """Channel states could not be written; a channel is tried again when it has learned again."""

    LEVEL = logging.ERROR
    error: str


@dataclass(frozen=True, slots=True)
class Unscorable(Event):
    """Samples broke a model's arithmetic; they were kept and sent unscored. Count since the last time."""

    LEVEL = logging.WARNING
    samples: int

    def measure(self) -> None:
        UNSCORABLE.inc(self.samples)


@dataclass(frozen=True, slots=True)
class CertificateRenewed(Event):
    """The gateway has a new certificate; it is used from the next connection on."""

    def measure(self) -> None:
        RENEWALS.labels("done").inc()


@dataclass(frozen=True, slots=True)
class RenewalFailed(Event):
    """The certificate could not be renewed; tried again after `retry_s`."""

    LEVEL = logging.WARNING
    error: str
    retry_s: int

    def measure(self) -> None:
        RENEWALS.labels("failed").inc()


@dataclass(frozen=True, slots=True)
class LocalBrokerWritten(Event):
    """The local broker's records of the LAN's devices were written anew."""

    records: int


@dataclass(frozen=True, slots=True)
class LocalBrokerNotWritten(Event):
    """The local broker may still run with older records; it is tried again when the hub says who is there."""

    LEVEL = logging.WARNING
    error: str
