"""The edge agent as a process, between a real local broker and a hub's broker: what it accepts is there exactly once.

What it accepted is read from its outbox file, record by record, as the hub would get it.
"""

import asyncio
import json
import os
import random
import signal
import sqlite3
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from deploy.site import Gateway
from deploy.stack import LocalBroker
from edge_agent.skew import SkewBook
from shared.batch import BytesRecord, ReadingRecord
from shared.errors import Permanent
from tests.stack.gateway_kit import (
    IDENTITY,
    NOWHERE,
    device,
    gateway_status,
    hub,
    numbers,
    reading,
    records,
    until,
)

pytestmark = pytest.mark.stack


@pytest.fixture
def gateway(server_dir: Path) -> Iterator[Gateway]:
    """A gateway whose hub is away."""
    made = Gateway(server_dir / "gw", IDENTITY, NOWHERE, {"AGENT_HEALTH_READINGS_S": "0"})
    made.start()
    yield made
    made.stop()


async def test_what_devices_send_is_accepted_once_and_in_order(gateway: Gateway) -> None:
    async with device(gateway, "d1") as one, device(gateway, "d2") as two:
        for n in range(200):
            first, second = one(reading(n)), two(reading(n))
            if n % 10 == 0:
                one(first_payload := reading(1_000 + n))
                one(first_payload)  # a repeat
        assert await first == 0
        assert await second == 0
    await until(lambda: sum(map(len, numbers(gateway).values())) >= 420)
    found = numbers(gateway)
    assert found["d2"] == list(range(200))
    assert [n for n in found["d1"] if n < 1_000] == list(range(200))
    assert Counter(found["d1"]).most_common(1)[0][1] == 1
    ledger = gateway.ledger()
    assert ledger["live"]
    assert ledger["classes"]["telemetry"]["accepted"] == 420


async def test_killed_again_and_again_it_loses_and_doubles_nothing(
    gateway: Gateway, record_property: Callable[[str, object], None]
) -> None:
    """SIGKILL at random moments under load: all that the local broker took is in the outbox exactly once."""
    seed = random.randrange(1_000_000)
    record_property("seed", seed)
    chance = random.Random(seed)
    sending = True
    sent = 0

    async def publish() -> None:
        nonlocal sent
        async with device(gateway, "d1") as send:
            while sending:
                await asyncio.gather(*(send(reading(sent + k)) for k in range(20)))
                sent += 20

    async with asyncio.TaskGroup() as group:
        group.create_task(publish())
        for _ in range(4):
            await asyncio.sleep(chance.uniform(0.05, 0.6))  # the moment is the experiment, not a wait
            await asyncio.to_thread(gateway.kill_agent)
            await asyncio.to_thread(gateway.start_agent)
        sending = False
    await until(lambda: len(numbers(gateway).get("d1", [])) >= sent)
    assert numbers(gateway)["d1"] == list(range(sent))


async def test_the_local_broker_may_go_and_come_back(gateway: Gateway) -> None:
    async with device(gateway, "d1") as send:
        await send(reading(0))
        await until(lambda: numbers(gateway) == {"d1": [0]})
    await asyncio.to_thread(gateway.broker.kill)
    await until(lambda: not gateway.is_ready())
    assert "local broker" in gateway_status(gateway)["missing"][0]
    await asyncio.to_thread(gateway.broker.start)
    await until(gateway.is_ready)
    async with device(gateway, "d1") as send:
        await send(reading(1))
    await until(lambda: numbers(gateway) == {"d1": [0, 1]})


async def test_bad_input_is_kept_as_bytes_and_the_flow_goes_on(gateway: Gateway) -> None:
    bodies = [
        b"\xff\xfenot json", b"", b'{"temperature": 1}', b'{"ts": "yesterday"}', b'{"ts": 1, "t": NaN}',
        b'{"ts": 1790000000000, "pad": 1' + b" " * 1_000_000 + b"}",
    ]  # fmt: skip
    async with device(gateway, "d1") as send:
        for body in bodies:
            assert await send(body) == 0
        assert await send(json.dumps([json.loads(reading(1)), {"n": 5}, json.loads(reading(2))]).encode()) == 0
    await until(lambda: len(records(gateway)) == len(bodies) + 3)
    found = records(gateway)
    kept = [record for record in found if isinstance(record, BytesRecord)]
    assert [record.length for record in kept] == [len(body) for body in bodies] + [8]
    assert [record.payload for record in kept[:5]] == bodies[:5]
    assert len(kept[5].payload) == 65_536
    assert numbers(gateway) == {"d1": [1, 2]}


