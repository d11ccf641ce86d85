"""A load of MQTT 5 publishes at QoS 1: many clients, few microseconds a message.

Promises: each client has at most `window` messages unacknowledged, sends them in order of their number, and sends
again what a lost connection left open, with DUP set, before anything new. What was acknowledged with success is
known by number, so a check can name what must have arrived. At a rate, a message is stamped with the moment at which
it was due, not with that at which the window let it go: a stall shows in all that it held up. Leaves making devices
and counting in Kafka to others.

    python -m deploy.bench.mqtt_load --url mqtt://127.0.0.1:1883 --clients clients.json --seconds 60 --rate 15000

`clients.json` is a list of {"client_id", "username", "password", "topic"}; topics ending in `/batches` get batches of
100 readings, the others single readings of about 200 bytes.
"""

import argparse
import asyncio
import json
import struct
import sys
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from shared import batch
from shared.ids import DeviceId, new_epoch

_CONNACK, _PUBACK, _PINGRESP, _DISCONNECT = 0x20, 0x40, 0xD0, 0xE0
_DUP = 0x08
_TICK_S = 0.005
_BURST_BYTES = 128 * 1024  # how much is handed to a socket at once
_KEEPALIVE_S = 600  # longer than a run: no pings

MakeMessage = Callable[[int], tuple[bytes, bytes]]
"""Properties (packed, without their length) and payload of the message of this number."""


@dataclass(frozen=True, slots=True)
class Stamped:
    """Messages that bear a time: `payload(number, due_ms)`, epoch ms."""

    payload: Callable[[int, int], bytes]


Messages = MakeMessage | Stamped
"""What a client sends."""


@dataclass(frozen=True, slots=True)
class Client:
    """Who publishes where."""

    client_id: str
    username: str
    password: str = field(repr=False)
    topic: str


@dataclass(slots=True)
class Outcome:
    """One client's count. `acknowledged[n]` is 1 if message n was acknowledged with a reason code below 0x80."""

    client: Client
    sent: int = 0
    acknowledged: bytearray = field(default_factory=bytearray)
    refused: dict[int, int] = field(default_factory=dict)
    nobody: int = 0
    reconnects: int = 0

    @property
    def taken(self) -> int:
        """How many were acknowledged with success."""
        return self.acknowledged.count(1)


def single(device: str, size: int = 200) -> Stamped:
    """Readings of one device, `size` bytes each, stamped when they were due: `n` counts them, so all differ."""
    head = b'{"ts":%d,"temperature":21.5,"voltage":3.71,"status":"OK","n":'
    tail = b',"note":"%s"}'
    pad = max(0, size - len(head % 10**12) - len(tail) + 2 - 10)
    end = tail % (device.encode() + b"x" * pad)[:pad]

    return Stamped(lambda number, due_ms: head % due_ms + b"%d" % (1_000_000_000 + number) + end)


def batches(devices: Sequence[str], readings: int = 100, variants: int = 16) -> MakeMessage:
    """Batches 1, 2, 3 … of one epoch, `readings` each; payloads repeat after `variants`, numbers never."""
    epoch = new_epoch()
    payloads = [_packed(devices, readings, variant) for variant in range(variants)]

    def make(number: int) -> tuple[bytes, bytes]:
        header = batch.Header(
            epoch=epoch, number=number + 1, floor=max(1, number - 250), lane=batch.Lane.LIVE, records=readings
        )
        packed = b"".join(_user_property(*pair) for pair in batch.encode_header(header))
        return packed + _text_property(0x03, batch.CONTENT_TYPE), payloads[number % variants]

    return make


def _packed(devices: Sequence[str], readings: int, variant: int) -> bytes:
    now_ms = time.time_ns() // 1_000_000
    records = [
        batch.encode_record(
            batch.ReadingRecord(
                device=DeviceId(devices[index % len(devices)]),
                at_ms=now_ms + index,
                ts_raw=now_ms + index,
                ts_ms=now_ms + index,
                metrics={"temperature": 21.0 + (variant * readings + index) % 97 / 10, "voltage": 3.7},
                status=None,
                seq=variant * readings + index,
                clock=batch.ClockQuality.SYNCED,
                skew_ms=3,
            )
        )
        for index in range(readings)
    ]
    packed = batch.pack(records)
    assert packed is not None
    return packed


