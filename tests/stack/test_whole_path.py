"""One reading's whole way on real servers: what is promised to a user, as a user would see it."""

import asyncio
import base64
import hashlib
import time
import zlib
from collections import Counter

import pytest

from deploy.chaos.matrix import Victim
from deploy.chaos.run import chaos
from deploy.demo.show import Progress
from deploy.site import Registry
from deploy.site.installation import installed
from deploy.site.topics import read_all
from edge_agent.mqtt import Connection, Options
from shared import batch, limits
from shared.batch import ClockQuality, Header, Lane, ReadingRecord
from shared.config import Secret
from shared.errors import Reason
from shared.ids import new_device_id, new_epoch
from shared.reading import Reading, parse_payload
from shared.topics import Channel, Kafka, build
from tests.stack.whole_site import payload, records_of, silent, until

pytestmark = [pytest.mark.stack, pytest.mark.timeout(600)]


async def test_everything_is_killed_once_and_nothing_is_lost_doubled_or_out_of_order():
    outcome = await chaos(list(Victim), 1, seed=20260101, progress=Progress(), pause_s=3.0)
    assert outcome.kills == len(Victim)
    assert outcome.failures() == []
    assert outcome.count.accepted > 500
    assert outcome.count.health > 0


BAD = {
    "malformed": (b'{"ts": 1, "t": ', Reason.MALFORMED),
    "not utf-8": (b"\xff\xfe\x00", Reason.MALFORMED),
    "empty array": (b" []", Reason.MALFORMED),
    "no ts": (b'{"temperature": 1}', Reason.MISSING_TS),
    "unparsable ts": (b'{"ts": "yesterday", "temperature": 1}', Reason.BAD_TS),
    "nan": (b'{"ts": 1, "temperature": NaN}', Reason.NOT_FINITE),
    "infinity": (b'{"ts": 1, "temperature": -Infinity}', Reason.NOT_FINITE),
    "overflow": (b'{"ts": 1, "temperature": 1e999}', Reason.NOT_FINITE),
    "nested": (b'{"ts": 1, "temperature": {"v": 1}}', Reason.BAD_FIELD),
    "1 MB": (b'{"ts": 1, "note": "' + b"x" * limits.MIB + b'"}', Reason.TOO_LARGE),
}


async def send(site, device, *payloads):
    key_id, _, secret = site.keys[device].partition(".")
    options = Options(site.stack.env()["HUB_MQTT_URL"], device, key_id, Secret(secret))
    async with Connection(options) as connection:
        for item in payloads:
            assert await connection.publish(build(Channel.TELEMETRY, device), item) in (0, 0x10)


async def test_bad_input_is_rejected_with_reason_and_bytes_and_the_flow_goes_on():
    device = new_device_id()
    async with installed({}, [device], "thermometer", silent) as site:
        await send(site, device, *(bad for bad, _ in BAD.values()), payload(n=1))
        early, late = {"ts": "1970-01-01T00:00:00Z"}, {"ts": "2099-12-31T00:00:00Z"}
        await send(site, device, payload(n=2, **early), payload(n=3, **late), payload(n=4, colour="red"))

        async def four():
            found = await records_of(site, Kafka.NORMALIZED, device)
            return {record.json()["metrics"]["n"]: record.json() for record in found} if len(found) >= 4 else None

        normalized = await until(four)
        assert set(normalized) == {1, 2, 3, 4}
        for n, raw in ((2, early["ts"]), (3, late["ts"])):
            assert normalized[n]["ts_raw"] == raw
            assert "ts_implausible" in normalized[n]["quality"]["flags"]
            assert normalized[n]["ts"][:4] not in ("1970", "2099")
        assert normalized[4]["metrics"]["colour"] == "red"

        rejected = [record.json() for record in await records_of(site, Kafka.REJECTED, device)]
        by_digest = {item["sha256"]: item for item in rejected}
        assert len(rejected) == len(BAD)
        for name, (bad, reason) in BAD.items():
            item = by_digest[hashlib.sha256(bad).hexdigest()]
            assert (name, item["reason"]) == (name, reason)
            assert item["length"] == len(bad)
            kept = base64.b64decode(item["payload_base64"])
            assert kept == (bad if len(bad) <= limits.PAYLOAD_BYTES else bad[: limits.KEPT_OF_OVERSIZED_BYTES])


def record(device, n, at_ms=None):
    now = int(time.time() * 1000)
    return batch.encode_record(
        ReadingRecord(
            device, at_ms or now, now, now, {"temperature": 20.0, "n": n}, "OK", None, ClockQuality.SYNCED, 0
        )
    )


