"""`hub ingest` on real servers: what is written, what is acknowledged, and when."""

import asyncio
import hashlib
import os
import signal
import struct

import pytest
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from control_plane.ingest.partition import partition_of
from deploy.bench.mqtt_load import publish
from shared import batch, limits
from shared.envelope import rfc3339
from shared.ids import new_epoch
from shared.recent import identity
from tests.stack.hub_process import until
from tests.stack.ingest.conftest import events, raw_settings, ready

pytestmark = pytest.mark.stack
TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def packed(*pairs, content_type=None):
    """MQTT properties."""
    text = b"".join(
        b"\x26" + b"".join(struct.pack("!H", len(item)) + item for item in (name.encode(), value))
        for name, value in pairs
    )
    return text + (b"\x03" + struct.pack("!H", len(content_type)) + content_type if content_type else b"")


def header_pairs(**changes):
    fields = {"epoch": new_epoch(), "number": 1, "floor": 1, "lane": batch.Lane.LIVE, "records": 1} | changes
    return [(name, value.encode()) for name, value in batch.encode_header(batch.Header(**fields))]


async def send(world, client, *messages):
    """Publish these (properties, payload), in order."""
    (outcome,) = await publish(
        "127.0.0.1", world.broker.port, [(client, lambda number: messages[number])], count=len(messages)
    )
    assert outcome.taken == len(messages)


async def written(world, count):
    found = []

    async def enough():
        found[:] = await world.raw()
        return len(found) >= count

    await until(enough, f"{count} records in raw")
    assert len(found) == count
    return found


class Agent:
    """A gateway's one connection: publishes batches, hears acknowledgements."""

    def __init__(self, world, gateway):
        self._client = world.broker.client(gateway)
        self._name = gateway.client_id
        self.told = []

    async def __aenter__(self):
        self._connection = await self._client.__aenter__()
        await self._connection.subscribe(f"gateways/{self._name}/acks", 1)
        self._task = asyncio.ensure_future(self._listen())
        return self

    async def __aexit__(self, *_):
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        await self._client.__aexit__(None, None, None)

    async def _listen(self):
        async for message in self._connection.messages:
            assert not message.retain
            self.told.append(batch.decode_ack(message.payload))

    async def send(self, pairs, payload, content_type=batch.CONTENT_TYPE):
        properties = Properties(PacketTypes.PUBLISH)
        properties.UserProperty = [(name, value.decode()) for name, value in pairs]
        properties.ContentType = content_type
        await self._connection.publish(f"gateways/{self._name}/batches", payload, 1, properties=properties)

    def numbers(self, epoch):
        return [number for ack in self.told for number in ack.acks.get(epoch, [])]

    async def hear(self, epoch, numbers):
        await until(lambda: sorted(self.numbers(epoch)) == sorted(numbers), f"acknowledgements of {numbers}")


async def test_a_reading_of_a_device_as_it_came(calm):
    world, _ = calm
    device = world.broker.devices[0]
    payload = b'{"ts": "2026-01-01T00:00:00Z", "temperature": 24.1}'
    await send(world, device, (packed(("traceparent", TRACE.encode()), ("epoch", b"not a device's")), payload))
    (record,) = await written(world, 1)
    received_ms = int(record.headers["received_ms"])
    assert record.value == payload
    assert record.key == device.client_id
    assert record.partition == partition_of(record.key.encode(), 4)
    assert record.headers == {
        "ce_specversion": b"1.0",
        "ce_id": f"{device.client_id}:{identity(record.key.encode(), payload).hex()}".encode(),
        "ce_source": f"/mqtt/devices/{device.client_id}".encode(),
        "ce_type": b"iot.telemetry.raw.v1",
        "ce_time": rfc3339(received_ms).encode(),
        "ce_subject": device.client_id.encode(),
        "content-type": b"application/json",
        "received_ms": b"%d" % received_ms,
        "topic_kind": b"telemetry",
        "traceparent": TRACE.encode(),
    }


async def test_a_batch_is_acknowledged_to_its_gateway_for_every_copy(calm):
    world, ingest = calm
    gateway = world.broker.gateways[0]
    epoch = new_epoch()
    repeats = ingest.metric("telemetry_ingest_received_total", outcome="repeat")
    async with Agent(world, gateway) as agent:
        for number in range(1, 6):
            await agent.send(header_pairs(epoch=epoch, number=number), b"zip%d" % number)
        await agent.hear(epoch, [1, 2, 3, 4, 5])
        await agent.send(header_pairs(epoch=epoch, number=2), b"zip2")  # as a broker would: known
        await agent.hear(epoch, [1, 2, 2, 3, 4, 5])
        await agent.send(header_pairs(epoch=epoch, number=2, resent=True, floor=2), b"zip2")  # as an agent does
        await agent.hear(epoch, [1, 2, 2, 2, 3, 4, 5])
    records = await written(world, 6)
    assert [record.headers["ce_id"].decode() for record in records] == [
        f"{gateway.client_id}:{epoch}:{number}" for number in (1, 2, 3, 4, 5, 2)
    ]
    assert {record.partition for record in records} == {partition_of(gateway.client_id.encode(), 4)}
    first, last = records[0].headers, records[-1].headers
    assert (first["content-type"], first["topic_kind"]) == (batch.CONTENT_TYPE.encode(), b"batches")
    assert (last["resent"], last["floor"]) == (b"1", b"2")
    assert ingest.metric("telemetry_ingest_received_total", outcome="repeat") == repeats + 1
    assert ingest.metric("telemetry_ingest_hub_acks_total", answer="refused") == 0