async def test_clocks_of_devices_are_estimated_and_never_restamped(gateway: Gateway) -> None:
    """However slow the machine: each estimate is what its own stamps make of it, and no stamp is made up."""
    began_ms = time.time_ns() // 1_000_000
    sent: list[int] = []
    async with device(gateway, "d1") as send:
        for n in range(5):
            now = time.time_ns() // 1_000_000
            sent.append(max(now - 60_000, sent[-1] + 1 if sent else 0))  # of one millisecond only the first counts
            assert await send(reading(n, ts=sent[-1])) == 0
        assert await send(reading(5, ts="1970-01-01T00:00:05Z")) == 0
        assert await send(reading(6, ts="2099-01-01T00:00:00Z")) == 0
    await until(lambda: len(numbers(gateway).get("d1", [])) == 7)
    found = [record for record in records(gateway) if isinstance(record, ReadingRecord)]
    assert [record.ts_ms for record in found[:5]] == sent
    assert all(began_ms <= record.at_ms <= time.time_ns() // 1_000_000 for record in found)
    book = SkewBook()
    assert [record.skew_ms for record in found] == [
        book.observe("d1", record.ts_ms, record.at_ms) for record in found
    ]
    assert found[2].skew_ms is not None
    assert found[2].skew_ms <= -60_000 + len(sent)
    assert [(record.ts_raw, record.skew_ms) for record in found[5:]] == [
        ("1970-01-01T00:00:05Z", None), ("2099-01-01T00:00:00Z", None),
    ]  # fmt: skip


async def test_alarms_anomalies_and_own_health_are_told_apart(server_dir: Path) -> None:
    gateway = Gateway(server_dir / "gw", IDENTITY, NOWHERE, {"AGENT_HEALTH_READINGS_S": "0.2"})
    history = server_dir / "history.csv"
    chance = random.Random(5)
    history.write_text("t\n" + "".join(f"{20 + chance.gauss(0, 0.1):.3f}\n" for _ in range(2_000)))
    warmed = gateway.command(
        "warm", "--csv", str(history), "--device", "d1", "--metric", "temperature", "--column", "t",
        "--interval", "0.1", "--json",
    )  # fmt: skip
    assert json.loads(warmed) == {"learned": 2_000, "empty": 0}
    gateway.start()
    try:
        async with device(gateway, "d1") as send:
            for n in range(20):
                assert await send(reading(n, temperature=round(20 + chance.gauss(0, 0.1), 3))) == 0
                await asyncio.sleep(0.05)  # a sensor's pace
            assert await send(reading(20, temperature=29.0)) == 0
            assert await send(reading(21, status="CRITICAL")) == 0
        await until(lambda: len(numbers(gateway).get("d1", [])) == 22)
        found = [record for record in records(gateway) if isinstance(record, ReadingRecord)]
        assert [record.metrics["n"] for record in found if record.score is not None] == [20]
        ledger = gateway.ledger()["classes"]
        assert (ledger["anomaly"]["accepted"], ledger["alarm"]["accepted"]) == (1, 1)
        own = [record for record in found if record.device == "gw-1"]
        assert own
        assert own[0].metrics["disk_free_mib"] > 0
        gateway.stop_agent()
        # What was learned survives: the model file knows the channel after a restart.
        assert json.loads(gateway.command("ledger", "--json"))["live"] is False
        db = sqlite3.connect(gateway.data_dir / "models.db")
        assert db.execute("SELECT count(*) FROM channels WHERE device = 'd1'").fetchone()[0] >= 1
        db.close()
    finally:
        gateway.stop()


async def test_sigterm_stores_and_acknowledges_what_was_taken(gateway: Gateway) -> None:
    async with device(gateway, "d1") as send:
        pubacks = [send(reading(n)) for n in range(500)]
        os.kill(gateway.pid, signal.SIGTERM)
        assert set(await asyncio.gather(*pubacks)) == {0}
    await asyncio.to_thread(gateway.stop_agent)
    await asyncio.to_thread(gateway.start_agent)
    await until(lambda: len(numbers(gateway).get("d1", [])) >= 500)
    assert numbers(gateway)["d1"] == list(range(500))


async def test_only_one_agent_runs_on_a_directory(gateway: Gateway) -> None:
    with pytest.raises(Permanent, match="in use by another"):
        await asyncio.to_thread(gateway.command, "run")
    with pytest.raises(Permanent, match="in use by another"):
        await asyncio.to_thread(
            gateway.command, "warm", "--csv", "x.csv", "--device", "d", "--metric", "m", "--interval", "1"
        )


async def test_doctor_and_canary_go_the_whole_path(server_dir: Path) -> None:
    broker = LocalBroker(server_dir / "hub")
    broker.start()
    gateway = Gateway(server_dir / "gw", IDENTITY, broker.url, {"AGENT_HEALTH_READINGS_S": "0"})
    try:
        found = await doctor(gateway)  # nothing runs yet
        assert (found["hub"]["verdict"], found["local broker"]["verdict"]) == ("ok", "failed")
        gateway.start()
        async with hub(broker) as got:
            await until(lambda: gateway_status(gateway)["uplink"]["connected"])
            found = await doctor(gateway, "--canary")
            assert {finding["verdict"] for finding in found.values()} <= {"ok", "warning"}
            assert found["canary"]["verdict"] == "ok"
            assert [record.device for record in got.records] == ["gw-1"]
            assert gateway.ledger()["classes"]["telemetry"]["acked"] == 1
        gateway.stop_agent()
        broker.stop()
        found = await doctor(gateway)
        assert found["hub"]["verdict"] == "failed"
        assert found["hub"]["do"]
        (gateway.data_dir / "key").chmod(0o644)
        found = await doctor(gateway)
        assert "chmod 600" in found["key file"]["found"]
    finally:
        gateway.stop()
        broker.stop()


async def doctor(gateway: Gateway, *words: str) -> dict[str, dict[str, str]]:
    try:
        text = await asyncio.to_thread(gateway.command, "doctor", "--json", *words)
    except Permanent as error:  # a failed check is exit 1, and its findings are in the message
        text = str(error)[str(error).index("[{") :]
    decoded, _ = json.JSONDecoder().raw_decode(text)
    return {finding["check"]: finding for finding in decoded}
