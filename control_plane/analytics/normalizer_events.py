"""What the normaliser says of itself: its events and metrics. Devices do not appear, not even as pseudonyms.

Counts are of what this process did since its start. What it did in a transaction that a crash undid was counted by
the process that crashed; the topics are the truth, the metrics tell how it goes.
"""

import logging
from collections import Counter as Tallies
from dataclasses import dataclass

import msgspec
from prometheus_client import Counter, Gauge, Histogram

from control_plane.analytics import number_ranges
from control_plane.analytics.normalizer import Outcome
from shared.batch import Lane
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
_LEDGER = msgspec.json.Decoder(dict[str, tuple[int, int, int, int, int, int]])
_Accounts = dict[str, tuple[int, int, int, int, int, int]]


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
    """The newest ledger of each gateway, summed into one gauge; of at most 10,000 gateways."""

    LIMIT = 10_000

    def __init__(self) -> None:
        self._newest: dict[str, _Accounts] = {}
        self._sums: dict[tuple[str, str], int] = {}

    def hear(self, gateway: str, ledger: str) -> None:
        """What a batch's header says. An older one than known (resends, other lane) is ignored, nonsense too."""
        try:
            heard = _LEDGER.decode(ledger)
        except msgspec.MsgspecError:
            return
        known = self._newest.get(gateway)
        if known is None and len(self._newest) >= self.LIMIT:
            return
        if known is not None and _accepted(heard) < _accepted(known):
            return
        self._newest[gateway] = heard
        for sign, accounts in ((-1, known or {}), (1, heard)):
            for name, values in accounts.items():
                for account, value in zip(_ACCOUNTS, values, strict=True):
                    place = (name[:32], account)
                    self._sums[place] = self._sums.get(place, 0) + sign * value
        for name in heard:
            for account in _ACCOUNTS:
                LEDGER.labels(name[:32], account).set(self._sums[name[:32], account])


def _accepted(accounts: _Accounts) -> int:
    return sum(values[0] for values in accounts.values())


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
