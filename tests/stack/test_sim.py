"""The simulator against a real local broker, which is killed on the way."""

import asyncio
import json
import sys

import pytest

from deploy.stack import LocalBroker, host
from edge_agent.mqtt import Connection, Options
from edge_agent.sim.device import Kind
from edge_agent.sim.journal import read_faults, read_sent


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


async def test_every_reading_is_acknowledged_and_written_down_though_the_broker_dies(broker, tmp_path):
    async with asyncio.TaskGroup() as group:
        run = group.create_task(run_sim(broker, tmp_path, "--devices", "3", "--rate", "20", "--duration", "4"))
        while not (tmp_path / "faults.jsonl").exists():
            await asyncio.sleep(0.02)  # another process writes it
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
    received = []
    async with Connection(Options(broker.url, client_id="listener")) as listener:
        await listener.subscribe("devices/+/telemetry")

        async def listen():
            while True:
                for message in await listener.receive():
                    received.append(message.payload)
                    listener.ack(message)

        listening = asyncio.create_task(listen())
        status, totals = await run_sim(broker, tmp_path, *words)
        async with asyncio.timeout(10):
            while len(received) < totals["acknowledged"]:
                await asyncio.sleep(0.02)
        listening.cancel()
    assert status == 0
    assert {fault.fault for fault in read_faults(tmp_path)} == {"malformed", "duplicates"}
    kinds = [line.kind for line in read_sent(tmp_path)]
    assert kinds.count(Kind.MALFORMED) == totals["malformed"] > 0
    assert len(received) - len(set(received)) == totals["repeats"] == kinds.count(Kind.REPEAT) > 0


async def test_a_broker_that_never_answers_leaves_a_status_and_a_list(tmp_path):
    server = LocalBroker(host.reachable_temp_dir("sim-"))
    status, totals = await run_sim(server, tmp_path, "--rate", "20", "--duration", "0.5", "--drain", "0.2")
    assert status == 1
    assert totals["unacknowledged"] == totals["measured"] > 0
    assert {line.code for line in read_sent(tmp_path)} == {None}
