"""The hub's broker forgot ingest, and gateways are back before it: what they send is acknowledged as for nobody."""

import asyncio
import os
import signal
import time
from collections import defaultdict

import httpx
import pytest

from deploy.site.installation import installed
from shared.ids import new_device_id
from shared.topics import Kafka
from tests.stack.whole_site import records_of, say, silent, until

pytestmark = [pytest.mark.stack, pytest.mark.timeout(300)]

IN_VAIN = 3
"""So often the agent finds that nobody listens: within some four seconds, if nothing else goes wrong."""
BACK_S = 20.0
"""Within this all is in `normalized` once ingest runs again: the agent looks within seconds, not within a minute."""


async def in_vain(gateway):
    """Batches of this agent that the broker had nobody to give to."""
    async with httpx.AsyncClient() as client:
        answer = await client.get(f"http://127.0.0.1:{gateway.health_port}/metrics")
    lines = [line for line in answer.text.splitlines() if "refused" in line and '"0x10"' in line]
    return sum(float(line.rpartition(" ")[2]) for line in lines if "_created" not in line)


async def speak(gateway, device, silence):
    """A reading each 50 ms, numbered from 0, until `silence`; how many."""
    n = 0
    while not silence.is_set():
        await say(gateway, device, [n])
        n += 1
        await asyncio.sleep(0.05)
    return n


async def forget_ingest(site, ingest):
    """Stop it, kill the broker, take away what the broker had saved, and start the broker again."""
    os.kill(ingest, signal.SIGSTOP)
    await asyncio.to_thread(site.stack.mosquitto.kill)
    (site.stack.mosquitto.home / "mosquitto.db").unlink(missing_ok=True)
    await asyncio.to_thread(site.stack.mosquitto.start)


async def test_what_nobody_was_there_to_take_comes_soon_once_and_in_order():
    device, gateway_id = new_device_id(), new_device_id()
    async with installed({gateway_id: [device]}, [], "thermometer", silent) as site:
        gateway = site.gateways[gateway_id]
        await asyncio.to_thread(gateway.start)
        silence = asyncio.Event()
        speaking = asyncio.create_task(speak(gateway, device, silence))

        async def seen():
            return await records_of(site, Kafka.NORMALIZED, device)

        await until(seen)
        ingest = int((await asyncio.to_thread(site.hub.services))["ingest"]["pid"])
        try:
            await forget_ingest(site, ingest)

            async def enough():
                return await in_vain(gateway) >= IN_VAIN

            await until(enough)
        finally:
            os.kill(ingest, signal.SIGCONT)
        back_s = time.monotonic()
        await asyncio.sleep(3.0)  # new readings meet those that wait
        silence.set()
        count = await speaking

        async def all_of_them():
            found = await seen()
            return found if len(found) >= count else None

        found = await until(all_of_them)
        took_s = time.monotonic() - back_s
        lanes = defaultdict(list)
        for record in found:
            lanes[record.json()["lane"]].append(record.json()["metrics"]["n"])
        assert sorted(n for numbers in lanes.values() for n in numbers) == list(range(count))
        for lane, numbers in lanes.items():
            assert numbers == sorted(numbers), lane
        assert took_s < BACK_S
        assert int((await asyncio.to_thread(site.hub.services))["ingest"]["pid"]) == ingest
