"""Who is in the demo, what they measure, and what goes wrong when. PURE: everything follows from seed and length."""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from edge_agent.sim.faults import Fault, schedule
from edge_agent.sim.plan import CsvSource, DevicePlan, EpisodePlan, Plan

GATEWAYS = 2
BEHIND_EACH = 8
DIRECT = 4
INTERVAL_S = 0.2
"""5 readings a second and device."""

WARM_READINGS = 2_000
"""Rows of the series before a device's first one that the detectors learn beforehand."""

FAULTS = (Fault.SPIKE, Fault.LEVEL_SHIFT, Fault.NOISE_BURST)
TWO_ROUNDS_S = 55.0
"""From this length on half of the devices ail twice; in a shorter run all of them ail once."""
METRIC = "temperature"
LINK_CUT_S = 10.0
SHORTEST_S = 30.0


@dataclass(frozen=True, slots=True)
class Cast:
    """The ids of a run, new for each."""

    gateways: tuple[str, ...]
    behind: dict[str, tuple[str, ...]]
    """Devices by gateway."""
    direct: tuple[str, ...]
    flooding: str
    """Attached to the hub itself, and none of the fleet: it floods."""

    @property
    def devices(self) -> tuple[str, ...]:
        """All that measure."""
        return tuple(name for names in self.behind.values() for name in names) + self.direct


@dataclass(frozen=True, slots=True)
class Moments:
    """Seconds from the fleet's start."""

    cut_s: float
    kill_s: float
    restore_s: float


def cast(seed: int) -> Cast:
    """Names that tell a reader of the topics who is who; the seed keeps two runs apart."""
    mark = f"{seed % 0x10000:04x}"
    gateways = tuple(f"gw-{mark}-{number}" for number in range(1, GATEWAYS + 1))
    behind = {
        gateway: tuple(f"dev-{mark}-{number}{letter}" for letter in "abcdefgh"[:BEHIND_EACH])
        for number, gateway in enumerate(gateways, 1)
    }
    direct = tuple(f"dev-{mark}-d{number}" for number in range(1, DIRECT + 1))
    return Cast(gateways, behind, direct, f"dev-{mark}-flood")


def moments(seconds: float) -> Moments:
    """The link is cut before the middle and comes back after it; ingest is killed between."""
    cut_s = seconds * 0.42
    return Moments(cut_s, cut_s + LINK_CUT_S / 2, cut_s + LINK_CUT_S)


def offsets(devices: Sequence[str], rows: int, seconds: float, seed: int) -> dict[str, int]:
    """Each device's first row: the demo's share of the series fits behind it, the warm-up's before it."""
    draw = random.Random(seed)
    last = rows - int(seconds / INTERVAL_S) - 1
    assert last > WARM_READINGS, "the series is too short for so long a run"
    return {device: draw.randint(WARM_READINGS, last) for device in devices}


def fleet(
    people: Cast,
    brokers: Mapping[str, str],
    keys: Mapping[str, str],
    series: CsvSource,
    rows: int,
    seconds: float,
    seed: int,
) -> Plan:
    """The simulator's plan. `brokers`: URL by gateway and, under `""`, the hub's; `keys`: by direct device."""
    first_row = offsets(people.devices, rows, seconds, seed)

    def plan(device: str, broker: str, key: str | None) -> DevicePlan:
        source = CsvSource(series.path, series.column, first_row[device], WARM_READINGS)
        return DevicePlan(device, broker, None if key is None else str(key), source)

    devices = [
        plan(device, brokers[gateway], None) for gateway in people.gateways for device in people.behind[gateway]
    ] + [plan(device, brokers[""], keys[device]) for device in people.direct]
    return Plan(tuple(devices), tuple(_episodes(people, seconds, seed)), INTERVAL_S, seed)


def _episodes(people: Cast, seconds: float, seed: int) -> list[EpisodePlan]:
    """Anomalies on devices behind gateways and on the direct ones; bad messages and repeats on half of the former."""
    rounds = 2 if seconds >= TWO_ROUNDS_S else 1
    ailing = [name for names in people.behind.values() for name in names[: BEHIND_EACH // rounds]] + list(
        people.direct
    )
    whole = [name for names in people.behind.values() for name in names[BEHIND_EACH // 2 :]]
    rest_s = 15.0  # the last alarm's grace, and some
    anomalies = schedule(
        ailing, FAULTS, METRIC, rounds * len(ailing),
        first_s=seconds * 0.25, last_s=seconds - rest_s, interval_s=INTERVAL_S, seed=seed,
    )  # fmt: skip
    bad = schedule(
        whole, (Fault.MALFORMED, Fault.DUPLICATES), METRIC, len(whole),
        first_s=2.0, last_s=seconds - rest_s, interval_s=INTERVAL_S, seed=seed + 1,
    )  # fmt: skip
    return [EpisodePlan(e.device, e.fault, e.start_s, e.end_s, e.size, e.metric) for e in (*anomalies, *bad)]
