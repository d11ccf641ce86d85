"""The edge agent alone: intake, drain over a slow link, memory, wear and bytes on the wire."""

import asyncio
import time
from collections.abc import Callable, Sequence

import psutil

from deploy.bench.conditions import per_reading
from deploy.bench.mqtt_load import Client, publish, single
from deploy.bench.pace import LOOK_S, followed
from deploy.bench.rig import Rig
from deploy.site import Gateway
from deploy.stack.link import Link
from shared.errors import Transient
from shared.ids import DeviceId
from shared.topics import Channel, build

CHANNELS = 20
INTAKE_S = 15.0
INTAKE_BACKLOG = 5_000
"""Messages between the load and the outbox: the broker drops what it cannot hold."""
STEADY_S = 30.0
STEADY_RATE = 100.0  # messages/s: 20 devices at 5 readings/s
BACKLOG = 200_000
ONE_WAY_S = 0.05  # 100 ms round trip
_WAIT_S = 180.0
_NOWHERE = "mqtt://127.0.0.1:9"  # the discard port: nobody listens


def intake(runs: int) -> dict[str, list[float]]:
    """Messages/s from the local broker into the outbox, committed, scoring on, no uplink.

    The broker does not save each change here: with the shipped setting it is the broker that is measured.
    """
    with Rig() as rig:
        people = rig.register(0, 1, CHANNELS)
        gateway = rig.gateway(people.gateways[0], _NOWHERE, save_on_change=False)
        gateway.start()
        clients = local_clients(people.behind[gateway.id])
        rates = [asyncio.run(_intake(gateway, clients)) for _ in range(runs)]
    return {"agent_intake_msgs_per_s": rates}


async def _intake(gateway: Gateway, clients: Sequence[Client]) -> float:
    async def look() -> int:
        return await asyncio.to_thread(accepted, gateway)

    async with followed(look) as committed:
        started = time.monotonic()
        taken = await _publish(gateway, clients, seconds=INTAKE_S, most=lambda: committed.count + INTAKE_BACKLOG)
        deadline = started + _WAIT_S
        while committed.count < taken:
            if time.monotonic() > deadline:
                raise Transient(f"{committed.count} of {taken} messages committed after {_WAIT_S:.0f} s")
            await asyncio.sleep(LOOK_S)
        return taken / (time.monotonic() - started)


