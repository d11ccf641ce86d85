"""What the InventoryAdjustmentForwarder says of itself; a device appears by its pseudonym."""

import logging
from dataclasses import dataclass

from prometheus_client import Counter, Gauge

from shared.events import Event

READINGS = Counter("forwarder_readings", "Readings looked at")
_ADJUSTED = Counter("stock_adjustments", "Changes of stock sent", ["sku", "location"])
_FAILED = Counter("forwarder_readings_failed", "Readings that no rule could be applied to", ["why"])
_RULES = Gauge("forwarder_rules", "Rules in force")
_RULES_UNFIT = Gauge("forwarder_rules_unfit", "1 while the rules' file has mistakes and older rules stay in force")


@dataclass(frozen=True, slots=True)
class StockChanged(Event):
    """A change of stock was sent. What a crash undid is said again by who does it again."""

    device: str
    sku: str
    location: str
    delta: float

    def measure(self) -> None:
        _ADJUSTED.labels(self.sku, self.location).inc()


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
class ForwardingFailed(Event):
    """A bug of ours: the reading is passed by, its device's state stays as it was."""

    LEVEL = logging.ERROR
    partition: int
    offset: int
    error: str

    def measure(self) -> None:
        _FAILED.labels("bug").inc()


@dataclass(frozen=True, slots=True)
class RulesLoaded(Event):
    """These rules are in force from now on."""

    rules: int

    def measure(self) -> None:
        _RULES.set(self.rules)
        _RULES_UNFIT.set(0)


@dataclass(frozen=True, slots=True)
class RulesUnfit(Event):
    """The rules' file has mistakes; the rules before it stay in force."""

    LEVEL = logging.ERROR
    mistakes: list[str]

    def measure(self) -> None:
        _RULES_UNFIT.set(1)
