"""The load: what it sends is what it says, and its window holds."""

import asyncio
import json
import time
from contextlib import asynccontextmanager, suppress
from itertools import pairwise

import pytest

from control_plane.ingest.packets import Splitter
from deploy.bench.mqtt_load import Client, Stamped, batches, publish, single
from shared import batch

CLIENT = Client("c1", "user", "pw", "devices/c1/telemetry")


def test_single_readings_have_their_size_and_differ():
    make = single("d1", 200)
    payloads = [make.payload(number, 1_767_225_600_000) for number in range(3)]
    assert {len(payload) for payload in payloads} == {200}
    assert len(set(payloads)) == 3
    decoded = json.loads(payloads[2])
    assert decoded["n"] == 1_000_000_002
    assert decoded["ts"] == 1_767_225_600_000
    assert set(decoded) == {"ts", "temperature", "voltage", "status", "n", "note"}


def test_batches_are_batches():
    make = batches(["d1", "d2"], readings=100, variants=2)
    headers, payloads = [], []
    for number in range(3):
        properties, payload = make(number)
        body = b"\x00\x01t\x00\x01" + varint(len(properties)) + properties + payload
        (message,), _ = Splitter().feed(b"\x32" + varint(len(body)) + body)
        assert message.content_type == batch.CONTENT_TYPE.encode()
        headers.append(batch.decode_header({name.decode(): value.decode() for name, value in message.properties}))
        payloads.append(message.payload)
    assert [header.number for header in headers] == [1, 2, 3]
    assert len({header.epoch for header in headers}) == 1
    assert payloads[0] != payloads[1]
    records = batch.decode_records(batch.unpack(payloads[0]))
    assert len(records) == 100
    assert {record.device for record in records} == {"d1", "d2"}
    assert all(isinstance(record, batch.ReadingRecord) for record in records)


def varint(value):
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


class Broker:
    """Takes publishes and answers when told; may refuse, and may hang up."""

    def __init__(self, connack=b"\x20\x03\x00\x00\x00", answer=lambda _: b""):
        self.connack, self.answer = connack, answer
        self.heads, self.payloads, self.open, self.most = [], [], 0, 0
        self.hang_up_after = None
        self.served = []

    @asynccontextmanager
    async def running(self):
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        async with server:
            self.port = server.sockets[0].getsockname()[1]
            yield self
        await asyncio.wait_for(asyncio.gather(*self.served), 5)

    async def _serve(self, reader, writer):
        served = asyncio.get_running_loop().create_future()
        self.served.append(served)
        try:
            await self._answer(reader, writer)
        finally:
            writer.close()
            with suppress(ConnectionError):
                await writer.wait_closed()
            served.set_result(None)

    async def _answer(self, reader, writer):
        splitter, self.open = Splitter(), 0
        while data := await reader.read(65_536):
            messages, packets = splitter.feed(data)
            if any(packet.head == 0x10 for packet in packets):
                writer.write(self.connack)
            self.heads += [data[0]] if messages else []
            self.payloads += [int(message.payload) for message in messages]
            self.open += len(messages)
            self.most = max(self.most, self.open)
            if self.hang_up_after is not None and len(self.payloads) >= self.hang_up_after:
                self.hang_up_after = None
                break
            await asyncio.sleep(0.002)
            for message in messages:
                tail = self.answer(int(message.payload))
                writer.write(b"\x40" + bytes([2 + len(tail)]) + message.packet_id.to_bytes(2, "big") + tail)
                self.open -= 1


def numbered(number):
    return b"", b"%d" % number


async def test_all_arrive_in_order_within_the_window():
    async with Broker().running() as broker:
        (outcome,) = await publish("127.0.0.1", broker.port, [(CLIENT, numbered)], count=500, window=20)
    assert broker.payloads == list(range(500))
    assert broker.most <= 20
    assert (outcome.sent, outcome.taken, outcome.refused) == (500, 500, {})


async def test_the_broker_s_receive_maximum_holds_too():
    async with Broker(b"\x20\x06\x00\x00\x03\x21\x00\x05").running() as broker:
        (outcome,) = await publish("127.0.0.1", broker.port, [(CLIENT, numbered)], count=100, window=20)
    assert broker.most <= 5
    assert outcome.taken == 100


async def test_refusals_and_absent_subscribers_are_told_apart():
    answers = {1: b"\x87", 2: b"\x10", 3: b"\x10\x00"}
    async with Broker(answer=lambda number: answers.get(number, b"")).running() as broker:
        (outcome,) = await publish("127.0.0.1", broker.port, [(CLIENT, numbered)], count=5)
    assert list(outcome.acknowledged) == [1, 0, 1, 1, 1]
    assert outcome.refused == {0x87: 1}
    assert outcome.nobody == 2


async def test_what_a_lost_connection_left_open_is_sent_again_first():
    async with Broker().running() as broker:
        broker.hang_up_after = 30
        (outcome,) = await publish("127.0.0.1", broker.port, [(CLIENT, numbered)], count=100, window=10)
    assert outcome.reconnects == 1
    assert outcome.taken == 100
    assert sorted(set(broker.payloads)) == list(range(100))
    assert 0x3A in broker.heads, "DUP"
    again = next(at for at in range(1, len(broker.payloads)) if broker.payloads[at] <= broker.payloads[at - 1])
    assert broker.payloads[again:] == list(range(broker.payloads[again], 100))


async def test_a_rate_is_kept():
    async with Broker().running() as broker:
        (outcome,) = await publish("127.0.0.1", broker.port, [(CLIENT, numbered)], seconds=1.0, rate=300)
    assert 200 <= outcome.sent <= 301


async def test_whoever_is_behind_the_broker_may_set_the_pace():
    async with Broker().running() as broker:
        asked = iter([3, 3, 8])
        (outcome,) = await publish(
            "127.0.0.1", broker.port, [(CLIENT, numbered)], seconds=0.2, most=lambda: next(asked, 8)
        )
    assert outcome.sent == 8


async def test_a_stall_of_the_broker_shows_in_what_it_held_up():
    due = {}

    def stamped(number, due_ms):
        due[number] = due_ms
        return b"%d" % number

    sent_ms = {}

    def answer(number):
        sent_ms[number] = time.time_ns() / 1e6
        if number == 0:
            time.sleep(0.5)  # the whole broker stands still, as it does under a slow disk
        return b""

    async with Broker(answer=answer).running() as broker:
        await publish("127.0.0.1", broker.port, [(CLIENT, Stamped(stamped))], seconds=1.0, rate=100, window=1)
    gaps = [later - earlier for earlier, later in pairwise(due.values())]
    assert max(gaps) <= 11, "every 10 ms one is due, whatever the broker does"
    assert sent_ms[10] - due[10] > 200


async def test_a_refused_connect_is_an_error():
    async with Broker(b"\x20\x03\x00\x87\x00").running() as broker:
        with pytest.raises(ConnectionError, match="0x87"):
            await publish("127.0.0.1", broker.port, [(CLIENT, numbered)], count=1)


def test_a_password_is_not_shown():
    assert "pw" not in repr(CLIENT)
