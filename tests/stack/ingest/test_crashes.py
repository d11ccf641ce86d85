"""Whatever is killed under load: nothing that the broker kept is lost, nothing is written twice, order per device."""

import asyncio
import os
import random
import signal
import time
from collections import Counter

import pytest

from control_plane.ingest.reader import READ_BYTES
from deploy.bench.mqtt_load import publish
from tests.stack.hub_process import until
from tests.stack.ingest.conftest import events, ready

pytestmark = [pytest.mark.stack, pytest.mark.timeout(240)]
RATE, WINDOW = 1_500, 50
SMALLEST_BYTES = 40  # of a PUBLISH of this load


class Load:
    """All devices publishing numbers, while something happens."""

    def __init__(self, world, seconds, window=WINDOW):
        self.world = world
        work = [(client, lambda number: (b"", b"%d" % number)) for client in world.broker.devices]
        self._task = asyncio.ensure_future(
            publish("127.0.0.1", world.broker.port, work, seconds=seconds, rate=RATE, window=window, patience_s=60)
        )

    async def outcomes(self):
        return await self._task


async def carried(process, count):
    """Until this run of ingest has written so many messages: the load is well under way."""
    await until(lambda: process.metric("telemetry_ingest_produced_total") >= count, f"{count} are written")


async def settle(world, process):
    """Until the broker has delivered all and ingest has acknowledged all."""

    async def empty():
        if not process.ready():
            return False
        before = process.metric("telemetry_ingest_produced_total")
        await asyncio.sleep(0.5)  # a pause in the flow, not a wait for it
        return (
            process.metric("telemetry_ingest_unacknowledged") == 0
            and process.metric("telemetry_ingest_produced_total") == before
        )

    await until(empty, "all is acknowledged")


async def judge(world, outcomes, *, may_lose=0, may_repeat=0):
    """Each acknowledged number once, in order, per device."""
    by_device = {}
    for record in await world.raw():
        by_device.setdefault(record.key, []).append(int(record.value))
    lost = repeated = 0
    for outcome in outcomes:
        numbers = by_device.get(outcome.client.client_id, [])
        taken = {number for number, acknowledged in enumerate(outcome.acknowledged) if acknowledged}
        lost += len(taken - set(numbers))
        repeated += sum(count - 1 for count in Counter(numbers).values())
        first = list(dict.fromkeys(numbers))
        assert first == sorted(first), "out of order"
        assert len(taken) > 100
    assert lost <= may_lose, f"{lost} lost"
    assert repeated <= may_repeat, f"{repeated} written twice"


async def test_ingest_is_killed_again_and_again(world, tmp_path):
    choose = random.Random(11)
    with world.ingest(tmp_path / "first") as process:
        await ready(process)
        load = Load(world, 9)
        for _ in range(3):
            await carried(process, choose.randrange(300, 2_000))
            process.kill()
            process.start()
            await ready(process)
        outcomes = await load.outcomes()
        await settle(world, process)
    tails = [event["identities"] for event in events(process, "tail_read")]
    assert tails[1:] == sorted(tails[1:]), "each run knew what the ones before it had written"
    assert tails[1] - tails[0] >= 300
    await judge(world, outcomes)


async def test_kafka_is_killed(world, tmp_path):
    """Far more waits at the broker than ingest may hold."""
    window, hold = 400, 100
    with world.ingest(tmp_path / "first", HUB_INGEST_RECEIVE_MAXIMUM=str(hold)) as process:
        await ready(process)
        load = Load(world, 6, window)
        await carried(process, 1_000)
        world.stack.kafka.kill()
        await until(lambda: bool(events(process, "kafka_away")), "kafka_away")
        held = process.metric("telemetry_ingest_unconfirmed")
        assert 0 < held <= 2 * hold + READ_BYTES // SMALLEST_BYTES < window * len(world.broker.devices)
        world.stack.kafka.start()
        outcomes = await load.outcomes()
        await settle(world, process)
        assert events(process, "kafka_back")
    await judge(world, outcomes)


async def test_the_broker_is_killed(world, ingest):
    """What it acknowledged and had neither saved nor delivered is gone with it; what it delivers again is known.

    It delivers to a connected ingest in the same turn in which it acknowledges, so that is next to nothing (measured:
    none); one device's window a kill is allowed.
    """
    world.broker.server.stop()  # so that its store has our session, as it has after its first autosave
    world.broker.server.start()
    await until(ingest.ready, "ready")
    load = Load(world, 7)
    for kill in range(2):
        await carried(ingest, 2_500 * (kill + 1))
        world.broker.server.kill()
        world.broker.server.start()
    outcomes = await load.outcomes()
    await settle(world, ingest)
    assert len(events(ingest, "broker_disconnected")) == 3
    await judge(world, outcomes, may_lose=2 * WINDOW)
    assert sum(outcome.nobody for outcome in outcomes) == 0


async def test_the_broker_comes_back_with_an_old_store(world, ingest):
    """It delivers again what ingest acknowledged long ago: up to its autosave interval."""
    store = world.broker.server.home / "mosquitto.db"
    device = world.broker.devices[0]
    world.broker.server.stop()
    world.broker.server.start()
    await until(ingest.ready, "ready")
    os.kill(ingest.pid, signal.SIGSTOP)  # so that the broker has something to keep
    (outcome,) = await publish(
        "127.0.0.1", world.broker.port, [(device, lambda number: (b"", b"%d" % number))], count=300
    )
    world.broker.server.stop()
    old = store.read_bytes()
    os.kill(ingest.pid, signal.SIGCONT)
    world.broker.server.start()
    await settle(world, ingest)
    assert ingest.metric("telemetry_ingest_produced_total") == 300
    world.broker.server.kill()
    store.write_bytes(old)
    world.broker.server.start()
    await until(lambda: ingest.metric("telemetry_ingest_received_total", outcome="repeat") >= 300, "repeats")
    await settle(world, ingest)
    await judge(world, [outcome])


