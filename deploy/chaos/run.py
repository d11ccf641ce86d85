"""The kill matrix on real servers.

Two gateways with four devices each send all the while; whoever is killed comes back by its own supervisor, or, where
it is a server of the stack, is started again at once. Devices attached straight to the hub are not part of it: what
the hub's broker has acknowledged to them and not yet handed to ingest is a stated window.
"""

import asyncio
import time
from dataclasses import asdict, dataclass

import asyncpg

from deploy.chaos.matrix import Kill, Stored, Victim, disorder, matrix, stored
from deploy.demo.drain import drain
from deploy.demo.judge import Count, Place
from deploy.demo.show import Progress
from deploy.demo.watch import Watch, started_and_watched
from deploy.site.installation import Installation, installed
from deploy.site.simulator import simulate, stop_simulator
from edge_agent.sim.plan import DevicePlan, Plan

GATEWAYS = 2
DEVICES_EACH = 4
INTERVAL_S = 0.05
DRAIN_S = 180.0
CUT_S = 3.0
READY_S = 300.0  # patience: how long readers stood still is in the outcome
STORED_S = 60.0
MOST_S = 4 * 3_600.0


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a run of the matrix came to. `standstill_s`: the longest time without a new reading, by victim.

    All that these devices send is good, so a rejected reading is a broken promise here.
    """

    count: Count
    kills: int
    disorder: int
    stored: Stored
    standstill_s: dict[str, float]

    def failures(self) -> list[str]:
        """Broken promises, a sentence each."""
        found = [text for text in self.count.failures() if "anomalies" not in text and "alarms" not in text]
        if self.count.rejected:
            found.append(f"{self.count.rejected} accepted readings were rejected")
        if not self.stored.agrees:
            found.append(f"the table telemetry is not what normalized holds: {self.stored}")
        if self.disorder:
            found.append(f"{self.disorder} readings stand behind a later one of their device and lane")
        return found

    def summary(self) -> dict[str, object]:
        """For one line of JSON."""
        count = asdict(self.count)
        return {name: count[name] for name in ("accepted", "normalized", "rejected", "lost", "duplicates")} | {
            "kills": self.kills,
            "disorder": self.disorder,
            "stored": asdict(self.stored),
            "standstill_s": self.standstill_s,
        }


async def chaos(victims: list[Victim], times: int, seed: int, progress: Progress, pause_s: float = 6.0) -> Outcome:
    """Kill each victim `times` times under load, drain, count."""
    mark = f"{seed % 0x10000:04x}"
    behind = {
        f"gw-{mark}-{gateway}": [f"dev-{mark}-{gateway}-{device}" for device in range(DEVICES_EACH)]
        for gateway in range(GATEWAYS)
    }
    kills = matrix(victims, times, seed, least_s=pause_s / 3, most_s=pause_s)
    async with installed(behind, [], "thermometer", progress.say) as site:
        devices = [
            DevicePlan(device, site.gateways[gateway].broker.url)
            for gateway, names in behind.items()
            for device in names
        ]
        plan = Plan(tuple(devices), (), INTERVAL_S, seed)
        async with started_and_watched(site) as watch:
            simulator = asyncio.create_task(simulate(plan, site.root, MOST_S))
            try:
                standstill_s = await _kill_all(site, kills, watch, progress)
            finally:
                await stop_simulator(simulator)
            result, _ = await drain(site, watch, DRAIN_S, progress)
            table = await _table(site, watch)
            return Outcome(result, len(kills), disorder(watch.visible()), table, standstill_s)


async def _table(site: Installation, watch: Watch) -> Stored:
    """The table against the topic, when the sink has caught up or STORED_S have passed."""
    deadline = time.monotonic() + STORED_S
    connection = await asyncpg.connect(site.stack.env()["HUB_DATABASE_URL"])
    try:
        while True:
            found = stored(await _rows(connection, site.names), watch.visible())
            if found.agrees or time.monotonic() > deadline:
                return found
            await asyncio.sleep(0.5)  # the table tells nobody that it grew
    finally:
        await connection.close()


async def _rows(connection: asyncpg.Connection, devices: list[str]) -> dict[Place, int]:
    """How many rows each reading has."""
    rows = await connection.fetch(
        "SELECT device_id, (metrics->>'n')::bigint AS n, count(*) AS times FROM telemetry "
        "WHERE device_id = ANY($1) AND metrics ? 'n' GROUP BY 1, 2",
        devices,
    )
    return {(row["device_id"], row["n"]): row["times"] for row in rows}


async def _kill_all(site: Installation, kills: list[Kill], watch: Watch, progress: Progress) -> dict[str, float]:
    """Kill one after the other, each when the last one's victim is back; the worst standstill by victim, seconds."""
    worst: dict[str, float] = {}
    for number, kill in enumerate(kills, 1):
        await asyncio.sleep(kill.after_s)
        watch.longest_gap_ms = 0
        await _kill(site, kill)
        await asyncio.to_thread(site.hub.wait_ready, READY_S)
        watch.progressed.clear()  # by a reading that is new to readers: raw goes on while they stand still
        async with asyncio.timeout(READY_S):
            await watch.progressed.wait()
        standstill_s = watch.longest_gap_ms / 1_000
        worst[kill.victim] = max(worst.get(kill.victim, 0.0), standstill_s)
        progress.say(f"{number}/{len(kills)} killed {kill.victim}: readers stood still for {standstill_s:.1f} s")
    return worst


async def _kill(site: Installation, kill: Kill) -> None:
    """Kill the victim and, where nobody else does, start it again."""
    servers = {
        Victim.BROKER: site.stack.mosquitto,
        Victim.KAFKA: site.stack.kafka,
        Victim.POSTGRES: site.stack.postgres,
    }
    gateways = list(site.gateways.values())
    if kill.victim in servers:
        server = servers[kill.victim]
        await asyncio.to_thread(server.kill)
        await asyncio.to_thread(server.start)
    elif kill.victim is Victim.AGENT:
        gateway = gateways[kill.which % len(gateways)]
        await asyncio.to_thread(gateway.kill_agent)
        await asyncio.to_thread(gateway.start_agent)
    elif kill.victim is Victim.LINK:
        link = list(site.links.values())[kill.which % len(site.links)]
        link.cut()
        await asyncio.sleep(CUT_S)
        link.restore()
    else:
        await asyncio.to_thread(site.hub.kill, kill.victim.value)
