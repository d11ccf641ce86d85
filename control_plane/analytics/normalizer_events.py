"""What the normaliser says of itself: its events and metrics. Devices do not appear, not even as pseudonyms.

Counts are of what this process did since its start. What it did in a transaction that a crash undid was counted by
the process that crashed; the topics are the truth, the metrics tell how it goes.
"""

import logging
from collections import Counter as Tallies
from dataclasses import dataclass
from typing import Annotated

import msgspec
from prometheus_client import Counter, Gauge, Histogram

from control_plane.analytics import number_ranges
from control_plane.analytics.normalizer import Outcome
from shared.batch import Lane
from shared.bounded import Bounded
from shared.events import Event

RAW = Counter("telemetry_raw_records", "Raw records, each by its one fate", ["fate"])
READINGS = Counter("telemetry_readings_normalized", "Readings written to normalized", ["lane"])
AGGREGATES = Counter("telemetry_aggregates_normalized", "Aggregates, which thinning at gateways made")
GATEWAY_EVENTS = Counter("telemetry_gateway_events", "Events of gateways")
REJECTED = Counter("telemetry_rejected", "Messages and readings refused", ["reason"])
REPLAYED = Counter("telemetry_replayed", "Dead letters that came back, by what became of them", ["fate"])
GAP_BATCHES = Counter("telemetry_gap_batches", "Batches that will never be seen", ["kind"])
DRIFTING = Counter("telemetry_clock_drift", "Readings of a device whose clock is off beyond the threshold")
SKEW = Histogram(
    "telemetry_clock_skew_seconds",
    "How far devices' clocks are ahead (or behind: below zero)",
    buckets=(-3600, -60, -10, -5, -2, -0.5, 0, 0.5, 2, 5, 10, 60, 3600),
)
LEDGER = Gauge(
    "telemetry_gateway_ledger_records",
    "Records by the gateways' own ledgers, as last heard by this process",
    ["class", "account"],
)
REGISTRY_DEVICES = Gauge("registry_view_devices", "Devices and gateways known to this process")

_ACCOUNTS = ("accepted", "acked", "waiting", "thinned", "expired", "damaged")
_READINGS = {lane: READINGS.labels(lane.value) for lane in Lane}
_Number = Annotated[int, msgspec.Meta(ge=0, le=2**53)]
_Line = tuple[_Number, _Number, _Number, _Number, _Number, _Number]


class _Accounts(msgspec.Struct, frozen=True):
    """A ledger by the classes of an outbox's rows. What else stands in it is passed over: it would become a label."""

    alarm: _Line | None = None
    anomaly: _Line | None = None
    event: _Line | None = None
    telemetry: _Line | None = None
    aggregate: _Line | None = None

    def lines(self) -> list[tuple[str, _Line]]:
        """The classes that it has, with their accounts."""
        found = [(name, getattr(self, name)) for name in self.__struct_fields__]
        return [(name, line) for name, line in found if line is not None]


_LEDGER = msgspec.json.Decoder(_Accounts)


def count(outcome: Outcome) -> None:
    """Move the metrics by one raw record's outcome."""
    tally = outcome.tally
    (REPLAYED if outcome.is_replay else RAW).labels(outcome.fate.value).inc()
    if tally.readings:
        _READINGS[outcome.lane].inc(tally.readings)
    if tally.aggregates:
        AGGREGATES.inc(tally.aggregates)
    if tally.events:
        GATEWAY_EVENTS.inc(tally.events)
    for reason, number in Tallies(tally.refused).items():
        REJECTED.labels(reason.value).inc(number)
    if tally.drifting:
        DRIFTING.inc(tally.drifting)
    if tally.skew_ms is not None:  # one observation a message: a step of a histogram costs half a reading
        SKEW.observe(tally.skew_ms / 1_000)
    for lost in outcome.lost:
        GAP_BATCHES.labels(lost.kind.value).inc(number_ranges.count(lost.ranges))


class Ledgers:
    """The newest ledger of each gateway, summed into one gauge; of the 10,000 gateways that were heard last."""

    LIMIT = 10_000

    def __init__(self) -> None:
        self._newest: Bounded[str, _Accounts] = Bounded(self.LIMIT)
        self._sums: dict[tuple[str, str], int] = {}

    def hear(self, gateway: str, ledger: str) -> None:
        """What a batch's header says. An older one than known (resends, other lane) is ignored, nonsense too."""
        try:
            heard = _LEDGER.decode(ledger)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            return
        known = self._newest.get(gateway)
        if known is not None and _accepted(heard) < _accepted(known):
            return
        forgotten = self._newest.keep(gateway, heard)
        if forgotten is not None:
            self._add(-1, forgotten[1])
        if known is not None:
            self._add(-1, known)
        self._add(1, heard)

    def _add(self, sign: int, accounts: _Accounts) -> None:
        for name, values in accounts.lines():
            for account, value in zip(_ACCOUNTS, values, strict=True):
                total = self._sums[name, account] = self._sums.get((name, account), 0) + sign * value
                LEDGER.labels(name, account).set(total)


def _accepted(accounts: _Accounts) -> int:
    return sum(line[0] for _, line in accounts.lines())


@dataclass(frozen=True, slots=True)
class RegistryCaughtUp(Event):
    """The local view of the registry is complete."""

    devices: int

    def measure(self) -> None:
        REGISTRY_DEVICES.set(self.devices)


@dataclass(frozen=True, slots=True)
class RegistryAway(Event):
    """The registry topic cannot be read; what is known stays in use."""

    LEVEL = logging.WARNING
    error: str


@dataclass(frozen=True, slots=True)
class RegistryRecordUnreadable(Event):
    """A record of the registry topic is none; it is passed over."""

    LEVEL = logging.ERROR
    error: str


@dataclass(frozen=True, slots=True)
class RegistryAskFailed(Event):
    """Postgres did not say in time whether unknown devices exist: they are refused, and nobody asks for a while."""

    LEVEL = logging.WARNING
    error: str
    quiet_s: float


@dataclass(frozen=True, slots=True)
class JudgingFailed(Event):
    """A bug of ours: a record could not be judged and was refused whole, with reason `unjudged`."""

    LEVEL = logging.ERROR
    error: str
    partition: int
    offset: int
