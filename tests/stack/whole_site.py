"""What tests of a whole installation share: waiting, what a topic holds of a device, a device that speaks."""

import asyncio
import json
import time

from deploy.site.topics import read_all
from edge_agent.mqtt import Connection, Options
from shared.topics import Channel, build


def silent(_text):
    return


async def until(found, within_s=60.0):
    """Call `found` until it answers something true; its answer."""
    deadline = time.monotonic() + within_s
    while not (answer := await found()):
        assert time.monotonic() < deadline, f"{found} came to nothing within {within_s} s"
        await asyncio.sleep(0.2)
    return answer


async def records_of(site, topic, device):
    """The committed records of a topic with this key, in their order."""
    found = await read_all(site.stack.env()["HUB_KAFKA_BOOTSTRAP"], [topic])
    return [record for record in found if record.key == device]


def payload(n=0, **fields):
    return json.dumps({"ts": int(time.time() * 1000), "temperature": 20.0, "n": n} | fields).encode()


async def say(gateway, device, numbers):
    """Readings of these numbers, from a device at its gateway's broker, each acknowledged for somebody."""
    async with Connection(Options(gateway.broker.url, device)) as connection:
        for n in numbers:
            assert await connection.publish(build(Channel.TELEMETRY, device), payload(n)) == 0
