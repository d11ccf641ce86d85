"""The simulator against a real local broker, which is killed on the way."""

import asyncio
import json
import sys
import time
from contextlib import asynccontextmanager
from datetime import datetime
from itertools import pairwise

import msgspec
import pytest

from deploy.stack import LocalBroker, host
from edge_agent.mqtt import Connection, Options
from edge_agent.sim.device import Kind
from edge_agent.sim.faults import Fault
from edge_agent.sim.journal import read_faults, read_sent
from edge_agent.sim.plan import DevicePlan, EpisodePlan, Plan

pytestmark = [pytest.mark.stack, pytest.mark.timeout(120)]


@pytest.fixture
def broker():
    server = LocalBroker(host.reachable_temp_dir("sim-"))
    server.start()
    yield server
    server.stop()


async def run_sim(broker, out, *words):
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "edge_agent.sim", "--local", broker.url, "--out", str(out), "--json", *words,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    stdout, _ = await process.communicate()
    return process.returncode, json.loads(stdout)


@asynccontextmanager
async def listening(broker):
    """All that devices publish, as (device, payload, when it came, epoch seconds), in the order of its coming."""
    received = []
    async with Connection(Options(broker.url, client_id="listener")) as listener:
        await listener.subscribe("devices/+/telemetry")

        async def listen():
            while True:
                for message in await listener.receive():
                    received.append((message.topic.split("/")[1], message.payload, time.time()))
                    listener.ack(message)

        task = asyncio.create_task(listen())
        try:
            yield received
        finally:
            task.cancel()


async def until(condition):
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.02)  # another process brings it about


async def test_every_reading_is_acknowledged_and_written_down_though_the_broker_dies(broker, tmp_path):
    async with asyncio.TaskGroup() as group:
        run = group.create_task(run_sim(broker, tmp_path, "--devices", "3", "--rate", "20", "--duration", "4"))
        async with listening(broker) as received:
            await until(lambda: len({device for device, _, _ in received}) == 3)
        await asyncio.to_thread(broker.kill)
        await asyncio.to_thread(broker.start)
    status, totals = run.result()
    assert status == 0
    assert totals["unacknowledged"] == 0
    assert totals["connects"] >= 6
    sent = read_sent(tmp_path)
    assert len(sent) == totals["acknowledged"] == totals["measured"] >= 200
    for device in {line.device for line in sent}:
        assert [line.n for line in sent if line.device == device] == list(range(totals["measured"] // 3 + 5))[
            : sum(line.device == device for line in sent)
        ]


async def test_faults_reach_the_broker_as_they_are_written_down(broker, tmp_path):
    words = ["--devices", "2", "--rate", "20", "--duration", "4", "--faults", "malformed,duplicates", "--seed", "3"]
    async with listening(broker) as received:
        status, totals = await run_sim(broker, tmp_path, *words)
        await until(lambda: len(received) >= totals["acknowledged"])
    assert status == 0
    assert {fault.fault for fault in read_faults(tmp_path)} == {"malformed", "duplicates"}
    kinds = [line.kind for line in read_sent(tmp_path)]
    assert kinds.count(Kind.MALFORMED) == totals["malformed"] > 0
    payloads = [payload for _, payload, _ in received]
    assert len(payloads) - len(set(payloads)) == totals["repeats"] == kinds.count(Kind.REPEAT) > 0


async def run_plan(broker, folder, episodes, duration="4"):
    """A device for each episode; what came from each, the totals, and the epoch second of the start."""
    devices = tuple(DevicePlan(item.device, broker.url) for item in episodes)
    (folder / "plan.json").write_bytes(msgspec.json.encode(Plan(devices, tuple(episodes), 0.05)))
    async with listening(broker) as received:
        status, totals = await run_sim(broker, folder, "--plan", str(folder / "plan.json"), "--duration", duration)
        await until(lambda: len(received) >= totals["acknowledged"])
    assert status == 0
    came = {item.device: [] for item in episodes}
    for device, payload, at in received:
        came[device].append((json.loads(payload), at - totals["started_ms"] / 1_000))
    return came, totals


def off_by(reading, at, started_ms):
    """Seconds from a reading's arrival to what its device's clock said."""
    return datetime.fromisoformat(reading["ts"]).timestamp() - started_ms / 1_000 - at


async def test_clocks_floods_and_outages_come_over_the_wire_when_the_plan_says_so(broker, tmp_path):
    spans = {
        Fault.OFFLINE: (1.0, 2.5),
        Fault.FLOOD: (1.0, 2.0),
        Fault.CLOCK_SKEW: (1.0, 2.0),
        Fault.CLOCK_RESET: (1.0, 2.0),
    }
    sizes = {Fault.FLOOD: 10.0, Fault.CLOCK_SKEW: -120.0}
    episodes = [EpisodePlan(fault.value, fault, *span, sizes.get(fault, 0.0)) for fault, span in spans.items()]
    came, totals = await run_plan(broker, tmp_path, episodes)
    started_ms = totals["started_ms"]
    for readings in came.values():
        assert [reading["n"] for reading, _ in readings] == list(range(len(readings)))

    silence = max(later - earlier for (_, earlier), (_, later) in pairwise(came["offline"]))
    assert silence > 1.2
    assert totals["connects"] == len(episodes) + 1
    while_away = [reading for reading, at in came["offline"] if off_by(reading, at, started_ms) < -0.5]
    assert len(while_away) > 10, "what it measured while it was offline comes afterwards, as it was stamped"

    assert len(came["offline"]) == pytest.approx(80, abs=2)
    assert len(came["flood"]) == pytest.approx(60 + 20 * 10, abs=20)

    # A device that does not flood takes reading n within the n-th interval, whatever this machine is busy with.
    skewed = {reading["n"]: off_by(reading, at, started_ms) < -100 for reading, at in came["clock_skew"]}
    reset = {reading["n"]: reading["ts"].startswith("1970-01-01T00:00:0") for reading, _ in came["clock_reset"]}
    for off in (skewed, reset):
        wrong = {n for n, is_wrong in off.items() if is_wrong}
        assert set(range(21, 39)) <= wrong <= set(range(19, 41))
    assert {fault.fault for fault in read_faults(tmp_path)} == set(spans)


async def test_a_broker_that_is_away_leaves_a_status_and_a_list(tmp_path):
    server = LocalBroker(host.reachable_temp_dir("sim-"))
    status, totals = await run_sim(server, tmp_path, "--rate", "20", "--duration", "0.5", "--drain", "0.2")
    assert status == 4
    assert totals["unacknowledged"] == totals["measured"] > 0
    assert {line.code for line in read_sent(tmp_path)} == {None}
