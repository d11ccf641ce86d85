"""What the quarantine says happened, and the metrics that it moves."""

import logging
from dataclasses import dataclass
from typing import ClassVar

from prometheus_client import Counter, Gauge

from shared.events import Event

QUARANTINED = Gauge("quarantined_devices", "Devices and gateways that are quarantined, as the leading process counts")
ENTERED = Counter("quarantines", "Quarantines by what brought them about: operator, or the rule", ["by"])
RELEASED = Counter("quarantine_releases", "Ends of quarantines: operator, or expiry", ["by"])
OBSERVED = Counter("quarantine_evidence", "Signs of misbehaviour that the judge looked at", ["rule"])


@dataclass(frozen=True, slots=True)
class DeviceQuarantined(Event):
    """A device was cut off. `by`: operator, or the rule; `closed`: its session at the broker is ended already."""

    LEVEL: ClassVar[int] = logging.WARNING
    device: str
    by: str
    closed: bool

    def measure(self) -> None:
        ENTERED.labels(self.by).inc()


@dataclass(frozen=True, slots=True)
class DeviceReleased(Event):
    """A device may speak again. `by`: operator, or expiry."""

    device: str
    by: str

    def measure(self) -> None:
        RELEASED.labels(self.by).inc()


@dataclass(frozen=True, slots=True)
class QuarantineWatchFailed(Event):
    """Ends of quarantines are not watched for a moment; they are late by as much."""

    LEVEL: ClassVar[int] = logging.WARNING
    error: str


@dataclass(frozen=True, slots=True)
class JudgeAway(Event):
    """What devices do wrong cannot be read, or a quarantine not written; it is tried again from where it stood."""

    LEVEL: ClassVar[int] = logging.WARNING
    error: str
    retry_s: float


@dataclass(frozen=True, slots=True)
class VerdictNotCarriedOut(Event):
    """A rule spoke against a device that cannot be quarantined: it is unknown, retired, or another's."""

    device: str
    rule: str
    why: str
