"""A gateway whose place another took, on a whole installation: what it had accepted is taken, what it adds is not."""

import time

import pytest

from deploy.site.installation import installed
from deploy.site.registry import Registry
from edge_agent.mqtt import Connection, Options
from shared import batch
from shared.batch import ClockQuality, Header, Lane, ReadingRecord
from shared.errors import Reason
from shared.ids import new_device_id, new_epoch
from shared.topics import Channel, Kafka, build
from tests.stack.whole_site import payload, records_of, silent, until

pytestmark = [pytest.mark.stack, pytest.mark.timeout(300)]

LONG_MS = 3_600_000
"""Far beyond what two clocks may differ."""


def record(device, n, at_ms):
    return batch.encode_record(
        ReadingRecord(device, at_ms, at_ms, at_ms, {"n": n}, "OK", None, ClockQuality.SYNCED, 0)
    )


async def test_what_it_accepted_before_is_taken_and_nothing_else():
    old, new, device = (new_device_id() for _ in range(3))
    async with installed({}, [], "thermometer", silent) as site:
        env = site.stack.env()
        with Registry(env) as registry:
            identity = registry.enrol(old, site.root / "old")
            registry.add(device, "thermometer", gateway=old)
            now_ms = int(time.time() * 1_000)  # the device is behind it since just before
            registry.enrol(new, site.root / "new", replaces=old)
        later_ms = now_ms + LONG_MS
        found = [record(name, n, at) for name in (device, old) for n, at in ((1, now_ms), (2, later_ms))]
        header = Header(epoch=new_epoch(), number=1, floor=1, lane=Lane.LIVE, records=len(found))
        options = Options(env["HUB_MQTT_URL"], old, identity.key_id, identity.secret)
        async with Connection(options) as connection:
            properties = batch.encode_header(header)
            await connection.publish(
                build(Channel.BATCHES, old),
                batch.pack(found),
                user_properties=properties,
                content_type=batch.CONTENT_TYPE,
            )
            await connection.publish(build(Channel.TELEMETRY, old), payload(3))

        async def all_judged():
            taken = [one for name in (device, old) for one in await records_of(site, Kafka.NORMALIZED, name)]
            # A refused record is kept under whoever sent it.
            refused = [one for name in {device, old} for one in await records_of(site, Kafka.REJECTED, name)]
            return (taken, refused) if len(taken) + len(refused) >= 5 else None

        taken, refused = await until(all_judged)
        assert {(one.key, one.json()["metrics"]["n"]) for one in taken} == {(device, 1), (old, 1)}
        assert [one.json()["reason"] for one in refused] == [Reason.FOREIGN_DEVICE] * 3
