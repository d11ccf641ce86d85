import asyncio
from types import SimpleNamespace

from deploy.chaos import run as runs
from deploy.chaos.matrix import Kill, Victim
from deploy.demo.show import Progress
from deploy.demo.watch import Watch
from deploy.site.topics import Record
from shared.topics import Kafka


def record(topic):
    return Record(topic, 0, 0, "d", {"ce_id": "x"}, b"{}")


async def test_a_victim_is_back_when_readers_see_a_new_reading_and_not_before(monkeypatch):
    async def kill(site, kill):
        return None

    monkeypatch.setattr(runs, "_kill", kill)
    site = SimpleNamespace(hub=SimpleNamespace(wait_ready=lambda within_s: None))
    watch = Watch({"d"})
    watch.take(record(Kafka.NORMALIZED), 1_000)
    killing = asyncio.create_task(runs._kill_all(site, [Kill(Victim.NORMALIZER, 0.0, 0)], watch, Progress()))
    async with asyncio.timeout(5):
        while watch.progressed.is_set():
            await asyncio.sleep(0.01)
    watch.take(record(Kafka.RAW), 2_000)  # ingest goes on while the normaliser is away
    watch.changed.set()
    await asyncio.sleep(0.05)
    assert not killing.done()
    watch.take(record(Kafka.NORMALIZED), 8_500)
    assert await asyncio.wait_for(killing, 5) == {Victim.NORMALIZER: 7.5}
