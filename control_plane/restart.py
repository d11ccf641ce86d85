"""When a service is started again. PURE.

A service that dies, or could not be started, is started again after a delay that doubles with each such failure in
short order, up to five seconds; one that ran for a while starts over at once. While stopping nothing is started.

One whose first start ends with status 2 is unfit: its configuration is wrong, and no restart mends that. A later
start that ends so found a file altered beneath it; the others' work goes on until somebody mends the file.
"""

from dataclasses import dataclass, replace
from enum import StrEnum, auto

FIRST_S = 0.1
LONGEST_S = 5.0
MISCONFIGURED = 2
"""The exit status of a command that cannot work with the configuration it was given."""
STEADY_S = 30.0
"""A service that ran this long counts as well: its next death is a first one."""


class Phase(StrEnum):
    """Where a service is."""

    WAITING = auto()  # to be started when `at_s` has come
    RUNNING = auto()
    STOPPING = auto()  # was told to end
    ENDED = auto()  # not to be started again


@dataclass(frozen=True, slots=True)
class Service:
    """One service's state. `at_s`: monotonic seconds since when it runs, or when it is to be started."""

    phase: Phase = Phase.WAITING
    at_s: float = 0.0
    deaths: int = 0
    restarts: int = 0
    unfit: bool = False


@dataclass(frozen=True, slots=True)
class Started:
    """The process exists."""

    at_s: float


@dataclass(frozen=True, slots=True)
class Died:
    """The process ended with this exit status; whatever it is, a service is not supposed to end."""

    at_s: float
    status: int


@dataclass(frozen=True, slots=True)
class NotStarted:
    """The system would not make the process: no memory, no more processes, no more files. That passes."""

    at_s: float


@dataclass(frozen=True, slots=True)
class Stop:
    """End it and start it no more."""


Event = Started | NotStarted | Died | Stop


@dataclass(frozen=True, slots=True)
class Start:
    """Start the process at this time, monotonic seconds."""

    at_s: float


@dataclass(frozen=True, slots=True)
class Terminate:
    """Have the running process end."""


def step(service: Service, event: Event) -> Service:
    """The state after `event`. An event that its phase cannot meet is a bug of ours: an assertion."""
    match event:
        case Stop():
            ended = service.phase in (Phase.WAITING, Phase.ENDED)
            return replace(service, phase=Phase.ENDED if ended else Phase.STOPPING)
        case Started(at_s):
            assert service.phase is Phase.WAITING, f"started while {service.phase}"
            return replace(service, phase=Phase.RUNNING, at_s=at_s)
        case NotStarted(at_s):
            assert service.phase is Phase.WAITING, f"not started while {service.phase}"
            return replace(service, at_s=at_s + delay_s(service.deaths), deaths=service.deaths + 1)
        case Died(at_s, status):
            assert service.phase in (Phase.RUNNING, Phase.STOPPING), f"died while {service.phase}"
            if service.phase is Phase.STOPPING:
                return replace(service, phase=Phase.ENDED)
            if status == MISCONFIGURED and not service.restarts:
                return replace(service, phase=Phase.ENDED, unfit=True)
            deaths = 0 if at_s - service.at_s >= STEADY_S else service.deaths
            return Service(Phase.WAITING, at_s + delay_s(deaths), deaths + 1, service.restarts + 1)


def demand(service: Service) -> Start | Terminate | None:
    """What is to be done now."""
    if service.phase is Phase.WAITING:
        return Start(service.at_s)
    return Terminate() if service.phase is Phase.STOPPING else None


def delay_s(deaths: int) -> float:
    """Seconds before a start after `deaths` earlier ones in short order."""
    return min(LONGEST_S, FIRST_S * 2.0 ** min(deaths, 16))
