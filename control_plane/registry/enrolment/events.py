"""What enrolment says happened, and the metrics that it moves."""

import logging
from dataclasses import dataclass

from prometheus_client import Counter

from shared.events import Event

ENROLMENTS = Counter("registry_enrolments", "Enrolments of gateways by how they ended", ["result"])
REPORTED = Counter(
    "registry_devices_reported", "Unknown devices that gateways reported, by what became of them", ["result"]
)


@dataclass(frozen=True, slots=True)
class GatewayEnrolled(Event):
    """A gateway got its identity. `how`: new, again (known hardware), repeat (its first answer was lost)."""

    gateway: str
    how: str
    taken_over: int

    def measure(self) -> None:
        ENROLMENTS.labels(self.how).inc()


@dataclass(frozen=True, slots=True)
class EnrolmentRefused(Event):
    """Somebody asked to be enrolled and was not. `token`: the token's public half, if it is one of ours."""

    LEVEL = logging.WARNING
    reason: str
    token: str

    def measure(self) -> None:
        ENROLMENTS.labels("refused").inc()


@dataclass(frozen=True, slots=True)
class EnrolmentFailed(Event):
    """The broker did not take the key in time; nothing is enrolled and no use is spent."""

    LEVEL = logging.WARNING
    error: str

    def measure(self) -> None:
        ENROLMENTS.labels("failed").inc()


@dataclass(frozen=True, slots=True)
class DrainEnded(Event):
    """A replaced gateway's time to drain is over: it is retired."""

    gateway: str


@dataclass(frozen=True, slots=True)
class DrainWatchFailed(Event):
    """Whose time to drain is over could not be looked up; it is tried again."""

    LEVEL = logging.WARNING
    error: str


@dataclass(frozen=True, slots=True)
class DevicesReported(Event):
    """A gateway told of devices that it does not know."""

    gateway: str
    pending: int
    known: int
    refused: int

    def measure(self) -> None:
        for result, count in (("pending", self.pending), ("known", self.known), ("refused", self.refused)):
            REPORTED.labels(result).inc(count)
