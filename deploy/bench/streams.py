"""One normaliser and one sink, each alone with a full topic before it."""

import asyncio
import time
from collections.abc import Sequence

import asyncpg
from aiokafka import AIOKafkaProducer

from deploy.bench.rig import Rig
from deploy.site.topics import consumer
from shared import batch, envelope
from shared.errors import Transient
from shared.ids import new_epoch
from shared.topics import Kafka

GATEWAYS = 4
DEVICES_EACH = 10
BATCHES_EACH = 1_000
READINGS = 100
TOTAL = GATEWAYS * BATCHES_EACH * READINGS
_WAIT_S = 180.0
_MIDDLE = (0.1, 0.9)
"""The share of the records between whose first and last sight the rate is taken: neither start nor tail counts."""


def normalizer(runs: int) -> dict[str, list[float]]:
    """Readings/s of one normaliser process over raw batches of 100, exactly-once."""
    rates = []
    for _ in range(runs):
        with Rig() as rig:
            _fill(rig)
            with rig.service("analytics", "normalizer"):
                rates.append(asyncio.run(_visible(rig)))
    return {"normalizer_readings_per_s": rates}


def sink(runs: int) -> dict[str, list[float]]:
    """Rows/s of one sink process into PostgreSQL."""
    rates = []
    for _ in range(runs):
        with Rig() as rig:
            _fill(rig)
            with rig.service("analytics", "normalizer"):
                asyncio.run(_visible(rig))
            with rig.service("analytics", "sink"):
                rates.append(asyncio.run(_rows(rig)))
    return {"sink_rows_per_s": rates}


def _fill(rig: Rig) -> None:
    """Put batches of registered gateways into raw, as ingest would."""
    people = rig.register(0, GATEWAYS, DEVICES_EACH)
    asyncio.run(_produce(rig.bootstrap, people.behind))


async def _produce(bootstrap: str, behind: dict[str, list[str]]) -> None:
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap, acks="all", enable_idempotence=True, linger_ms=5)
    await producer.start()
    try:
        for gateway, devices in behind.items():
            epoch = new_epoch()
            for number in range(1, BATCHES_EACH + 1):
                header = batch.Header(
                    epoch=epoch, number=number, floor=max(1, number - 50), lane=batch.Lane.LIVE, records=READINGS
                )
                await producer.send(
                    Kafka.RAW,
                    key=gateway.encode(),
                    value=_payload(devices, number),
                    headers=_headers(gateway, header),
                )
        await producer.flush()
    finally:
        await producer.stop()


def _payload(devices: Sequence[str], number: int) -> bytes:
    now_ms = time.time_ns() // 1_000_000
    records = [
        batch.encode_record(
            batch.ReadingRecord(
                devices[index % len(devices)], now_ms, now_ms, now_ms,
                {"temperature": 20 + (number + index) % 50 / 10, "voltage": 3.7, "n": number * READINGS + index},
                "OK", None, batch.ClockQuality.SYNCED, 2,
            )
        )
        for index in range(READINGS)
    ]  # fmt: skip
    packed = batch.pack(records)
    assert packed is not None
    return packed


def _headers(gateway: str, header: batch.Header) -> list[tuple[str, bytes]]:
    now_ms = time.time_ns() // 1_000_000
    event = envelope.Envelope(
        f"{gateway}:{header.epoch}:{header.number}",
        "iot.telemetry.raw.v1",
        f"/mqtt/gateways/{gateway}",
        now_ms,
        gateway,
        batch.CONTENT_TYPE,
    )
    own = [("received_ms", str(now_ms)), ("topic_kind", "batches"), *batch.encode_header(header)]
    return envelope.headers(event) + [(name, value.encode()) for name, value in own]


async def _visible(rig: Rig) -> float:
    """Readings/s between the first and the last tenth, as a read_committed reader sees them."""
    first, last = (int(share * TOTAL) for share in _MIDDLE)
    seen = 0
    marks: list[tuple[float, int]] = []
    deadline = time.monotonic() + _WAIT_S
    async with consumer(rig.bootstrap, (Kafka.NORMALIZED,), "earliest") as reader:
        while seen < TOTAL:
            seen += sum(map(len, (await reader.getmany(timeout_ms=200)).values()))
            if seen >= (first, last)[len(marks) % 2] and len(marks) < 2:
                marks.append((time.monotonic(), seen))
            _in_time(deadline, seen)
    return _rate(marks)


async def _rows(rig: Rig) -> float:
    first, last = (int(share * TOTAL) for share in _MIDDLE)
    marks: list[tuple[float, int]] = []
    deadline = time.monotonic() + _WAIT_S
    connection = await asyncpg.connect(rig.env["HUB_DATABASE_URL"])
    try:
        rows = 0
        while rows < TOTAL:
            rows = int(await connection.fetchval("select count(*) from telemetry"))
            if rows >= (first, last)[len(marks) % 2] and len(marks) < 2:
                marks.append((time.monotonic(), rows))
            _in_time(deadline, rows)
            await asyncio.sleep(0.05)
    finally:
        await connection.close()
    return _rate(marks)


def _rate(marks: Sequence[tuple[float, int]]) -> float:
    (started, first), (ended, last) = marks
    return (last - first) / (ended - started)


def _in_time(deadline: float, seen: int) -> None:
    if time.monotonic() > deadline:
        raise Transient(f"{seen} of {TOTAL} arrived within {_WAIT_S:.0f} s")
