"""A run of the simulator as a value: which devices, where they connect, what they measure, what goes wrong. PURE.

A plan is read from JSON (`decode`) or made from the command line's few numbers; both end here, and everything that
can be wrong with it is said at once.
"""

from collections.abc import Mapping, Sequence

import msgspec

from edge_agent.sim.device import Device, Sensor
from edge_agent.sim.faults import Distortion, Episode, Fault
from edge_agent.sim.series import Battery, Replay, Series, Temperature, robust_sigma
from shared.errors import Permanent
from shared.ids import is_device_id

DEFAULT_MAX_DEVICES = 1_000
WARM_READINGS = 500
"""Readings before a device's first whose spread is its sigma, where the plan does not say."""

VOLTAGE_SIGMA = 0.02
"""Volts: about the scatter of a battery's readings, for faults of that metric."""


class CsvSource(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A column of measured values; reading 0 is row `offset`. `warm_readings` rows before it give the sigma."""

    path: str
    column: str
    offset: int = 0
    warm_readings: int = WARM_READINGS


class DevicePlan(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One device. `broker`: mqtt://host:port; `key` (`<key id>.<secret>`) where that broker asks for one."""

    id: str
    broker: str
    key: str | None = None
    csv: CsvSource | None = None

    def __repr__(self) -> str:
        return f"DevicePlan(broker={self.broker!r})"


class EpisodePlan(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One fault, seconds from the start; `size` as in `faults.Episode`."""

    device: str
    fault: Fault
    start_s: float
    end_s: float
    size: float = 0.0
    metric: str = "temperature"


class Plan(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A whole run."""

    devices: tuple[DevicePlan, ...]
    episodes: tuple[EpisodePlan, ...] = ()
    interval_s: float = 1.0
    seed: int = 1

    def problems(self, max_devices: int) -> list[str]:
        """Everything that is wrong with it, a sentence each."""
        found = []
        if not self.devices:
            found.append("no devices")
        if len(self.devices) > max_devices:
            found.append(too_many(len(self.devices), max_devices))
        if not self.interval_s > 0:
            found.append("interval_s is not above 0")
        ids = [device.id for device in self.devices]
        found += [f"{name!r} is no device id" for name in ids if not is_device_id(name)]
        found += [f"device {name} is listed twice" for name in sorted({name for name in ids if ids.count(name) > 1})]
        known = set(ids)
        for item in self.episodes:
            if item.device not in known:
                found.append(f"an episode names {item.device}, which is no device")
            if item.end_s <= item.start_s:
                found.append(f"an episode of {item.device} ends before it starts")
        return found


def too_many(devices: int, max_devices: int) -> str:
    """The refusal of a fleet that is larger than it may be."""
    return (
        f"{devices} devices are more than SIM_MAX_DEVICES allows ({max_devices}); "
        "set it higher if this machine and these brokers can carry them"
    )


def decode(data: bytes) -> Plan:
    """The plan. Raises Permanent with what is wrong where it is none."""
    try:
        return msgspec.json.decode(data, type=Plan)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise Permanent(f"the plan is none: {error}", hint="see docs/sim.md") from error


def device(plan: DevicePlan, run: Plan, columns: Mapping[CsvSource, Sequence[float]]) -> Device:
    """The device that a plan describes; `columns` holds the values of each CSV source that is used."""
    seed = device_seed(run.seed, plan.id)
    episodes = [
        Episode(item.device, item.fault, item.metric, item.start_s, item.end_s, item.size)
        for item in run.episodes
        if item.device == plan.id
    ]
    temperature: Series = Temperature(seed)
    sigma = robust_sigma(_rehearsed(seed, run.interval_s))
    if plan.csv is not None:
        values = columns[plan.csv]
        temperature = Replay(values, plan.csv.offset)
        warm = values[max(0, plan.csv.offset - plan.csv.warm_readings) : plan.csv.offset]
        sigma = robust_sigma(warm or values)
    sensors = {
        "temperature": Sensor(temperature, _distortion(episodes, "temperature", sigma, seed)),
        "voltage": Sensor(Battery(seed), _distortion(episodes, "voltage", VOLTAGE_SIGMA, seed)),
    }
    return Device(plan.id, sensors, episodes, run.interval_s)


def device_seed(seed: int, name: str) -> int:
    """A seed of its own for each device, the same in every process."""
    return seed * 1_000_003 + int.from_bytes(name.encode(), "big")


def _distortion(episodes: Sequence[Episode], metric: str, sigma: float, seed: int) -> Distortion | None:
    mine = [episode for episode in episodes if episode.metric == metric]
    return Distortion(mine, sigma, seed) if mine else None


def _rehearsed(seed: int, interval_s: float) -> list[float]:
    model = Temperature(seed)
    return [model.value(n, n * interval_s) for n in range(WARM_READINGS)]