async def publish(
    host: str,
    port: int,
    work: Sequence[tuple[Client, Messages]],
    *,
    count: int | None = None,
    seconds: float | None = None,
    rate: float | None = None,
    window: int = 100,
    patience_s: float = 30.0,
    most: Callable[[], int] | None = None,
) -> list[Outcome]:
    """Publish `count` messages each, or for `seconds`, at `rate` messages/s in all (None: as fast as they are taken).

    `most`: how many in all may have been sent by now, where whoever is behind the broker sets the pace. Then waits
    for the outstanding acknowledgements, at most `patience_s`. Raises ConnectionError if a first connect is refused.
    """
    assert (count is None) != (seconds is None)
    senders = [_Sender(client, make, window) for client, make in work]
    for sender in senders:
        await sender.connect(host, port, time.monotonic() + patience_s)
    async with asyncio.TaskGroup() as tasks:
        watches = [tasks.create_task(sender.stay_connected(host, port, patience_s)) for sender in senders]
        await _feed(senders, count, seconds, rate, most)
        with suppress(TimeoutError):  # what stays open is in the outcome
            async with asyncio.timeout(patience_s):
                for sender in senders:
                    await sender.idle.wait()
        for watch in watches:
            watch.cancel()
    for sender in senders:
        sender.close()
    return [sender.outcome for sender in senders]


