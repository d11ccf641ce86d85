"""The local broker's own window: what it has acknowledged and loses when it is killed before its agent took it."""

import asyncio
import time
from dataclasses import dataclass

from deploy.bench.agent import accepted, local_clients
from deploy.bench.mqtt_load import publish, single
from deploy.demo.show import Progress
from deploy.site import Gateway
from deploy.site.installation import installed

MESSAGES = 500
RATE = 100.0
ARRIVE_S = 30.0


@dataclass(frozen=True, slots=True)
class Window:
    """What a local broker had acknowledged and lost when it was killed while the agent was away."""

    acknowledged: int
    lost: int


async def windows(seed: int, progress: Progress) -> dict[str, Window]:
    """The window of the shipped setting (`each_change`) and of the faster one (`each_second`)."""
    names = {setting: f"gw-{seed % 0x10000:04x}-{setting[5]}" for setting in ("each_change", "each_second")}
    behind = {name: [f"{name}-{device}" for device in (1, 2)] for name in names.values()}
    # Without health readings: the window is counted by what the agent accepts, and they are accepted too.
    settings = {"AGENT_HEALTH_READINGS_S": "0"}
    found = {}
    async with installed(behind, [], "thermometer", progress.say, settings, unsaved=[names["each_second"]]) as site:
        for setting, name in names.items():
            gateway = site.gateways[name]
            await asyncio.to_thread(gateway.start)
            progress.say(f"killing a local broker that saves {setting.replace('_', ' ')} while its agent is away")
            found[setting] = await local_broker_window(gateway, behind[name], MESSAGES, RATE)
    return found


async def local_broker_window(gateway: Gateway, devices: list[str], messages: int, rate: float) -> Window:
    """Kill the local broker under `rate` messages/s while the agent is away; start both; compare.

    The gateway must be running, with nothing else to accept: no other publisher and no health readings.
    """
    before = await asyncio.to_thread(accepted, gateway)
    await asyncio.to_thread(gateway.stop_agent)
    work = [(client, single(client.client_id, 120)) for client in local_clients(devices)]
    load = asyncio.create_task(
        publish("127.0.0.1", gateway.broker.port, work, seconds=messages / rate, rate=rate, patience_s=5.0)
    )
    await asyncio.sleep(messages / rate / 2)
    await asyncio.to_thread(gateway.broker.kill)
    await asyncio.to_thread(gateway.broker.start)
    taken = sum(outcome.taken - outcome.nobody for outcome in await load)
    await asyncio.to_thread(gateway.start_agent)
    deadline = time.monotonic() + ARRIVE_S
    arrived = 0
    while arrived < taken and time.monotonic() < deadline:
        await asyncio.sleep(0.2)
        arrived = await asyncio.to_thread(accepted, gateway) - before
    return Window(taken, max(0, taken - arrived))
