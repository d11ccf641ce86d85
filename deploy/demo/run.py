"""The demo's shell: servers, hub, gateways, fleet; a link is cut and ingest killed; drain; count.

The gateways' detectors are warmed by the same command that a user has for it. The hub's detector has no such command:
it learns the direct devices from their first reading on (docs/adr/0091-the-demos-count.md).
"""

import asyncio
import csv
import os
import sys
import time
from collections.abc import Awaitable, Callable
from importlib import resources
from pathlib import Path

from deploy.demo import plan as plans
from deploy.demo.drain import drain
from deploy.demo.flood import flood
from deploy.demo.judge import Count, explain
from deploy.demo.rotation import rotate
from deploy.demo.show import Progress
from deploy.demo.watch import Watch, started_and_watched
from deploy.site.installation import Installation, installed
from deploy.site.simulator import simulate
from edge_agent.sim.plan import CsvSource, Plan
from shared.errors import HubError, Permanent

DRAIN_S = 90.0
MOST_LINES = 30  # of what is behind a bad count
_TICK_S = 1.0
SERIES = "San Francisco hourly temperatures of 2010 (vega_datasets sf-temps: NOAA, public domain; package MIT)"


async def demo(
    seconds: float, seed: int, progress: Progress, when_done: Callable[[Installation], Awaitable[None]]
) -> tuple[Count, dict[str, int]]:
    """One run: its count, and what came of who misbehaved. `when_done` is awaited after the drain, while all still
    runs.
    """
    people = plans.cast(seed)
    async with installed(people.behind, people.direct, "thermometer", progress.say) as site:
        values = _series(site.root / "series.csv")
        await asyncio.to_thread(_warm, site, people, values, seconds, seed, progress)
        plan = _plan(site, people, len(values), seconds, seed)
        async with started_and_watched(site) as watch:
            progress.say(f"{seconds:.0f} s of {SERIES}, stamped now; seed {seed}")
            found = await _run_fleet(site, plan, seconds, watch, progress, people.flooding)
            result, evidence = await drain(site, watch, DRAIN_S, progress)
            for line in explain(*evidence)[:MOST_LINES]:
                progress.say(line)
            await when_done(site)
            return result, found


def _series(target: Path) -> list[float]:
    """The measured temperatures in degrees Celsius, written as the CSV that simulator and warm-up read."""
    source = resources.files("vega_datasets") / "_data" / "sf-temps.csv"
    with source.open(encoding="utf-8") as file:
        values = [round((float(row["temp"]) - 32) / 1.8, 3) for row in csv.DictReader(file)]
    target.write_text(f"{plans.METRIC}\n" + "\n".join(map(str, values)) + "\n", encoding="utf-8")
    return values


def _warm(
    site: Installation, people: plans.Cast, values: list[float], seconds: float, seed: int, progress: Progress
) -> None:
    """Each gateway's detectors learn the rows before their device's first one, at the demo's interval."""
    first_row = plans.offsets(people.devices, len(values), seconds, seed)
    progress.say(
        f"warming {plans.GATEWAYS * plans.BEHIND_EACH} edge detectors from the series' earlier part; "
        f"the hub's detector meets the {plans.DIRECT} direct devices cold, and their anomalies count all the same"
    )
    for name, gateway in site.gateways.items():
        for device in people.behind[name]:
            rows = values[first_row[device] - plans.WARM_READINGS : first_row[device]]
            history = site.root / "history.csv"
            history.write_text(f"{plans.METRIC}\n" + "\n".join(map(str, rows)) + "\n", encoding="utf-8")
            gateway.command(
                "warm", "--csv", str(history), "--device", device, "--metric", plans.METRIC,
                "--column", plans.METRIC, "--interval", str(plans.INTERVAL_S),
            )  # fmt: skip


def _plan(site: Installation, people: plans.Cast, rows: int, seconds: float, seed: int) -> Plan:
    brokers = {name: gateway.broker.url for name, gateway in site.gateways.items()}
    brokers[""] = site.stack.env()["HUB_MQTT_URL"]
    source = CsvSource(str(site.root / "series.csv"), plans.METRIC)
    return plans.fleet(people, brokers, site.keys, source, rows, seconds, seed)


async def _run_fleet(
    site: Installation, plan: Plan, seconds: float, watch: Watch, progress: Progress, flooding: str
) -> dict[str, int]:
    ticking = asyncio.create_task(_tick(watch, seconds, progress))
    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(simulate(plan, site.root, seconds))
            group.create_task(_mischief(site, plans.moments(seconds), progress))
            flooded = group.create_task(flood(site, flooding, progress))
            rotated = group.create_task(rotate(site, progress))
    except* HubError as errors:
        raise errors.exceptions[0] from errors
    finally:
        ticking.cancel()
    return flooded.result() | rotated.result()


async def _mischief(site: Installation, moments: plans.Moments, progress: Progress) -> None:
    started = asyncio.get_running_loop().time()

    async def at(moment_s: float) -> None:
        await asyncio.sleep(max(0.0, started + moment_s - asyncio.get_running_loop().time()))

    name, link = next(iter(site.links.items()))
    await at(moments.cut_s)
    link.cut()
    progress.say(f"cut the uplink of {name} for {plans.LINK_CUT_S:.0f} s")
    await at(moments.kill_s)
    pid = await asyncio.to_thread(site.hub.kill, "ingest")
    progress.say(f"killed ingest (pid {pid}) with SIGKILL")
    await at(moments.restore_s)
    link.restore()
    progress.say(f"the uplink of {name} is back")


async def _tick(watch: Watch, seconds: float, progress: Progress) -> None:
    started = time.monotonic()
    step = 1 if sys.stderr.isatty() else 10
    ticks = 0
    while True:
        if ticks % step == 0:
            seen = "  ".join(f"{topic.split('.')[2]} {number}" for topic, number in watch.counts.items())
            progress.tick(f"{time.monotonic() - started:3.0f}/{seconds:.0f} s  {seen}")
        ticks += 1
        await asyncio.sleep(_TICK_S)


def settings(environ: dict[str, str] | None = None) -> tuple[float, int]:
    """DEMO_SECONDS and DEMO_SEED. Raises Permanent where they are no fit numbers."""
    env = os.environ if environ is None else environ
    try:
        seconds = float(env.get("DEMO_SECONDS") or 60)
        seed = int(env.get("DEMO_SEED") or time.time_ns() // 1_000_000_000 % 1_000_000)
    except ValueError as error:
        raise Permanent(f"DEMO_SECONDS and DEMO_SEED are numbers: {error}") from error
    if not plans.SHORTEST_S <= seconds <= 1_200:
        raise Permanent(f"DEMO_SECONDS is {seconds:g}", hint=f"from {plans.SHORTEST_S:g} to 1200")
    return seconds, seed
