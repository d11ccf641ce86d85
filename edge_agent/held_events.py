"""What is said of devices that wait for approval, and the metrics that it moves."""

import logging
from dataclasses import dataclass

from prometheus_client import Counter, Gauge

from shared.events import Event

HELD = Counter("agent_held_rows", "Rows of unapproved devices by what became of them", ["result"])
UNAPPROVED = Gauge("agent_unapproved_devices", "Devices that were heard here and wait for approval")


@dataclass(frozen=True, slots=True)
class HeldKept(Event):
    """Rows of devices that wait for approval were accepted and kept apart."""

    LEVEL = logging.DEBUG
    rows: int

    def measure(self) -> None:
        HELD.labels("kept").inc(self.rows)


@dataclass(frozen=True, slots=True)
class HeldMoved(Event):
    """A device was approved: rows of it that waited go to the hub."""

    rows: int

    def measure(self) -> None:
        HELD.labels("moved").inc(self.rows)


@dataclass(frozen=True, slots=True)
class HeldDropped(Event):
    """A device was refused: rows of it that waited are given up."""

    LEVEL = logging.WARNING
    rows: int

    def measure(self) -> None:
        HELD.labels("dropped").inc(self.rows)


@dataclass(frozen=True, slots=True)
class HeldRefused(Event):
    """Too much waits for approval: rows are given up as they come."""

    LEVEL = logging.WARNING
    rows: int

    def measure(self) -> None:
        HELD.labels("refused").inc(self.rows)


@dataclass(frozen=True, slots=True)
class MessagesUnwanted(Event):
    """Messages of devices that the hub refused were acknowledged and not taken."""

    messages: int

    def measure(self) -> None:
        HELD.labels("unwanted").inc(self.messages)


@dataclass(frozen=True, slots=True)
class DevicesAsked(Event):
    """The hub said which devices are this gateway's."""

    LEVEL = logging.DEBUG
    devices: int
    pending: int

    def measure(self) -> None:
        UNAPPROVED.set(self.pending)


@dataclass(frozen=True, slots=True)
class DevicesReported(Event):
    """Devices that the hub does not know were told to it."""

    pending: int
    refused: int
    later: int


@dataclass(frozen=True, slots=True)
class DevicesNotAsked(Event):
    """The hub could not be asked which devices are this gateway's; what is known stays true meanwhile."""

    LEVEL = logging.WARNING
    error: str