async def test_an_old_store_is_known_by_a_fresh_ingest_too(world, tmp_path):
    """The same, ingest having been killed as well: what was acknowledged is known from the tail of raw."""
    store = world.broker.server.home / "mosquitto.db"
    device = world.broker.devices[0]
    with world.ingest(tmp_path / "first") as process:
        await ready(process)
        process.stop()
    (outcome,) = await publish(
        "127.0.0.1", world.broker.port, [(device, lambda number: (b"", b"%d" % number))], count=300
    )
    world.broker.server.stop()
    old = store.read_bytes()
    world.broker.server.start()
    with world.ingest(tmp_path / "first") as process:
        await ready(process)
        await settle(world, process)
        process.kill()
        world.broker.server.kill()
        store.write_bytes(old)
        world.broker.server.start()
        process.start()
        await ready(process)
        await until(lambda: process.metric("telemetry_ingest_received_total", outcome="repeat") == 300, "repeats")
        await settle(world, process)
        assert process.metric("telemetry_ingest_received_total", outcome="new") == 0
    await judge(world, [outcome])


async def test_the_standby_takes_over_from_one_that_was_killed(world, tmp_path):
    lease = {"HUB_INGEST_LEASE_S": "3"}
    with world.ingest(tmp_path / "first", **lease) as first, world.ingest(tmp_path / "second", **lease) as second:
        await until(lambda: first.ready() or second.ready(), "one holds the slot")
        holder, standby = (first, second) if first.ready() else (second, first)
        load = Load(world, 8)
        await carried(holder, 1_500)
        holder.kill()
        killed = time.monotonic()
        await until(standby.ready, "the standby holds the slot")
        assert 1.5 < time.monotonic() - killed < 10
        outcomes = await load.outcomes()
        await settle(world, standby)
    await judge(world, outcomes)


async def test_one_that_slept_beyond_its_lease_writes_no_more(world, tmp_path):
    """What it had handed to Kafka's client when it was stopped may be written twice, and no more than that.

    At most what all devices may have unacknowledged: `raw` may hold so many repeats, because ingest cannot call back
    what its Kafka client already had. That nobody sees them is the normaliser's part, whose memory per device drops
    a repeat that stands in `raw`; tests/stack/test_normalizer_hostile.py writes such repeats and looks at
    `normalized`.
    """
    lease = {"HUB_INGEST_LEASE_S": "3"}
    with world.ingest(tmp_path / "first", **lease) as first, world.ingest(tmp_path / "second", **lease) as second:
        await until(lambda: first.ready() or second.ready(), "one holds the slot")
        holder, standby = (first, second) if first.ready() else (second, first)
        load = Load(world, 9)
        await carried(holder, 1_500)
        os.kill(holder.pid, signal.SIGSTOP)
        await until(standby.ready, "the standby holds the slot")
        os.kill(holder.pid, signal.SIGCONT)
        await until(lambda: bool(events(holder, "lease_lost")), "the first knows")
        assert not events(standby, "lease_lost")
        outcomes = await load.outcomes()
        await settle(world, standby)
        assert holder.get("/readyz")[0] == 503
    await judge(world, outcomes, may_repeat=WINDOW * len(outcomes))


async def test_postgres_away_stops_no_connected_ingest_and_tempts_no_standby(world, tmp_path):
    lease = {"HUB_INGEST_LEASE_S": "3"}
    with world.ingest(tmp_path / "first", **lease) as first, world.ingest(tmp_path / "second", **lease) as second:
        await until(lambda: first.ready() or second.ready(), "one holds the slot")
        holder, standby = (first, second) if first.ready() else (second, first)
        load = Load(world, 10)
        world.stack.postgres.kill()
        try:
            await until(lambda: bool(events(holder, "database_away")), "database_away")
            # It goes on for longer than a lease: at this rate so many messages are five seconds.
            await carried(holder, holder.metric("telemetry_ingest_produced_total") + 5 * RATE)
            assert holder.metric("telemetry_ingest_lease_certain") == 0
        finally:
            world.stack.postgres.start()
        outcomes = await load.outcomes()
        await until(lambda: bool(events(holder, "database_back")), "database_back")
        await settle(world, holder)
        assert not events(holder, "lease_lost")
        assert not events(standby, "lease_taken")
        assert not events(holder, "broker_disconnected")
    await judge(world, outcomes)


async def test_who_lost_its_session_and_its_lease_reads_the_lease_before_it_connects(world, tmp_path):
    with world.ingest(tmp_path / "first", HUB_INGEST_LEASE_S="3") as process:
        await ready(process)
        world.stack.postgres.kill()
        try:
            await until(lambda: bool(events(process, "database_away")), "database_away")
            await until(
                lambda: process.metric("telemetry_ingest_lease_certain") == 0, "the hold is no longer certain"
            )
            world.broker.server.kill()
            world.broker.server.start()
            await until(lambda: bool(events(process, "broker_disconnected")), "broker_disconnected")
            # The broker is there; the first attempt would come within half a second.
            for _ in range(20):
                assert len(events(process, "broker_connected")) == 1
                assert process.get("/readyz")[0] == 503
                await asyncio.sleep(0.05)  # that nothing happens has no signal
        finally:
            world.stack.postgres.start()
        await until(process.ready, "ready again")
        assert len(events(process, "broker_connected")) == 2