async def _feed(
    senders: Sequence["_Sender"],
    count: int | None,
    seconds: float | None,
    rate: float | None,
    most: Callable[[], int] | None,
) -> None:
    started = time.monotonic()
    started_ms = time.time_ns() / 1e6
    fed = 0

    def due_ms(further: int) -> int:
        """When the message after `further` others is due: now, where there is no rate."""
        return int(started_ms + (fed + further) / rate * 1_000 if rate else time.time_ns() / 1e6)

    def may_send(elapsed: float) -> int:
        by_rate = sys.maxsize if rate is None else int(elapsed * rate)
        return min(by_rate, sys.maxsize if most is None else most()) - fed

    while True:
        elapsed = time.monotonic() - started
        if seconds is not None and elapsed >= seconds:
            break
        allowed = may_send(elapsed)
        share = -(-allowed // len(senders)) if allowed > 0 else 0
        for sender in senders:
            left = share if count is None else min(share, count - sender.outcome.sent)
            fed += sender.send(min(left, allowed), due_ms)
            allowed = may_send(elapsed)
        if count is not None and all(sender.outcome.sent >= count for sender in senders):
            break
        await asyncio.sleep(_TICK_S if rate is not None else 0.001)


class _Link(asyncio.Protocol):
    """One connection of a sender. `connack`: its reason code, and the broker's Receive Maximum."""

    def __init__(self, acknowledged: Callable[[int, int], None]) -> None:
        loop = asyncio.get_running_loop()
        self.connack: asyncio.Future[tuple[int, int]] = loop.create_future()
        self.lost: asyncio.Future[None] = loop.create_future()
        self._acknowledged = acknowledged
        self._rest = b""

    def data_received(self, data: bytes) -> None:
        data = self._rest + data
        at, end = 0, len(data)
        while end - at >= 2 and end - at >= 2 + data[at + 1]:
            length = data[at + 1]  # what a broker answers is shorter than 128 bytes, the CONNACK included
            assert length < 0x80
            self._packet_received(data[at] & 0xF0, data[at + 2 : at + 2 + length])
            at += 2 + length
        self._rest = data[at:]

    def _packet_received(self, kind: int, body: bytes) -> None:
        if kind == _PUBACK:
            self._acknowledged(body[0] << 8 | body[1], body[2] if len(body) > 2 else 0)
        elif kind == _CONNACK:
            self.connack.set_result((body[1], _receive_maximum(body)))
        else:
            assert kind in (_PINGRESP, _DISCONNECT)

    def connection_lost(self, exc: Exception | None) -> None:
        del exc
        if not self.connack.done():
            self.connack.set_exception(ConnectionError("closed before it answered"))
        if not self.lost.done():
            self.lost.set_result(None)


class _Sender:
    """One client, and what it has open."""

    def __init__(self, client: Client, make: Messages, window: int) -> None:
        self.outcome = Outcome(client)
        self.idle = asyncio.Event()
        self.idle.set()
        self._client = client
        self._make = make
        self._window = window
        self._topic = _string(client.topic)
        self._transport: asyncio.Transport | None = None
        self._link: _Link | None = None
        self._free: deque[int] = deque(range(1, window + 1))
        self._open: dict[int, tuple[int, bytes]] = {}  # packet id: number and packet, oldest first

    async def connect(self, host: str, port: int, deadline: float) -> None:
        """Connected, and what was open sent again. Raises ConnectionError if refused, or not answered in time."""
        loop = asyncio.get_running_loop()
        while True:
            link = _Link(self._acknowledged)
            transport: asyncio.Transport | None = None
            try:
                transport, _ = await loop.create_connection(lambda link=link: link, host, port)  # type: ignore[misc]
                transport.write(_connect_packet(self._client))
                async with asyncio.timeout(10):
                    code, receive_maximum = await link.connack
            except (OSError, TimeoutError) as error:
                if transport is not None:
                    transport.abort()
                if time.monotonic() > deadline:
                    raise ConnectionError(f"no broker at {host}:{port}") from error
                await asyncio.sleep(0.05)
                continue
            if code:
                transport.abort()
                raise ConnectionError(f"the broker refused the connect with {code:#x}")
            while len(self._free) + len(self._open) > receive_maximum and self._free:
                self._free.pop()
            for _, packet in self._open.values():
                transport.write(bytes([packet[0] | _DUP]) + packet[1:])
            self._transport, self._link = transport, link
            return

    async def stay_connected(self, host: str, port: int, patience_s: float) -> None:
        while True:
            assert self._link is not None
            await self._link.lost
            self._transport = None
            self.outcome.reconnects += 1
            await self.connect(host, port, time.monotonic() + patience_s)

    def send(self, most: int, due_ms: Callable[[int], int]) -> int:
        """Up to `most` new messages, as far as the window and the socket take them; how many.

        `due_ms(k)`: the stamp of the k-th of them, from 0.
        """
        if self._transport is None or self._transport.get_write_buffer_size() > _BURST_BYTES:
            return 0
        packets: list[bytes] = []
        size = 0
        number = self.outcome.sent
        while most > len(packets) and self._free and size < _BURST_BYTES:
            packet_id = self._free.popleft()
            packet = self._packet(packet_id, number, due_ms(len(packets)))
            self._open[packet_id] = (number, packet)
            packets.append(packet)
            size += len(packet)
            number += 1
        self.outcome.sent = number
        self.outcome.acknowledged.extend(bytes(len(packets)))
        if packets:
            self.idle.clear()
            self._transport.write(b"".join(packets))
        return len(packets)

    def close(self) -> None:
        if self._transport is not None:
            self._transport.write(b"\xe0\x00")
            self._transport.close()

    def _packet(self, packet_id: int, number: int, due_ms: int) -> bytes:
        if isinstance(self._make, Stamped):
            properties, payload = b"", self._make.payload(number, due_ms)
        else:
            properties, payload = self._make(number)
        packed = _varint(len(properties)) + properties
        body = self._topic + packet_id.to_bytes(2, "big") + packed + payload
        return b"\x32" + _varint(len(body)) + body

    def _acknowledged(self, packet_id: int, code: int) -> None:
        number, _ = self._open.pop(packet_id)
        self._free.append(packet_id)
        if not self._open:
            self.idle.set()
        if code < 0x80:
            self.outcome.acknowledged[number] = 1
            self.outcome.nobody += code == 0x10
        else:
            self.outcome.refused[code] = self.outcome.refused.get(code, 0) + 1


def _receive_maximum(connack: bytes) -> int:
    """Source: MQTT 5.0, 3.2.2.3. Properties before it are of known sizes, or texts."""
    sizes = {0x11: 4, 0x24: 1, 0x25: 1, 0x27: 4, 0x22: 2, 0x28: 1, 0x29: 1, 0x2A: 1, 0x13: 2}
    at, end = 3, 3 + connack[2]
    while at < end:
        kind = connack[at]
        if kind == 0x21:
            return int(struct.unpack_from("!H", connack, at + 1)[0])
        if kind not in sizes:
            break
        at += 1 + sizes[kind]
    return 65_535


def _connect_packet(client: Client) -> bytes:
    body = _string("MQTT") + b"\x05\xc2" + struct.pack("!H", _KEEPALIVE_S) + b"\x00"
    body += _string(client.client_id) + _string(client.username) + _string(client.password)
    return b"\x10" + _varint(len(body)) + body


def _string(text: str) -> bytes:
    data = text.encode()
    return struct.pack("!H", len(data)) + data


def _text_property(kind: int, text: str) -> bytes:
    return bytes([kind]) + _string(text)


def _user_property(name: str, value: str) -> bytes:
    return b"\x26" + _string(name) + _string(value)


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def main() -> int:
    """The command; one JSON line at the end."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--url", required=True)
    parser.add_argument("--clients", type=Path, required=True)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--rate", type=float)
    parser.add_argument("--window", type=int, default=100)
    args = parser.parse_args()
    url = urlsplit(args.url)
    clients = [Client(**entry) for entry in json.loads(args.clients.read_text(encoding="utf-8"))]
    work: list[tuple[Client, Messages]] = [
        (c, batches([c.client_id]) if c.topic.endswith("/batches") else single(c.client_id)) for c in clients
    ]
    started = time.monotonic()
    outcomes = asyncio.run(
        publish(url.hostname or "", url.port or 1883, work, seconds=args.seconds, rate=args.rate, window=args.window)
    )
    elapsed = time.monotonic() - started
    taken = sum(outcome.taken for outcome in outcomes)
    summary = {
        "sent": sum(outcome.sent for outcome in outcomes),
        "taken": taken,
        "refused": sum(sum(outcome.refused.values()) for outcome in outcomes),
        "seconds": round(elapsed, 3),
        "per_s": round(taken / elapsed),
        "cpu_s": round(time.process_time(), 2),
    }
    print(json.dumps(summary))
    return 0


if __name__ == "__main__":
    sys.exit(main())
