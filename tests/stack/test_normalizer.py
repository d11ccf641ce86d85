"""The normaliser on real Kafka: all bad input, dead letters and back, and SIGKILL in the middle."""

import asyncio
import base64
import json
import random
import shutil
import subprocess
import sys
import time
import zlib
from collections import Counter, defaultdict
from itertools import pairwise
from pathlib import Path

import asyncpg
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient

from control_plane.analytics.records import EventType, Flag
from control_plane.db.kafka_reader import stop_reader
from control_plane.db.setup import SetupConfig, set_up
from deploy.stack import Stack
from shared import limits
from shared.batch import BytesRecord, Lane
from shared.config import load
from shared.device import encode_view
from shared.envelope import rfc3339
from shared.errors import Reason
from shared.topics import Kafka
from tests.stack.hub_process import CHECKOUT, HubProcess, until
from tests.unit.control_plane.analytics.raw_kit import ReadBack, batched, cut, device, direct, gateway, reading

pytestmark = [pytest.mark.stack, pytest.mark.timeout(300)]

OUT = (Kafka.NORMALIZED, Kafka.REJECTED, Kafka.GAP)


@pytest.fixture
async def env(stack: Stack, database_url, server_dir):
    """A hub of its own in fresh tables, on the shared Kafka."""
    env = stack.env() | {
        "HUB_DATABASE_URL": database_url,
        "HUB_DATA_DIR": str(server_dir),
        "HUB_ADMIN_TOKEN_FILE": str(server_dir / "admin-token"),
    }
    await set_up(load(SetupConfig, env), wait_s=30, say=print)
    return env


@pytest.fixture
def normalizer(env):
    with HubProcess(["analytics", "normalizer"], env, service="normalizer") as process:
        yield process


class Topics:
    """Writes raw and registry, reads what came of it."""

    def __init__(self, bootstrap):
        self._bootstrap = bootstrap
        self._producer = AIOKafkaProducer(
            bootstrap_servers=bootstrap,
            acks="all",
            enable_idempotence=True,
            linger_ms=5,
            max_request_size=2**21,
            request_timeout_ms=120_000,  # a killed Kafka on a busy machine
        )

    async def __aenter__(self):
        await self._producer.start()
        self._begin = {topic: await self._ends(topic) for topic in OUT}
        return self

    async def __aexit__(self, *_):
        await self._producer.stop()

    async def register(self, *views):
        for view in views:
            await self._producer.send_and_wait(Kafka.REGISTRY, encode_view(view), view.id.encode())

    async def write(self, *records):
        """In order."""
        waiting = [
            await self._producer.send(Kafka.RAW, record.value, record.key, headers=record.headers)
            for record in records
        ]
        await asyncio.gather(*waiting)

    async def _consumer(self, topic):
        consumer = AIOKafkaConsumer(
            bootstrap_servers=self._bootstrap,
            isolation_level="read_committed",
            enable_auto_commit=False,
            max_partition_fetch_bytes=2**22,
        )
        await consumer.start()
        consumer.assign([TopicPartition(topic, 0)])
        await consumer.end_offsets([TopicPartition(topic, 0)])
        partitions = [TopicPartition(topic, number) for number in consumer.partitions_for_topic(topic)]
        consumer.assign(partitions)
        return consumer, partitions

    async def caught_up(self):
        """Until the normaliser has done with all that stands in raw: other tests wrote there too."""
        admin = AIOKafkaAdminClient(bootstrap_servers=self._bootstrap)
        await admin.start()
        try:

            async def done():
                ends = await self._ends(Kafka.RAW)
                stands = await admin.list_consumer_group_offsets("hub-normalizer")
                return all(p in stands and stands[p].offset >= end for p, end in ends.items() if end)

            await until(done, "the normaliser has caught up")
        finally:
            await admin.close()

    async def _ends(self, topic):
        consumer, partitions = await self._consumer(topic)
        try:
            return await consumer.end_offsets(partitions)
        finally:
            await stop_reader(consumer)

    async def read(self, topic, senders, enough, *, wait_s=60.0, seen_at=None):
        """What stands in `topic` since the start under keys of `senders`, once `enough(found)`."""
        consumer, _ = await self._consumer(topic)
        found = []
        try:
            for partition, offset in self._begin[topic].items():
                consumer.seek(partition, offset)
            deadline = time.monotonic() + wait_s
            while not enough(found):
                assert time.monotonic() < deadline, f"{len(found)} in {topic} after {wait_s} s"
                batches = await consumer.getmany(timeout_ms=50)
                now = time.monotonic()
                for records in batches.values():
                    for record in records:
                        if record.key.decode() in senders:
                            found.append(ReadBack(record_as_output(topic, record)))
                            if seen_at is not None:
                                seen_at.append(now)
            return found
        finally:
            await stop_reader(consumer)


