"""What the AnomalyDetector says of itself; a device appears by its pseudonym."""

import logging
from dataclasses import dataclass

from prometheus_client import Counter, Gauge

from shared.events import Event

READINGS = Counter("detector_readings", "Readings looked at")
_ANOMALIES = Counter("anomaly_events", "Anomalies, one per alarm", ["severity", "source"])
_FAILED = Counter("detector_readings_failed", "Readings that could not be judged", ["why"])
_TYPES = Gauge("detector_limited_types", "Device types with limits known to this process")


@dataclass(frozen=True, slots=True)
class AnomalyDetected(Event):
    """An alarm was raised. What a crash undid is said again by who does it again."""

    device: str
    metric: str
    severity: str
    source: str
    reason: str

    def measure(self) -> None:
        _ANOMALIES.labels(self.severity, self.source).inc()


@dataclass(frozen=True, slots=True)
class ReadingUnreadable(Event):
    """A record of `normalized` is none: a writer of ours is broken. It is skipped."""

    LEVEL = logging.ERROR
    partition: int
    offset: int
    error: str

    def measure(self) -> None:
        _FAILED.labels("unreadable").inc()


@dataclass(frozen=True, slots=True)
class DetectionFailed(Event):
    """A bug of ours: the reading is passed by, its device's state stays as it was."""

    LEVEL = logging.ERROR
    partition: int
    offset: int
    error: str

    def measure(self) -> None:
        _FAILED.labels("bug").inc()


@dataclass(frozen=True, slots=True)
class LimitsLoaded(Event):
    """The limits of the device types are known, for the first time or anew after Postgres was away."""

    types: int

    def measure(self) -> None:
        _TYPES.set(self.types)


@dataclass(frozen=True, slots=True)
class LimitsAway(Event):
    """Postgres does not tell the limits; those that are known stay in use."""

    LEVEL = logging.WARNING
    error: str