async def test_nothing_is_acknowledged_while_kafka_is_silent(calm):
    """SIGSTOP: connections stay, nothing is confirmed. What was unconfirmed at that moment is then written once."""
    world, ingest = calm
    gateway, device = world.broker.gateways[0], world.broker.devices[0]
    epoch = new_epoch()
    async with Agent(world, gateway) as agent:
        await agent.send(header_pairs(epoch=epoch), b"zip")
        await agent.hear(epoch, [1])
        os.kill(world.stack.kafka.pid, signal.SIGSTOP)
        try:
            await agent.send(header_pairs(epoch=epoch, number=2), b"zip2")
            await send(world, device, *((b"", b"%d" % n) for n in range(20)))
            await until(lambda: bool(events(ingest, "kafka_away")), "kafka_away")
            assert agent.numbers(epoch) == [1]
            assert ingest.metric("telemetry_ingest_unacknowledged") == 21
            assert not ingest.ready()
        finally:
            os.kill(world.stack.kafka.pid, signal.SIGCONT)
        await agent.hear(epoch, [1, 2])
        await until(ingest.ready, "ready again")
    await written(world, 22)
    await until(lambda: ingest.metric("telemetry_ingest_unacknowledged") == 0, "all acknowledged")


@pytest.mark.parametrize("size", [limits.PAYLOAD_BYTES, limits.PAYLOAD_BYTES + 1, 1_900_000])
async def test_a_message_of_any_size_is_written(calm, size):
    world, ingest = calm
    cuts = ingest.metric("telemetry_ingest_cut_total", why="size")
    payload = bytes(range(256)) * (size // 256) + b"x" * (size % 256)
    device = world.broker.devices[0]
    await send(world, device, (b"", payload), (b"", b"{}"))
    records = await written(world, 2)
    cut = size > limits.PAYLOAD_BYTES
    assert records[0].value == (payload[: limits.KEPT_OF_OVERSIZED_BYTES] if cut else payload)
    assert records[0].headers.get("cut_length") == (b"%d" % size if cut else None)
    assert records[0].headers.get("cut_sha256") == (hashlib.sha256(payload).hexdigest().encode() if cut else None)
    assert records[0].headers["ce_id"].endswith(identity(device.client_id.encode(), payload).hex().encode())
    assert records[1].value == b"{}"
    assert ingest.metric("telemetry_ingest_cut_total", why="size") == cuts + cut


async def test_properties_over_the_limits_are_left_out_and_marked(calm):
    world, ingest = calm
    gateway = world.broker.gateways[0]
    epoch = new_epoch()
    cuts = ingest.metric("telemetry_ingest_headers_cut_total")
    too_many = [
        (name, b"x" * 1024) for name in ("closed", "void", "ledger", "clock", "hint", "resent", "lane", "records")
    ]
    async with Agent(world, gateway) as agent:
        await agent.send([*header_pairs(epoch=epoch), ("ledger", b"x" * 1025), ("foreign", b"y")], b"zip1")
        await agent.send([*too_many, *header_pairs(epoch=epoch, number=2)[:4]], b"zip2")
        await agent.hear(epoch, [1, 2])
    one, two = await written(world, 2)
    assert (one.headers["headers_cut"], two.headers["headers_cut"]) == (b"1", b"1")
    assert {"ledger", "foreign"}.isdisjoint(one.headers)
    assert two.headers["ce_id"].decode() == f"{gateway.client_id}:{epoch}:2"
    assert ingest.metric("telemetry_ingest_headers_cut_total") == cuts + 2


async def test_ingest_never_looks_inside(calm):
    world, ingest = calm
    payloads = [b"", b"\x00\xff\xfe", b'{"ts": 1, ', b"null", b"[" * 10_000, "\ufeff".encode(), b"{}"]
    gateway = world.broker.gateways[0]
    await send(world, world.broker.devices[0], *((b"", payload) for payload in payloads))
    await send(world, gateway, (packed(("epoch", "\ufeff".encode()), ("number", b"-1")), b"no batch"), (b"", b"none"))
    records = await written(world, len(payloads) + 2)
    assert sorted(record.value for record in records) == sorted([*payloads, b"no batch", b"none"])
    await until(lambda: ingest.metric("telemetry_ingest_unacknowledged") == 0, "all acknowledged")


async def test_a_record_that_kafka_refuses_for_good_is_written_in_its_cut_form(calm):
    """The flow goes on around it, in order, and it is acknowledged."""
    world, ingest = calm
    limit = {"max.message.bytes": "150000"}
    gateway = world.broker.gateways[0]
    epoch = new_epoch()
    async with Agent(world, gateway) as agent, raw_settings(world.env["HUB_KAFKA_BOOTSTRAP"], limit):
        sizes = [10, 200_000, 20, 30]
        for number, size in enumerate(sizes, 1):
            await agent.send(header_pairs(epoch=epoch, number=number), os.urandom(size))
        await agent.hear(epoch, [1, 2, 3, 4])
    records = await written(world, 4)
    assert [len(record.value) for record in records] == [10, limits.KEPT_OF_OVERSIZED_BYTES, 20, 30]
    assert [record.headers.get("cut_length") for record in records] == [None, b"200000", None, None]
    assert len(events(ingest, "record_refused")) == 1
    assert ingest.metric("telemetry_ingest_cut_total", why="refused") == 1


async def test_a_broker_that_breaks_receive_maximum_does_not_fill_the_memory(world, tmp_path):
    """Mosquitto 2.0 lets go of a whole window for each acknowledgement once messages wait (docs/adr/0063)."""
    with world.ingest(tmp_path / "first") as process:
        await ready(process)
        process.stop()
    clients = world.broker.devices[:4]
    work = [(client, lambda number: (b"", b"%d" % number)) for client in clients]
    await publish("127.0.0.1", world.broker.port, work, count=8_000)
    most = 0
    with world.ingest(tmp_path / "first", HUB_INGEST_RECEIVE_MAXIMUM="50") as process:

        def all_written():
            nonlocal most
            most = max(most, int(process.metric("telemetry_ingest_unacknowledged")))
            return process.metric("telemetry_ingest_produced_total") >= 32_000

        await until(all_written, "all is written")
        assert process.metric("telemetry_ingest_pauses_total") > 0
        assert most <= 2 * 50 + 64 * 1024 // 26
        assert process.metric("telemetry_ingest_received_total", outcome="new") == 32_000
    await written(world, 32_000)


async def test_the_first_session_is_an_alert_and_later_ones_are_not(world, tmp_path):
    for absent in (1, 0):
        with world.ingest(tmp_path / "first") as process:
            process.log.write_text("")
            await ready(process)
            assert len(events(process, "session_absent")) == absent
            assert process.metric("telemetry_ingest_sessions_lost_total") == absent
            assert process.stop() == 0


async def test_what_is_seen_from_outside(calm):
    world, ingest = calm
    before, lines = ingest.metric("telemetry_ingest_produced_total"), len(ingest.log.read_text().splitlines())
    await send(world, world.broker.devices[0], *((b"", b"%d" % n) for n in range(500)))
    await written(world, 500)
    text = ingest.get("/metrics")[1].splitlines()
    assert any(line.startswith("telemetry_ingest_rate ") for line in text)
    assert 'telemetry_mqtt_connect_failures{kind="refused"} 0.0' in text
    assert "telemetry_ingest_lease_held 1.0" in text
    assert ingest.metric("telemetry_ingest_produced_total") == before + 500
    assert ingest.metric("telemetry_ingest_ack_latency_seconds_count") >= 1
    log = ingest.log.read_text()
    assert len(log.splitlines()) == lines, "no line per message"
    assert len(events(ingest, "lease_taken")) == len(events(ingest, "broker_connected")) == 1
    assert all(client.client_id not in log for client in world.broker.devices)


async def test_an_ordinary_stop_leaves_nothing_open_and_gives_the_slot_back(world, tmp_path):
    with world.ingest(tmp_path / "first") as first, world.ingest(tmp_path / "second") as second:
        await until(lambda: first.ready() or second.ready(), "one holds the slot")
        holder, standby = (first, second) if first.ready() else (second, first)
        await until(lambda: standby.get("/readyz")[0] == 503, "the other stands by")
        await send(world, world.broker.devices[0], *((b"", b"%d" % n) for n in range(300)))
        assert holder.stop() == 0
        assert [event["left"] for event in events(holder, "drained")] == [0]
        await until(standby.ready, "the standby holds it", wait_s=5)  # at once, not a lease later
        await send(world, world.broker.devices[0], (b"", b"{}"))
        await written(world, 301)
        assert standby.metric("telemetry_ingest_received_total", outcome="repeat") == 0


async def test_two_of_one_data_directory_are_refused(world, ingest, tmp_path):
    with world.ingest(tmp_path / "first") as twin:
        await until(lambda: twin.returncode() is not None, "the twin ends")
        assert twin.returncode() == 1
    assert "another ingest runs" in ingest.log.read_text()  # the twin's words: it has the same log
    assert ingest.returncode() is None
    assert len(events(ingest, "lease_taken")) == 1


async def test_a_namesake_elsewhere_is_refused(world, tmp_path):
    """Two processes of one holder name would take the slot from one another for ever."""
    settings = {"HUB_INGEST_HOLDER": "same", "HUB_INGEST_LEASE_S": "3"}
    with world.ingest(tmp_path / "first", **settings) as first:
        await ready(first)
        with world.ingest(tmp_path / "second", **settings) as second:
            await until(lambda: first.returncode() is not None, "the first ends")
            assert first.returncode() == 1
            assert "under this one's name" in first.log.read_text()
            await ready(second)
