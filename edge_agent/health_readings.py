"""The gateway's own health as its own telemetry: a reading of the machine every few seconds.

Promises: only what the machine really has is sent (a machine without a thermal sensor sends no temperature); a file
that cannot be read leaves its metric out of that reading. Units are in the names.
"""

import asyncio
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import msgspec

from shared.clock import Clock
from shared.envelope import rfc3339

Offer = Callable[[str, bytes], None]
"""Takes a device id and a payload as intake does (edge_agent.intake.Intake.offer)."""

_PREFERRED = ("cpu", "soc", "x86_pkg")
"""Thermal zones whose type begins so are the processor's."""


def measure(root: Path, data_dir: Path) -> dict[str, float]:
    """Temperature and load of the processor, free memory and disk; `root` is / but in tests."""
    found: dict[str, float] = {}
    with suppress(OSError, ValueError):
        temperature = _cpu_temperature_c(root / "sys/class/thermal")
        if temperature is not None:
            found["cpu_temperature_c"] = temperature
    with suppress(OSError, ValueError, LookupError):
        found["load_1m"] = float((root / "proc/loadavg").read_text(encoding="ascii").split()[0])
    with suppress(OSError, ValueError, LookupError):
        memory = _meminfo_kib(root / "proc/meminfo")
        found["memory_available_mib"] = round(memory["MemAvailable"] / 1_024, 1)
    with suppress(OSError):
        disk = os.statvfs(data_dir)
        found["disk_free_mib"] = round(disk.f_bavail * disk.f_frsize / 1_048_576, 1)
    return found


async def serve(
    stopping: asyncio.Event, *, gateway: str, offer: Offer, clock: Clock, data_dir: Path, every_s: float
) -> None:
    """Offer a reading now and every `every_s` seconds until `stopping`. `seq` rises over restarts, too."""
    seq = clock.wall_ms()
    while not stopping.is_set():
        fields: dict[str, float | int | str] = {"ts": rfc3339(clock.wall_ms()), "seq": seq}
        fields |= measure(Path("/"), data_dir)
        offer(gateway, msgspec.json.encode(fields))
        seq += 1
        with suppress(TimeoutError):
            async with asyncio.timeout(every_s):
                await stopping.wait()


def _cpu_temperature_c(thermal: Path) -> float | None:
    """The processor's zone if one says that it is, else the first; None without a plausible one."""
    zones = []
    for zone in sorted(thermal.glob("thermal_zone*")):
        with suppress(OSError, ValueError):
            kind = (zone / "type").read_text(encoding="ascii").strip().lower()
            celsius = int((zone / "temp").read_text(encoding="ascii")) / 1_000  # sysfs gives millidegrees
            if -40.0 < celsius < 150.0:
                zones.append((not kind.startswith(_PREFERRED), celsius))
    return round(min(zones, key=lambda zone: zone[0])[1], 1) if zones else None


def _meminfo_kib(path: Path) -> dict[str, int]:
    lines = path.read_text(encoding="ascii").splitlines()
    return {name: int(rest.split()[0]) for name, _, rest in (line.partition(":") for line in lines)}