def drain(runs: int) -> dict[str, list[float]]:
    """Records/s of a backlog over a link of 100 ms round trip, into Kafka and acknowledged; ingest at the far end.

    Scoring is off: it is spent when the backlog is taken in, not when it leaves.
    """
    rates = []
    with Rig() as rig, asyncio.Runner() as runner:
        people = rig.register(0, 1, CHANNELS)
        with rig.service("ingest"):
            link = Link("127.0.0.1", rig.stack.mosquitto.port, delay_s=ONE_WAY_S)
            runner.run(link.start())
            runner.run(_cut(link))
            url = f"mqtt://127.0.0.1:{link.port}"
            gateway = rig.gateway(people.gateways[0], url, {"AGENT_SCORING": "off"}, save_on_change=False)
            gateway.start()
            clients = local_clients(people.behind[gateway.id])
            for _ in range(runs):
                runner.run(_publish(gateway, clients, count=BACKLOG // len(clients)))
                _until(lambda: waiting(gateway) >= BACKLOG, "the backlog to be committed")
                rates.append(runner.run(_drained(gateway, link)))
                runner.run(_cut(link))
            runner.run(link.stop())
    return {"agent_drain_records_per_s_at_100ms": rates}


async def _cut(link: Link) -> None:
    link.cut()


async def _drained(gateway: Gateway, link: Link) -> float:
    """Records/s from the first to the last tenth of the backlog: connecting is not what is measured."""
    link.restore()
    backlog = await asyncio.to_thread(waiting, gateway)
    marks: dict[str, tuple[float, int]] = {}
    deadline = time.monotonic() + _WAIT_S
    while True:
        left = await asyncio.to_thread(waiting, gateway)
        now = time.monotonic()
        if left < backlog and "first" not in marks:
            marks["first"] = (now, left)
        if left <= backlog // 20:
            started, first = marks["first"]
            return (first - left) / (now - started)
        if now > deadline:
            raise Transient(f"{left} of {backlog} records still wait after {_WAIT_S:.0f} s")
        await asyncio.sleep(0.02)


def steady(runs: int) -> dict[str, list[float]]:
    """Memory, disk and wire at 20 channels with 5 readings/s each, connected to a whole ingest."""
    found: dict[str, list[float]] = {
        "agent_rss_mb_plain": [], "agent_rss_mb_scoring": [],
        "bytes_written_per_reading": [], "wire_bytes_per_reading": [],
    }  # fmt: skip
    with Rig() as rig, asyncio.Runner() as runner:
        people = rig.register(0, 2 * runs, CHANNELS)
        with rig.service("ingest"):
            for number, identity in enumerate(people.gateways):
                scoring = number % 2 == 1
                link = Link("127.0.0.1", rig.stack.mosquitto.port)
                runner.run(link.start())
                url = f"mqtt://127.0.0.1:{link.port}"
                gateway = rig.gateway(identity, url, {"AGENT_SCORING": "on" if scoring else "off"})
                gateway.start()
                process = psutil.Process(gateway.pid)
                taken = runner.run(
                    _publish(gateway, local_clients(people.behind[identity.id]), seconds=STEADY_S, rate=STEADY_RATE)
                )
                rss_mb = process.memory_info().rss / 1024 / 1024
                found["agent_rss_mb_scoring" if scoring else "agent_rss_mb_plain"].append(rss_mb)
                if not scoring:
                    # A reading's cost is paid when the hub has it and its row is freed.
                    runner.run(_acknowledged(gateway))
                    written = process.io_counters().write_bytes
                    found["bytes_written_per_reading"].append(per_reading(written, taken, "written"))
                    found["wire_bytes_per_reading"].append(per_reading(link.bytes_up, taken, "sent"))
                gateway.stop()
                runner.run(link.stop())
    return found


async def _acknowledged(gateway: Gateway) -> None:
    """Wait, with the link running, until the hub has all that was accepted."""
    deadline = time.monotonic() + _WAIT_S
    while left := await asyncio.to_thread(waiting, gateway):
        if time.monotonic() > deadline:
            raise Transient(f"{left} records still wait after {_WAIT_S:.0f} s")
        await asyncio.sleep(0.1)


def local_clients(devices: Sequence[str]) -> list[Client]:
    """Devices as clients of a local broker, which asks for no password."""
    return [Client(device, "", "", build(Channel.TELEMETRY, DeviceId(device))) for device in devices]


def accepted(gateway: Gateway) -> int:
    """Readings that the agent has committed so far; what it tells of itself is of class `event`."""
    classes = gateway.live_ledger()["classes"]
    return sum(int(item["accepted"]) for name, item in classes.items() if name != "event")


def waiting(gateway: Gateway) -> int:
    """Records that the hub has not acknowledged yet."""
    return sum(int(item["waiting"]) for item in gateway.live_ledger()["classes"].values())


async def _publish(
    gateway: Gateway,
    clients: Sequence[Client],
    *,
    count: int | None = None,
    seconds: float | None = None,
    rate: float | None = None,
    most: Callable[[], int] | None = None,
) -> int:
    work = [(client, single(client.client_id, 120)) for client in clients]
    outcomes = await publish(
        "127.0.0.1", gateway.broker.port, work, count=count, seconds=seconds, rate=rate, most=most
    )
    return sum(outcome.taken for outcome in outcomes)


def _until(done: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + _WAIT_S
    while not done():
        if time.monotonic() > deadline:
            raise Transient(f"waited {_WAIT_S:.0f} s for {what}")
        time.sleep(0.05)