async def test_a_batch_is_judged_whole_and_by_record_and_comes_back_when_the_cause_is_mended():
    own, foreign, unknown = (new_device_id() for _ in range(3))
    gateway, other = new_device_id(), new_device_id()
    async with installed({gateway: [own], other: [foreign]}, [], "thermometer", silent) as site:
        epoch = new_epoch()

        async def publish(connection, place, packed, **change):
            header = Header(epoch=epoch, number=place, floor=1, lane=Lane.LIVE, records=change.pop("records", 1))
            properties = [(name, change.get(name, value)) for name, value in batch.encode_header(header)]
            await connection.publish(
                build(Channel.BATCHES, gateway), packed, user_properties=properties, content_type=batch.CONTENT_TYPE
            )

        key = (site.gateways[gateway].data_dir / "key").read_text().strip()
        key_id, _, secret = key.partition(".")
        options = Options(site.stack.env()["HUB_MQTT_URL"], gateway, key_id, Secret(secret))
        good = batch.pack([record(own, 1)])
        async with Connection(options) as connection:
            mixed = batch.pack([record(own, 2), record(foreign, 3), record(unknown, 4), b'["riddle"]'])
            await publish(connection, 1, good)
            await publish(connection, 2, mixed, records=4)
            await publish(connection, 3, good[:-4])
            await publish(connection, 4, zlib.compress(b"0" * 64 * limits.MIB))
            await publish(connection, 5, good, schema="99")
            await publish(connection, 6, good, number="0")
            await publish(connection, 7, good, records=9)
            await publish(connection, 8, batch.pack([record(own, 8)]))

        async def all_judged():
            found = await read_all(site.stack.env()["HUB_KAFKA_BOOTSTRAP"], [Kafka.REJECTED])
            reasons = Counter(item.json()["reason"] for item in found)
            return reasons if sum(reasons.values()) >= 8 else None

        assert await until(all_judged) == Counter(
            {
                Reason.FOREIGN_DEVICE: 1, Reason.UNKNOWN_DEVICE: 1, Reason.MALFORMED: 1, Reason.TRUNCATED: 1,
                Reason.BOMB: 1, Reason.SCHEMA_VERSION: 1, Reason.PROTOCOL: 2,
            }
        )  # fmt: skip
        normalized = await records_of(site, Kafka.NORMALIZED, own)
        assert [item.json()["metrics"]["n"] for item in normalized] == [1, 2, 8]
        assert normalized[1].headers["ce_id"] == f"{gateway}:{epoch}:2:0"

        with Registry(site.stack.env()) as registry:
            await asyncio.to_thread(registry.add, unknown, "thermometer", gateway=gateway)
        for _ in range(2):  # a second replay shows nothing twice
            await asyncio.to_thread(site.hub.command, "deadletters", "replay", "--reason", Reason.UNKNOWN_DEVICE)

            async def back():
                return await records_of(site, Kafka.NORMALIZED, unknown)

            (item,) = await until(back)
            assert item.json()["metrics"]["n"] == 4
            assert item.json()["lane"] == "replay"
            assert item.headers["ce_id"] == f"{gateway}:{epoch}:2:2"


async def test_malformed_readings_behind_a_gateway_are_rejected_with_their_bytes():
    device, gateway = new_device_id(), new_device_id()
    async with installed({gateway: [device]}, [], "thermometer", silent) as site:
        place = site.gateways[gateway]
        await asyncio.to_thread(place.start)
        async with Connection(Options(place.broker.url, device)) as connection:
            for bad, _ in BAD.values():
                await connection.publish(build(Channel.TELEMETRY, device), bad)
            await connection.publish(build(Channel.TELEMETRY, device), payload(1))

        async def arrived():
            return await records_of(site, Kafka.NORMALIZED, device)

        (good,) = await until(arrived)
        assert isinstance(next(parse_payload(payload(1))), Reading)
        assert good.json()["gateway_id"] == gateway

        async def refused():
            found = {item.json()["sha256"]: item.json() for item in await records_of(site, Kafka.REJECTED, device)}
            return found if len(found) >= len(BAD) else None

        rejected = await until(refused)
        assert {item["reason"] for item in rejected.values()} == {reason for _, reason in BAD.values()}
        assert set(rejected) == {hashlib.sha256(bad).hexdigest() for bad, _ in BAD.values()}