class record_as_output:  # noqa: N801 - stands for a job's Output
    def __init__(self, topic, record):
        self.topic, self.key, self.value, self.headers = topic, record.key, record.value, list(record.headers)


@pytest.fixture
async def topics(env):
    async with Topics(env["HUB_KAFKA_BOOTSTRAP"]) as made:
        yield made


def hub(env, *words):
    """Runs a command; (exit status, standard output)."""
    done = subprocess.run(
        [sys.executable, "-m", "control_plane", *words],
        cwd=CHECKOUT,
        env={"PATH": "/usr/bin:/bin", **env},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    return done.returncode, done.stdout


def count(number):
    return lambda found: len(found) >= number


async def test_all_bad_input_is_refused_with_its_bytes_and_the_flow_goes_on(env, normalizer, topics, device_id):
    now_ms = time.time_ns() // 1_000_000
    solo, gw, own, foreign = device_id(), device_id(), device_id(), device_id()
    await topics.register(device(solo), gateway(gw), device(own, gw), device(foreign, "somebody-else"))
    await until(normalizer.ready, "the normaliser is ready")
    await topics.caught_up()
    counted = ("telemetry_raw_records_total", "telemetry_rejected_total", "telemetry_readings_normalized_total")
    before = {name: normalizer.metric(name) for name in counted}
    repeats = normalizer.metric("telemetry_raw_records_total", fate="repeat")
    stamp = rfc3339(now_ms)
    messages = {
        Reason.MALFORMED: b'{"ts": "' + stamp.encode() + b'", "a": ',
        Reason.MISSING_TS: b'{"temperature": 21.5}',
        Reason.BAD_TS: b'{"ts": "yesterday", "a": 1}',
        Reason.NOT_FINITE: b'{"ts": 1, "a": NaN}',
        Reason.BAD_FIELD: b'{"ts": 1, "a": {"b": 1}}',
    }
    infinite = b'{"ts": 1, "a": -Infinity}'
    large = direct(b'{"ts": 1, "a": "' + b"x" * 1_000_000 + b'"}', solo)
    records = [direct(payload, solo, now_ms) for payload in [*messages.values(), infinite]]
    records += [
        cut(large, len(large.value)),
        direct({"ts": stamp, "unheard_of": 5}, solo, now_ms),
        direct({"ts": stamp, "a": 1}, "nobody-" + solo, now_ms),
        direct({"ts": "1970-01-01T00:00:00Z", "n": 1970}, solo, now_ms),
        direct({"ts": "2099-01-01T00:00:00Z", "n": 2099}, solo, now_ms),
    ]
    whole = reading(own, now_ms)
    bomb = zlib.compress(b"[" + b" " * (limits.BATCH_UNPACKED_BYTES + 1) + b"]", 9)
    bad_bytes = BytesRecord(own, now_ms, b"no json", 7, "0" * 64)
    sound = batched([whole], sender=gw)
    packed = [
        batched([whole, reading(foreign, now_ms), bad_bytes], 1, sender=gw, received_ms=now_ms),
        batched([whole], 2, sender=gw, marks={"schema": "7"}),
        batched([whole], 3, sender=gw, payload=sound.value[: len(sound.value) // 2]),
        batched([whole], 4, sender=gw, payload=bomb),
        batched([whole], 5, sender=gw, marks={"records": "2"}),
        batched([whole], 6, sender=gw, marks={"floor": "7"}),
        batched([whole], 7, sender=solo),
        batched([whole], 8, sender="nobody-" + gw),
        batched([reading(own, now_ms, metrics={"last": 1.0})], 9, sender=gw, received_ms=now_ms),
    ]
    await topics.write(*records, *packed)
    everyone = {solo, gw, own, foreign, "nobody-" + solo, "nobody-" + gw}
    kept = await topics.read(Kafka.NORMALIZED, everyone, lambda found: any("last" in r.data.metrics for r in found))
    rejected = await topics.read(Kafka.REJECTED, everyone, count(17))

    by_payload = {base64.b64decode(letter.data.payload_base64): letter for letter in rejected}
    for reason, payload in messages.items():
        assert by_payload[payload].data.reason == reason
    assert by_payload[infinite].data.reason == Reason.NOT_FINITE
    assert Counter(letter.data.reason for letter in rejected) == {
        Reason.MALFORMED: 2, Reason.MISSING_TS: 1, Reason.BAD_TS: 1, Reason.NOT_FINITE: 2, Reason.BAD_FIELD: 1,
        Reason.TOO_LARGE: 1, Reason.UNKNOWN_DEVICE: 1, Reason.UNKNOWN_GATEWAY: 1, Reason.FOREIGN_DEVICE: 1,
        Reason.SCHEMA_VERSION: 1, Reason.TRUNCATED: 1, Reason.BOMB: 1, Reason.PROTOCOL: 3,
    }  # fmt: skip
    (too_large,) = (letter.data for letter in rejected if letter.data.reason == Reason.TOO_LARGE)
    assert (too_large.length, too_large.sha256) == (len(large.value), "0" * 64)
    assert base64.b64decode(too_large.payload_base64) == large.value[: limits.KEPT_OF_OVERSIZED_BYTES]
    assert by_payload[b"no json"].key == own
    assert {record.data.metrics.get("n"): record.data for record in kept if record.key == solo}.keys() == {
        None,
        1970,
        2099,
    }
    for record in kept:
        if "n" in record.data.metrics:
            assert record.data.quality.flags == (Flag.TS_IMPLAUSIBLE,)
            assert record.data.ts == stamp
    assert [record.data.metrics for record in kept if record.key == own] == [{"temperature": 21.5}, {"last": 1.0}]

    # Each raw record had one fate, each reading one place.
    assert normalizer.metric("telemetry_raw_records_total", fate="repeat") == repeats
    found = [normalizer.metric(name) - before[name] for name in counted]
    assert found == [len(records) + len(packed), len(rejected), len(kept)]
    assert normalizer.stop() == 0


async def test_dead_letters_are_listed_shown_and_brought_back_once(env, normalizer, topics, device_id):
    now_ms = time.time_ns() // 1_000_000
    late, gw, cut_one = device_id(), device_id(), device_id()
    await topics.register(gateway(gw), device(cut_one))
    await until(normalizer.ready, "the normaliser is ready")
    large = direct(b"x" * 300_000, cut_one)
    await topics.write(
        direct({"ts": now_ms, "n": 1}, late, now_ms),
        batched([reading(late, now_ms, metrics={"n": 2})], sender=gw, received_ms=now_ms),
        cut(large),
    )
    dead = await topics.read(Kafka.REJECTED, {late, cut_one}, count(3))
    assert Counter(letter.data.reason for letter in dead) == {Reason.UNKNOWN_DEVICE: 2, Reason.TOO_LARGE: 1}
    ids = {letter.id for letter in dead if letter.key == late}

    status, out = hub(env, "deadletters", "list", "--device", late, "--json")
    assert status == 0
    listed = [json.loads(line) for line in out.splitlines()]
    assert {letter["ce_id"] for letter in listed} == ids
    assert {letter["reason"] for letter in listed} == {"unknown_device"}
    assert hub(env, "deadletters", "list", "--device", late, "--since", rfc3339(now_ms + 60_000))[1] == ""
    (through_gateway,) = (letter["ce_id"] for letter in listed if letter["origin"]["kind"] == "batches")
    status, out = hub(env, "deadletters", "show", through_gateway, "--json")
    shown = json.loads(out)
    assert (status, shown["origin"]["sender"], shown["replayable"]) == (0, gw, True)
    status, out = hub(env, "deadletters", "show", through_gateway)
    assert (status, "unknown_device" in out) == (0, True)
    assert hub(env, "deadletters", "show", "nothing")[0] == 3
    (too_large,) = (letter.id for letter in dead if letter.key == cut_one)
    status, out = hub(env, "deadletters", "replay", "--id", too_large, "--json")
    assert (status, json.loads(out)) == (1, {"replayed": 0, "cut": 1, "last_id": None})
    assert hub(env, "deadletters", "replay")[0] == 2
    assert hub(env, "deadletters", "replay", "--reason", "whim")[0] == 2
    assert hub(env, "deadletters", "replay", "--id", "nothing")[0] == 3

    # Brought back before the cause is mended: refused again, and nothing new is written.
    assert hub(env, "deadletters", "replay", "--device", late)[0] == 0
    await until(
        lambda: normalizer.metric("telemetry_replayed_total", fate="rejected") == 2, "both were refused again"
    )
    known = normalizer.metric("registry_view_devices")
    await topics.register(device(late, gw))
    await until(lambda: normalizer.metric("registry_view_devices") == known + 1, "the view knows the device")
    await topics.write(direct({"ts": now_ms, "n": 3}, late, now_ms))
    for fate in ("normalized", "repeat"):
        status, out = hub(env, "deadletters", "replay", "--reason", "unknown_device", "--device", late, "--json")
        assert (status, json.loads(out)["replayed"]) == (0, 2)
        await until(
            lambda fate=fate: normalizer.metric("telemetry_replayed_total", fate=fate) == 2, f"both came back: {fate}"
        )
    await topics.write(direct({"ts": now_ms, "n": 4}, late, now_ms))
    kept = await topics.read(Kafka.NORMALIZED, {late}, lambda found: any(r.data.metrics["n"] == 4 for r in found))
    back = [record for record in kept if record.data.lane is Lane.REPLAY]
    assert {record.id for record in back} == ids
    assert len(kept) == 4
    assert {record.data.gateway_id for record in back} == {None, gw}
    assert len(await topics.read(Kafka.REJECTED, {late}, count(2))) == 2


async def test_a_device_that_only_postgres_knows_is_heard(env, normalizer, topics, device_id):
    name = device_id()
    await until(normalizer.ready, "the normaliser is ready")
    connection = await asyncpg.connect(env["HUB_DATABASE_URL"])
    try:
        await connection.execute("INSERT INTO device_types (name) VALUES ('thermometer')")
        await connection.execute(
            "INSERT INTO devices (id, serial, type, kind, status, registered_at)"
            " VALUES ($1, $1, 'thermometer', 'device', 'active', now())",
            name,
        )
    finally:
        await connection.close()
    await topics.write(direct({"ts": time.time_ns() // 1_000_000}, name))
    (record,) = await topics.read(Kafka.NORMALIZED, {name}, count(1))
    assert record.data.device_type == "thermometer"


async def test_while_kafka_is_away_it_answers_is_not_ready_and_obeys(server_dir):
    env = {"HUB_DATA_DIR": str(server_dir), "HUB_KAFKA_BOOTSTRAP": "127.0.0.1:9"}
    with HubProcess(["analytics", "normalizer"], env, service="normalizer") as process:
        await until(lambda: process.get("/healthz")[0] == 200, "it answers while it waits")
        assert process.get("/readyz")[0] == 503
        assert process.stop() == 0


class Load:
    """Gateways and direct devices that write on while others are killed; each reading has a counter `n`."""

    def __init__(self, topics, gateways, solos):
        self.topics = topics
        self.gateways = gateways  # name -> devices
        self.solos = solos
        self.sent = defaultdict(list)  # (device, lane) -> n, in order
        self._numbers = Counter()
        self._n = Counter()
        self._random = random.Random(7)
        self.stopping = asyncio.Event()

    @property
    def devices(self):
        return {*self.solos, *(name for devices in self.gateways.values() for name in devices)}

    def _next(self, name, lane):
        self._n[name] += 1
        self.sent[name, lane].append(self._n[name])
        return self._n[name]

    def _batch(self, sender, devices):
        now_ms = time.time_ns() // 1_000_000
        self._numbers[sender] += 1
        number = self._numbers[sender]
        lane = Lane.REPLAY if self._random.random() < 0.3 else Lane.LIVE
        records = [
            reading(name, now_ms, metrics={"n": self._next(name, lane)}) for name in devices for _ in range(10)
        ]
        return batched(records, number, sender=sender, received_ms=now_ms, lane=lane, floor=max(1, number - 5))

    async def run(self):
        recent = defaultdict(list)
        while not self.stopping.is_set():
            records = []
            for sender, devices in self.gateways.items():
                made = self._batch(sender, devices)
                recent[sender] = [*recent[sender][-4:], made]
                records.append(made)
                if self._random.random() < 0.2:
                    records.append(self._random.choice(recent[sender]))  # a copy, late
            for name in self.solos:
                now_ms = time.time_ns() // 1_000_000
                made = direct({"ts": now_ms, "n": self._next(name, Lane.LIVE)}, name, now_ms)
                records += [made] * (2 if self._random.random() < 0.2 else 1)
            await self.topics.write(*records)
            await asyncio.sleep(0.02)

    def check(self, kept):
        got = defaultdict(list)
        for record in kept:
            assert record.type is EventType.READING
            got[record.key, record.data.lane].append(record.data.metrics["n"])
        for place, numbers in self.sent.items():
            assert got[place] == numbers, place  # each once, in order
        assert sum(map(len, got.values())) == sum(map(len, self.sent.values()))


@pytest.fixture
async def busy(topics, device_id):
    gateways = {device_id(): [device_id() for _ in range(3)] for _ in range(4)}
    load = Load(topics, gateways, [device_id() for _ in range(4)])
    for sender, devices in gateways.items():
        await topics.register(gateway(sender), *(device(name, sender) for name in devices))
    await topics.register(*(device(name) for name in load.solos))
    return load


async def _killing(load, kill, wounds):
    """Write all the while; `kill` is called `wounds` times at random moments."""
    task = asyncio.create_task(load.run())
    chance = random.Random(11)
    try:
        for _ in range(wounds):
            await asyncio.sleep(chance.uniform(0.5, 2.0))
            await kill()
        await asyncio.sleep(1.0)
    finally:
        load.stopping.set()
        await task


async def test_sigkill_under_load_loses_and_doubles_nothing(env, normalizer, topics, busy):
    await until(normalizer.ready, "the normaliser is ready")
    cold = iter([False, True, False])  # once its disk is lost too

    async def kill():
        normalizer.kill()
        if next(cold):
            shutil.rmtree(Path(env["HUB_DATA_DIR"]) / "analytics")
        normalizer.start()
        await until(normalizer.ready, "it is back")

    seen_at = []
    wanted = lambda found: len(found) >= sum(map(len, busy.sent.values())) and busy.stopping.is_set()  # noqa: E731
    watching = asyncio.create_task(topics.read(Kafka.NORMALIZED, busy.devices, wanted, wait_s=120, seen_at=seen_at))
    await _killing(busy, kill, 3)
    kept = await watching
    busy.check(kept)
    assert not await topics.read(Kafka.GAP, set(busy.gateways), lambda _: True)
    assert not await topics.read(Kafka.REJECTED, busy.devices | set(busy.gateways), lambda _: True)
    stalls = sorted((b - a for a, b in pairwise(seen_at)), reverse=True)[:3]
    sys.stderr.write(f"readers stood still {[round(s, 1) for s in stalls]} s at most; {len(kept)} readings\n")


async def test_a_second_process_shares_the_work_and_takes_over(env, normalizer, topics, busy):
    await until(normalizer.ready, "the normaliser is ready")
    second = HubProcess(["analytics", "normalizer"], env | {"HUB_ANALYTICS_INSTANCE": "b"}, service="normalizer-b")
    with second:

        async def kill():
            if second.returncode() is None:
                await until(second.ready, "the second is ready")
                await until(lambda: second.metric("telemetry_raw_records_total") > 0, "the second has work")
                second.kill()
            else:
                normalizer.kill()
                second.start()

        await _killing(busy, kill, 2)
        wanted = sum(map(len, busy.sent.values()))
        kept = await topics.read(Kafka.NORMALIZED, busy.devices, count(wanted), wait_s=120)
        busy.check(kept)


async def test_sigkill_of_kafka_ends_the_job_and_loses_nothing(stack, env, normalizer, topics, busy):
    await until(normalizer.ready, "the normaliser is ready")
    began = time.monotonic()
    ended = []

    async def supervise():
        """Start it again whenever it ends, as `hub serve` does: it may end late, when its transaction times out."""
        while True:
            await until(lambda: normalizer.returncode() is not None, "it ends", wait_s=300)
            ended.append(normalizer.returncode())
            normalizer.start()

    async def kill():
        await asyncio.to_thread(stack.kafka.kill)
        await asyncio.to_thread(stack.kafka.start)
        await until(lambda: normalizer.get("/readyz")[0] == 200, "it is back")

    supervising = asyncio.create_task(supervise())
    try:
        await _killing(busy, kill, 1)
        wanted = sum(map(len, busy.sent.values()))
        kept = await topics.read(Kafka.NORMALIZED, busy.devices, count(wanted), wait_s=120)
    finally:
        supervising.cancel()
    busy.check(kept)
    assert set(ended) <= {1}
    sys.stderr.write(f"exit statuses {ended}, {time.monotonic() - began:.1f} s in all\n")
