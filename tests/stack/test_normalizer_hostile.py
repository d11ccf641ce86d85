"""Batches that a gateway in wrong hands could send: each is refused within bounds, and nobody else stands still."""

import base64
import hashlib
import json
import time
import zlib
from collections import Counter

import pytest

from control_plane.analytics.job import Incoming
from control_plane.analytics.unpacking import OPENED_READINGS
from shared import limits
from shared.errors import Reason
from shared.topics import Kafka
from tests.stack.analytics_bench import migrated
from tests.stack.hub_process import HubProcess, until
from tests.stack.test_normalizer import Topics
from tests.unit.control_plane.analytics.raw_kit import batched, device, direct, gateway, reading

pytestmark = [pytest.mark.stack, pytest.mark.timeout(300)]

LARGE = 3 * limits.MIB


@pytest.fixture
async def env(stack, database_url, server_dir):
    return await migrated(stack.env(), server_dir, database_url)


@pytest.fixture
async def topics(env):
    async with Topics(env["HUB_KAFKA_BOOTSTRAP"]) as made:
        yield made


@pytest.fixture
def normalizer(env):
    with HubProcess(["analytics", "normalizer"], env, service="normalizer") as process:
        yield process


def packed(*records: object) -> bytes:
    """A payload that no agent of ours packs: JSON as given, within the batch's limits."""
    made = zlib.compress(json.dumps(records, separators=(",", ":")).encode(), 9)
    assert len(made) < limits.BATCH_PACKED_BYTES
    return made


def hostile(gw: str, own: str, now_ms: int) -> list[Incoming]:
    """Small on the way in, too large on the way out, each in its own way."""
    text = "x" * LARGE
    as_bytes = base64.b64encode(b"x" * (2 * limits.MIB)).decode()
    objects = base64.b64encode(b"[" + b",".join([b"{}"] * 990) + b"]").decode()
    payloads = [
        packed(["no such record", text]),
        packed(["event", own, now_ms, "no name!", {"a": text}]),
        packed(["event", own, now_ms, "a_name", {"a": text}]),
        packed(["event", text, now_ms, "a_name", {}]),
        packed(["reading", own, now_ms, now_ms, now_ms, {"a": text}, None, None, "synced", None]),
        packed(["bytes", own, now_ms, as_bytes, 2 * limits.MIB, "0" * 64]),
        packed(["bytes", own, now_ms, "YQ==", 10**9, text]),
        packed(*[["bytes", own, now_ms, objects, 2, "0"]] * 900),
    ]
    counts = [1] * 7 + [900]
    return [
        batched([reading(own, now_ms)] * count, number, sender=gw, payload=payload, received_ms=now_ms)
        for number, (payload, count) in enumerate(zip(payloads, counts, strict=True), 1)
    ]


async def test_small_batches_that_become_large_stop_nobody(env, normalizer, topics, device_id):
    now_ms = time.time_ns() // 1_000_000
    gw, own, solo = device_id(), device_id(), device_id()
    await topics.register(gateway(gw), device(own, gw), device(solo))
    await until(normalizer.ready, "the normaliser is ready")
    bad = hostile(gw, own, now_ms)
    good = batched([reading(own, now_ms)], len(bad) + 1, sender=gw, received_ms=now_ms)
    # What stands behind them, in their partition or another, must come through.
    await topics.write(*bad, good, direct({"ts": now_ms, "n": 1}, solo, now_ms))
    kept = await topics.read(Kafka.NORMALIZED, {own, solo}, lambda found: len(found) >= 2)
    assert {record.key for record in kept} == {own, solo}
    assert normalizer.returncode() is None
    opened = (OPENED_READINGS // 990) * 990
    whole = 900 - OPENED_READINGS // 990
    rejected = await topics.read(Kafka.REJECTED, {gw, own}, lambda found: len(found) >= 7 + opened + whole)
    assert Counter(letter.data.reason for letter in rejected) == {
        Reason.MALFORMED: 2, Reason.BAD_FIELD: 3, Reason.UNKNOWN_DEVICE: 1, Reason.TOO_LARGE: 1,
        Reason.MISSING_TS: opened, Reason.BOMB: whole,
    }  # fmt: skip
    by_number = {letter.data.origin.number: letter.data for letter in rejected}
    for number in (1, 2, 3, 4, 5):
        record = zlib.decompress(bad[number - 1].value)[1:-1]
        letter = by_number[number]
        assert base64.b64decode(letter.payload_base64) == record[: limits.KEPT_OF_OVERSIZED_BYTES]
        assert (letter.length, letter.sha256) == (len(record), hashlib.sha256(record).hexdigest())
    assert all(len(letter.output.value) < limits.MIB for letter in rejected)
    assert normalizer.stop() == 0


async def test_whatever_else_is_too_large_for_kafka_is_replaced_by_its_beginning(env, normalizer, topics, device_id):
    """Nothing that ingest writes leads here: a header that it would have left out stands for what we forgot."""
    now_ms = time.time_ns() // 1_000_000
    solo = device_id()
    await topics.register(device(solo))
    await until(normalizer.ready, "the normaliser is ready")
    huge = direct({"ts": now_ms, "n": 0}, solo, now_ms)
    headers = [(name, value) for name, value in huge.headers if name != "ce_id"]
    huge = huge._replace(headers=[*headers, ("ce_id", b"x" * (limits.KAFKA_MESSAGE_BYTES - 4 * limits.KIB))])
    await topics.write(huge, direct({"ts": now_ms, "n": 1}, solo, now_ms))
    (kept,) = await topics.read(Kafka.NORMALIZED, {solo}, lambda found: len(found) >= 1)
    assert kept.data.metrics["n"] == 1
    (letter,) = await topics.read(Kafka.REJECTED, {solo}, lambda found: len(found) >= 1)
    assert letter.data.reason == Reason.TOO_LARGE
    assert normalizer.metric("stream_outputs_too_large_total") == 1
    assert "output_too_large" in normalizer.log_end()
    assert normalizer.stop() == 0


async def test_what_a_stopped_ingest_writes_again_is_seen_once(env, normalizer, topics, device_id):
    """Five readings a second; the one that was stopped wakes after a minute and writes all that again, as it was."""
    now_ms = time.time_ns() // 1_000_000
    solo = device_id()
    await topics.register(device(solo))
    await until(normalizer.ready, "the normaliser is ready")
    sent = [direct({"ts": now_ms + n * 200, "n": n}, solo, now_ms + n * 200) for n in range(301)]
    await topics.write(*sent[:300], *sent[:300], sent[300])
    kept = await topics.read(Kafka.NORMALIZED, {solo}, lambda found: any(r.data.metrics["n"] == 300 for r in found))
    assert [record.data.metrics["n"] for record in kept] == list(range(301))
    assert normalizer.stop() == 0
