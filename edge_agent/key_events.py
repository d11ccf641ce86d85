"""What is said about the gateway's key."""

import logging
from dataclasses import dataclass

from prometheus_client import Counter

from shared.events import Event

ROTATIONS = Counter("agent_key_rotations", "Rotations of the gateway's key by how they ended", ["result"])


@dataclass(frozen=True, slots=True)
class KeyAsked(Event):
    """The hub is asked for a new key."""


@dataclass(frozen=True, slots=True)
class KeyKept(Event):
    """A new key is on disk beside the present one; the connection to the hub is made anew with it."""


@dataclass(frozen=True, slots=True)
class KeyRotated(Event):
    """The new key is in use and confirmed; the old one is gone from here, and ends at the hub."""

    def measure(self) -> None:
        ROTATIONS.labels("rotated").inc()


@dataclass(frozen=True, slots=True)
class KeyRefused(Event):
    """The broker refused the new key; the old one is tried."""

    LEVEL = logging.WARNING


@dataclass(frozen=True, slots=True)
class KeyDropped(Event):
    """The hub does not know the new key (any longer): the old one stays, and another is asked for later."""

    LEVEL = logging.WARNING

    def measure(self) -> None:
        ROTATIONS.labels("withdrawn").inc()


@dataclass(frozen=True, slots=True)
class KeyTrouble(Event):
    """A step of the rotation could not be done; tried again after `retry_s`. The present key is untouched."""

    LEVEL = logging.WARNING
    step: str
    error: str
    retry_s: float

    def measure(self) -> None:
        ROTATIONS.labels("trouble").inc()
