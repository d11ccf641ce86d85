"""What tests do with a gateway of real parts: devices on its broker, a look into its outbox, a hub of their own."""

import asyncio
import json
import os
import sqlite3
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import pytest

from deploy.site import Gateway, Identity
from deploy.stack import LocalBroker
from edge_agent.mqtt import Connection, Incoming, Options
from shared.batch import (
    Ack,
    EventRecord,
    Header,
    ReadingRecord,
    Record,
    decode_header,
    decode_record,
    decode_records,
    encode_ack,
    unpack,
)
from shared.config import Secret
from shared.errors import Rejected
from shared.topics import Channel, build, parse, subscription

NOWHERE = "mqtt://127.0.0.1:9"
IDENTITY = Identity("gw-1", "k:test", Secret("secret"))


def records(gateway: Gateway) -> list[Record]:
    """What the outbox holds, in order of acceptance."""
    db = sqlite3.connect(f"file:{gateway.data_dir / 'outbox.db'}?mode=ro", uri=True)
    try:
        rows = [decode_record(record) for (record,) in db.execute("SELECT record FROM rows ORDER BY seq")]
    finally:
        db.close()
    assert not [row for row in rows if isinstance(row, Rejected)]
    return rows  # type: ignore[return-value]  # the Rejected are asserted away


def numbers(gateway: Gateway) -> dict[str, list[int]]:
    """`n` of each device's readings, in order of acceptance."""
    found: dict[str, list[int]] = {}
    for record in records(gateway):
        if isinstance(record, ReadingRecord) and "n" in record.metrics:
            found.setdefault(record.device, []).append(int(record.metrics["n"]))
    return found


def reading(n: int, **fields: object) -> bytes:
    return json.dumps({"ts": time.time_ns() // 1_000_000, "n": n, "temperature": 20.0} | fields).encode()


async def until(condition: Callable[[], object], within_s: float = 30.0) -> None:
    async with asyncio.timeout(within_s):
        while not await asyncio.to_thread(condition):
            await asyncio.sleep(0.05)


@asynccontextmanager
async def device(gateway: Gateway, name: str) -> AsyncIterator[Callable[..., "asyncio.Future[int]"]]:
    """Publishes as the device does; the future is the broker's PUBACK."""
    async with Connection(Options(gateway.broker.url, name)) as connection:
        topic = build(Channel.TELEMETRY, name)  # type: ignore[arg-type]

        def publish(payload: bytes, **more: object) -> "asyncio.Future[int]":
            return connection.publish(topic, payload, **more)  # type: ignore[arg-type]

        yield publish


def gateway_status(gateway: Gateway) -> dict:
    done = subprocess.run(
        [sys.executable, "-m", "edge_agent", "status", "--json"],
        env=os.environ | dict(gateway.env), capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    found = json.loads(done.stdout)
    assert done.returncode == (0 if found["ready"] else 1)
    return found


class Hub:
    """Acknowledges every batch unless it is `silent`; what it got. A batch that comes again is taken once."""

    def __init__(self, connection: Connection) -> None:
        self.silent = False
        self.headers: list[Header] = []
        self.records: list[Record] = []
        self._connection = connection
        self._known: set[tuple[str, int]] = set()

    async def serve(self) -> None:
        """Until cancelled."""
        while True:
            for message in await self._connection.receive():
                self._take(message)

    def _take(self, message: Incoming) -> None:
        header = decode_header(dict(message.user_properties))
        assert not isinstance(header, Rejected)
        unpacked = unpack(message.payload)
        assert not isinstance(unpacked, Rejected)
        found = decode_records(unpacked)
        assert not isinstance(found, Rejected)
        self.headers.append(header)
        if (header.epoch, header.number) not in self._known:
            self._known.add((header.epoch, header.number))
            self.records.extend(record for record in found if not isinstance(record, tuple))
        if not self.silent:
            address = parse(message.topic)
            assert address is not None
            acks = build(Channel.ACKS, address.owner)
            self._connection.publish(acks, encode_ack(Ack({header.epoch: [header.number]})))
        self._connection.ack(message)

    def numbers(self, device: str) -> list[int]:
        """`n` of the device's readings, in order of arrival."""
        return [
            int(record.metrics["n"])
            for record in self.records
            if isinstance(record, ReadingRecord) and record.device == device and "n" in record.metrics
        ]

    def events(self) -> dict[str, dict[str, object]]:
        """What happened to the gateway, by name."""
        return {record.name: record.data for record in self.records if isinstance(record, EventRecord)}


@contextmanager
def small_file_system(place: Path, mib: int) -> Iterator[Path]:
    """One of so many MiB, to be filled. Where none can be mounted others skip, and CI, which must prove it, fails."""
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={mib}m,mode=0700", "tmpfs", str(place)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        why = "" if done.returncode == 0 else done.stderr.strip()
    except OSError as error:
        why = str(error)
    if why and os.environ.get("CI", "").lower() == "true":
        pytest.fail(f"no small file system to fill: {why}")
    if why:
        pytest.skip(f"needs root to mount a small file system: {why}")
    try:
        yield place
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)


@asynccontextmanager
async def hub(broker: LocalBroker) -> AsyncIterator[Hub]:
    """A hub on this broker."""
    async with Connection(Options(broker.url, "_hub")) as connection:
        await connection.subscribe(subscription(Channel.BATCHES))
        made = Hub(connection)
        serving = asyncio.ensure_future(made.serve())
        try:
            yield made
        finally:
            serving.cancel()
            await asyncio.gather(serving, return_exceptions=True)
