"""Limits on real servers: read from the registry topic, the excess marked, the device told, a gateway slowed down."""

import asyncio
import json

import pytest
from aiokafka import AIOKafkaProducer

from deploy.bench.mqtt_load import publish
from shared.device import DeviceView, Kind, Limits, Status, encode_view
from shared.ids import new_epoch
from shared.topics import Kafka
from tests.stack.hub_process import until
from tests.stack.ingest.test_ingest import Agent, header_pairs, written

pytestmark = pytest.mark.stack


async def limit(world, ingest, client, kind=Kind.DEVICE, **limits):
    """As the registry does: tell of a device with limits of its own; returns when ingest knows it."""
    known = ingest.metric("telemetry_ingest_limits_known")
    view = DeviceView(client.client_id, kind, "t", Status.ACTIVE, 1, (), Limits(**limits))
    producer = AIOKafkaProducer(bootstrap_servers=world.env["HUB_KAFKA_BOOTSTRAP"])
    await producer.start()
    try:
        await producer.send_and_wait(Kafka.REGISTRY.value, encode_view(view), client.client_id.encode())
    finally:
        await producer.stop()
    await until(lambda: ingest.metric("telemetry_ingest_limits_known") > known, "ingest knows the limits")


async def flood(world, client, count):
    (outcome,) = await publish(
        "127.0.0.1",
        world.broker.port,
        [(client, lambda number: (b"", b'{"n": %d}' % number))],
        count=count,
    )
    assert outcome.taken == count, "a PUBACK is never withheld"


async def test_the_excess_is_marked_and_the_device_told_and_nobody_else(calm):
    world, ingest = calm
    noisy, other = world.broker.devices[:2]
    await limit(world, ingest, noisy, messages_per_s=5.0)
    notices = []

    async def listen(client, connection):
        async for message in connection.messages:
            assert not message.retain
            notices.append((client.client_id, str(message.topic), json.loads(message.payload)))

    async with world.broker.client(noisy) as mine, world.broker.client(other) as theirs:
        await mine.subscribe(f"devices/{noisy.client_id}/notices", 1)
        await theirs.subscribe(f"devices/{noisy.client_id}/notices", 1)  # granted, and never served
        listening = [asyncio.ensure_future(listen(*pair)) for pair in ((noisy, mine), (other, theirs))]
        # By a session of its own: a device's second connection would end the first.
        for number in range(300):
            await mine.publish(f"devices/{noisy.client_id}/telemetry", b'{"n": %d}' % number, 1)
        await flood(world, world.broker.devices[2], 300)
        records = await written(world, 600)
        await until(lambda: bool(notices), "a notice")
        for task in listening:
            task.cancel()
    marked = {record.key for record in records if "throttled" in record.headers}
    within = [record for record in records if record.key == noisy.client_id and "throttled" not in record.headers]
    assert marked == {noisy.client_id}
    assert 50 <= len(within) <= 200, "ten seconds' worth, and what came by while it was sent"
    assert {(name, topic) for name, topic, _ in notices} == {
        (noisy.client_id, f"devices/{noisy.client_id}/notices"),
    }
    assert notices[0][2].keys() == {"notice", "until"}
    assert notices[0][2]["notice"] == "throttled"
    assert ingest.metric("telemetry_rate_limited_messages_total") == 300 - len(within)
    assert ingest.metric("telemetry_ingest_unacknowledged") == 0


async def test_a_noisy_gateway_is_hinted_and_its_sibling_is_not(calm):
    world, ingest = calm
    noisy, quiet = world.broker.gateways[:2]
    await limit(world, ingest, noisy, Kind.GATEWAY, readings_per_s=100.0)
    epochs = {"noisy": new_epoch(), "quiet": new_epoch()}
    async with Agent(world, noisy) as loud, Agent(world, quiet) as calm_one:
        for number in range(1, 31):
            pairs = header_pairs(epoch=epochs["noisy"], number=number, records=1_000)
            await loud.send(pairs, b"zip%d" % number)
            if number % 10 == 0:
                pairs = header_pairs(epoch=epochs["quiet"], number=number // 10, records=10)
                await calm_one.send(pairs, b"zap%d" % number)
        await loud.hear(epochs["noisy"], list(range(1, 31)))
        await calm_one.hear(epochs["quiet"], [1, 2, 3])
        hints = [ack.hint for ack in loud.told if ack.hint is not None]
        assert hints, "with its acknowledgements"
        assert (hints[0].readings_per_s, 0 < hints[0].for_s <= 30) == (100.0, True)
        assert [ack.hint for ack in calm_one.told] == [None] * len(calm_one.told)
        # It goes on, and says that it heard.
        for number in range(31, 131):
            pairs = header_pairs(epoch=epochs["noisy"], number=number, records=1_000, hint=hints[0].id)
            await loud.send(pairs, b"zip%d" % number)
        await loud.hear(epochs["noisy"], list(range(1, 131)))
    records = await written(world, 133)
    ignored = [record.headers["hint_ignored"].decode() for record in records if "hint_ignored" in record.headers]
    assert set(ignored) == {hints[0].id}
    assert 80 <= len(ignored) < 100, "what a window may hold is borne"
    assert not [record for record in records if "throttled" in record.headers], "nothing of a gateway is refused"
    assert ingest.metric("telemetry_flow_hints_ignored_total") == len(ignored)
    assert ingest.metric("telemetry_hinted_gateways") == 1
