"""Kafka away for a minute under load: nothing lost, memory bounded, back without anybody's help."""

import asyncio
import time

import psutil
import pytest

from deploy.chaos.matrix import disorder
from deploy.demo.drain import drain
from deploy.demo.show import Progress
from deploy.demo.watch import started_and_watched
from deploy.site.installation import installed
from deploy.site.simulator import simulate, stop_simulator
from edge_agent.sim.plan import DevicePlan, Plan
from shared.ids import new_device_id
from tests.stack.whole_site import silent

pytestmark = [pytest.mark.stack, pytest.mark.timeout(600)]

AWAY_S = 60.0
INTERVAL_S = 0.04  # 25 readings/s and device: three times Receive Maximum wait for ingest when Kafka is back
MIB = 1024 * 1024
INGEST_GROWTH = 48 * MIB
"""Ingest may hold Receive Maximum messages, no more, however long Kafka is away."""
AGENT_GROWTH = 24 * MIB
"""The agent may hold a window of batches; what waits beyond it is on disk."""
DRAIN_S = 180.0


class Memory:
    """A process's resident bytes before the outage, and the most that was seen since."""

    def __init__(self, pid):
        self.pid = pid
        self._process = psutil.Process(pid)
        self.before = self.most = self._process.memory_info().rss

    def sample(self):
        self.most = max(self.most, self._process.memory_info().rss)

    @property
    def growth(self):
        return self.most - self.before


async def outage(site, watched):
    """Kafka is killed, and started again AWAY_S later."""
    await asyncio.to_thread(site.stack.kafka.kill)
    until = time.monotonic() + AWAY_S
    while time.monotonic() < until:
        for memory in watched:
            memory.sample()
        await asyncio.sleep(0.5)
    await asyncio.to_thread(site.stack.kafka.start)


async def test_kafka_away_for_a_minute_loses_nothing_and_costs_no_memory():
    gateway_id = new_device_id()
    behind, direct = [new_device_id() for _ in range(4)], [new_device_id() for _ in range(4)]
    async with (
        installed({gateway_id: behind}, direct, "thermometer", silent) as site,
        started_and_watched(site) as watch,
    ):
        gateway = site.gateways[gateway_id]
        devices = [DevicePlan(name, gateway.broker.url) for name in behind] + [
            DevicePlan(name, site.stack.env()["HUB_MQTT_URL"], str(site.keys[name])) for name in direct
        ]
        load = asyncio.create_task(simulate(Plan(tuple(devices), (), INTERVAL_S, 1), site.root, 600.0))
        try:
            for _ in range(5):  # both processes at their pace
                watch.progressed.clear()
                await watch.progressed.wait()
                await asyncio.sleep(1.0)
            ingest = Memory(int(site.hub.services()["ingest"]["pid"]))
            agent = Memory(gateway.pid)
            await outage(site, [ingest, agent])
            await asyncio.to_thread(site.hub.wait_ready, 120.0)
            watch.progressed.clear()
            async with asyncio.timeout(60):
                await watch.progressed.wait()
        finally:
            await stop_simulator(load)
        assert int(site.hub.services()["ingest"]["pid"]) == ingest.pid, "ingest waits, it does not die"
        count, _ = await drain(site, watch, DRAIN_S, Progress())
        spent = f"ingest {ingest.growth / MIB:.1f} MiB, agent {agent.growth / MIB:.1f} MiB"
        assert (count.lost, count.duplicates, count.rejected, count.for_nobody) == (0, 0, 0, 0)
        assert count.accepted > AWAY_S / INTERVAL_S * len(devices) / 2
        assert disorder(watch.visible()) == 0
        assert ingest.growth < INGEST_GROWTH, spent
        assert agent.growth < AGENT_GROWTH, spent
