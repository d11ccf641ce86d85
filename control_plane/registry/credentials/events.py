"""What is said and counted about keys."""

import logging
from dataclasses import dataclass

from prometheus_client import Counter, Gauge

from shared.events import Event

ROTATIONS = Counter("credential_rotations", "Keys given out by a rotation", ["why"])
ROTATION_FAILURES = Counter("credential_rotation_failures", "Rotations that the broker did not take", ["why"])
ENDED = Counter("credential_keys_ended", "Keys that ended", ["why"])
OVERDUE = Gauge("credential_keys_overdue", "Keys older than the policy says, whose device nobody can hand another")


@dataclass(frozen=True, slots=True)
class KeyRotated(Event):
    """A device got a further key; `ended`: keys that ended at once."""

    device: str
    why: str
    ended: int

    def measure(self) -> None:
        ROTATIONS.labels(self.why).inc()


@dataclass(frozen=True, slots=True)
class RotationFailed(Event):
    """The broker did not take the new key; the old ones are untouched."""

    LEVEL = logging.WARNING
    device: str
    why: str
    error: str

    def measure(self) -> None:
        ROTATION_FAILURES.labels(self.why).inc()


@dataclass(frozen=True, slots=True)
class KeysEnded(Event):
    """Keys are no longer valid."""

    keys: int
    why: str

    def measure(self) -> None:
        ENDED.labels(self.why).inc(self.keys)


@dataclass(frozen=True, slots=True)
class DeviceRevoked(Event):
    """A device was cut off for good; `closed`: the broker has confirmed it."""

    LEVEL = logging.WARNING
    device: str
    closed: bool


@dataclass(frozen=True, slots=True)
class KeysOverdue(Event):
    """How many keys are older than the policy `credentials` says; see `hub device keys --overdue`."""

    keys: int

    def measure(self) -> None:
        OVERDUE.set(self.keys)


@dataclass(frozen=True, slots=True)
class ReconcilerUncalled(Event):
    """The leader could not be told of a key that the broker must not hold; it finds it within ten minutes."""

    LEVEL = logging.WARNING
    error: str


@dataclass(frozen=True, slots=True)
class KeyTimesDeaf(Event):
    """Postgres is away: keys end when it is back; tried again."""

    LEVEL = logging.WARNING
    error: str
