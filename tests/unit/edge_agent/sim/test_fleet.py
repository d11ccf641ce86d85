import asyncio
import json

import pytest

from edge_agent.sim import fleet as fleets
from edge_agent.sim.device import Device, Sensor
from edge_agent.sim.faults import Episode, Fault
from edge_agent.sim.fleet import INFLIGHT, Endpoint, Fleet
from edge_agent.sim.journal import Journal, read_faults, read_sent
from edge_agent.sim.series import Replay
from shared.errors import Permanent, Transient


class Broker:
    """Takes what devices publish and acknowledges it when told; counts by the reading's number."""

    def __init__(self):
        self.open, self.answering = asyncio.Event(), asyncio.Event()
        self.open.set()
        self.published, self.acknowledged = [], []
        self.refuses = None

    def connection(self, options):
        return FakeConnection(self)


class FakeConnection:
    def __init__(self, broker):
        self._broker = broker

    async def __aenter__(self):
        if self._broker.refuses is not None:
            raise self._broker.refuses
        await self._broker.open.wait()
        return self

    async def __aexit__(self, *error):
        return None

    def publish(self, topic, payload):
        n = json.loads(payload)["n"]
        self._broker.published.append(n)
        return asyncio.ensure_future(self._acknowledge(n))

    async def _acknowledge(self, n):
        await self._broker.answering.wait()
        self._broker.acknowledged.append(n)
        return 0


@pytest.fixture
async def broker(monkeypatch):
    broker = Broker()
    monkeypatch.setattr(fleets, "Connection", broker.connection)
    return broker


def device(*episodes):
    return Device("a", {"temperature": Sensor(Replay([20.0]))}, episodes, 0.005)


async def test_a_full_device_forgets_what_is_not_under_way_and_journals_each_under_its_own_number(
    broker, tmp_path, monkeypatch
):
    monkeypatch.setattr(fleets, "WAITING", 30)
    broker.open.clear()
    with Journal(tmp_path) as journal:
        fleet = Fleet([device()], {"a": Endpoint("mqtt://x:1")}, journal)
        run = asyncio.create_task(fleet.run(0.4, asyncio.Event()))
        async with asyncio.timeout(5):
            while fleet.totals.measured < INFLIGHT:
                await asyncio.sleep(0.005)
            broker.open.set()
            while fleet.totals.forgotten < 10:
                await asyncio.sleep(0.005)
        assert broker.published == list(range(INFLIGHT))
        broker.answering.set()
        await run
    lines = read_sent(tmp_path)
    assert [line.n for line in lines if line.code == 0] == broker.acknowledged
    forgotten = {line.n for line in lines if line.code is None}
    assert len(forgotten) == fleet.totals.forgotten >= 10
    assert forgotten.isdisjoint(broker.published)
    assert sorted(line.n for line in lines) == list(range(fleet.totals.measured))


async def test_faults_are_written_as_far_as_they_came(broker, tmp_path):
    broker.answering.set()
    stopping = asyncio.Event()
    episodes = [Episode("a", Fault.STUCK, "temperature", start, start + 50.0, 1.0) for start in (0.0, 100.0)]
    with Journal(tmp_path) as journal:
        fleet = Fleet([device(*episodes)], {"a": Endpoint("mqtt://x:1")}, journal)
        run = asyncio.create_task(fleet.run(600.0, stopping))
        async with asyncio.timeout(5):
            while fleet.totals.measured < 5:
                await asyncio.sleep(0.005)
        stopping.set()
        await run
    (fault,) = read_faults(tmp_path)
    assert fault.start_ms == fleet.started_ms
    assert fault.start_ms < fault.end_ms < fault.start_ms + 6_000


async def test_a_device_that_never_met_its_broker_is_a_stranger(broker, tmp_path):
    broker.refuses = Transient("nobody listens")
    with Journal(tmp_path) as journal:
        fleet = Fleet([device()], {"a": Endpoint("mqtt://x:1")}, journal)
        await fleet.run(0.05, asyncio.Event(), drain_s=0.05)
        assert fleet.strangers == 1
        broker.refuses = None
        broker.answering.set()
        fleet = Fleet([device()], {"a": Endpoint("mqtt://x:1")}, journal)
        await fleet.run(0.05, asyncio.Event())
        assert fleet.strangers == 0


async def test_a_refused_key_ends_the_run(broker, tmp_path):
    broker.refuses = Permanent("wrong key")
    with Journal(tmp_path) as journal:
        fleet = Fleet([device()], {"a": Endpoint("mqtt://x:1")}, journal)
        with pytest.raises(ExceptionGroup) as ended:
            await fleet.run(60.0, asyncio.Event())
    assert ended.value.subgroup(Permanent) is not None
