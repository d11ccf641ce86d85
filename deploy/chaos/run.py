"""The kill matrix on real servers, and the local broker's own window.

Two gateways with four devices each send all the while; whoever is killed comes back by its own supervisor, or, where
it is a server of the stack, is started again at once. Devices attached straight to the hub are not part of it: what
the hub's broker has acknowledged to them and not yet handed to ingest is a stated window.
"""

import asyncio
import time
from dataclasses import asdict, dataclass

from deploy.bench.agent import local_clients
from deploy.bench.mqtt_load import publish, single
from deploy.chaos.matrix import Kill, Victim, disorder, matrix
from deploy.demo.drain import drain
from deploy.demo.judge import Count
from deploy.demo.show import Progress
from deploy.demo.watch import Watch, watching
from deploy.site import Gateway
from deploy.site.installation import Installation, installed
from deploy.site.simulator import simulate, stop_simulator
from edge_agent.sim.plan import DevicePlan, Plan

GATEWAYS = 2
DEVICES_EACH = 4
INTERVAL_S = 0.05
DRAIN_S = 180.0
CUT_S = 3.0
READY_S = 120.0
MOST_S = 4 * 3_600.0


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a run of the matrix came to. `standstill_s`: the longest time without a new reading, by victim."""

    count: Count
    kills: int
    disorder: int
    standstill_s: dict[str, float]

    def failures(self) -> list[str]:
        """Broken promises, a sentence each."""
        found = [text for text in self.count.failures() if "anomalies" not in text and "alarms" not in text]
        if self.disorder:
            found.append(f"{self.disorder} readings stand behind a later one of their device and lane")
        return found

    def summary(self) -> dict[str, object]:
        """For one line of JSON."""
        count = asdict(self.count)
        return {name: count[name] for name in ("accepted", "normalized", "rejected", "lost", "duplicates")} | {
            "kills": self.kills,
            "disorder": self.disorder,
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
        for gateway in site.gateways.values():
            await asyncio.to_thread(gateway.start)
        devices = [
            DevicePlan(device, site.gateways[gateway].broker.url)
            for gateway, names in behind.items()
            for device in names
        ]
        plan = Plan(tuple(devices), (), INTERVAL_S, seed)
        async with watching(site.stack.env()["HUB_KAFKA_BOOTSTRAP"], site.names) as watch:
            simulator = asyncio.create_task(simulate(plan, site.root, MOST_S))
            try:
                standstill_s = await _kill_all(site, kills, watch, progress)
            finally:
                await stop_simulator(simulator)
            result, _ = await drain(site, watch, DRAIN_S, progress)
            return Outcome(result, len(kills), disorder(watch.visible()), standstill_s)


async def _kill_all(site: Installation, kills: list[Kill], watch: Watch, progress: Progress) -> dict[str, float]:
    """Kill one after the other, each when the last one's victim is back; the worst standstill by victim, seconds."""
    worst: dict[str, float] = {}
    for number, kill in enumerate(kills, 1):
        await asyncio.sleep(kill.after_s)
        watch.longest_gap_ms = 0
        await _kill(site, kill)
        await asyncio.to_thread(site.hub.wait_ready, READY_S)
        watch.changed.clear()
        async with asyncio.timeout(READY_S):
            await watch.changed.wait()
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


@dataclass(frozen=True, slots=True)
class Window:
    """What a local broker had acknowledged and lost when it was killed while the agent was away."""

    acknowledged: int
    lost: int


async def local_broker_window(gateway: Gateway, devices: list[str], messages: int, rate: float) -> Window:
    """Kill the local broker under `rate` messages/s while the agent is away; start both; compare.

    The gateway must be running, with nothing else publishing to it.
    """
    before = _accepted(gateway)
    await asyncio.to_thread(gateway.stop_agent)
    work = [(client, single(client.client_id, 120)) for client in local_clients(devices)]
    load = asyncio.create_task(
        publish("127.0.0.1", gateway.broker.port, work, seconds=messages / rate, rate=rate, patience_s=5.0)
    )
    await asyncio.sleep(messages / rate / 2)
    await asyncio.to_thread(gateway.broker.kill)
    await asyncio.to_thread(gateway.broker.start)
    taken = sum(outcome.taken for outcome in await load)
    await asyncio.to_thread(gateway.start_agent)
    deadline = time.monotonic() + 30
    arrived = 0
    while arrived < taken and time.monotonic() < deadline:
        await asyncio.sleep(0.2)
        arrived = _accepted(gateway) - before
    return Window(taken, max(0, taken - arrived))


def _accepted(gateway: Gateway) -> int:
    return sum(int(item["accepted"]) for item in gateway.ledger()["classes"].values())
