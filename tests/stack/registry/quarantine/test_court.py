"""Automatic quarantine on real servers: from records of `rejected` to a closed session, and never from old ones."""

import asyncio
import json
import time

import pytest
from aiokafka import AIOKafkaProducer

from shared.envelope import rfc3339
from shared.topics import Kafka
from tests.stack.registry.conftest import NOT_AUTHORIZED, connect_code, until

pytestmark = pytest.mark.stack

COUNT = 20


def refused(device, at_ms, reason="throttled", sender=None):
    """As the normaliser writes it, for the parts that are read."""
    origin = {
        "kind": "telemetry" if sender is None else "batches",
        "sender": sender or device,
        "record": "message" if sender is None else "reading",
        "received_at": rfc3339(at_ms),
        "device_id": device,
    }
    return json.dumps({"reason": reason, "origin": origin, "sha256": "0" * 64}).encode()


async def write(api, records):
    producer = AIOKafkaProducer(bootstrap_servers=api.env["HUB_KAFKA_BOOTSTRAP"])
    await producer.start()
    try:
        for value in records:
            await producer.send(Kafka.REJECTED.value, value, b"x")
        await producer.flush()
    finally:
        await producer.stop()


def quarantined(api, device):
    return api.rest.get(f"/v1/devices/{device}").json()["status"] == "quarantined"


def set_policy(api, **changes):
    shown = api.rest.get("/v1/policies/quarantine").json()
    value = shown["value"] | {"grace_s": 3600}
    for rule, threshold in changes.items():
        value["rules"][rule] = threshold
    done = api.rest.put("/v1/policies/quarantine", json=value, headers={"If-Match": f'"{shown["version"]}"'})
    assert done.status_code == 200, done.text


def test_a_flood_is_quarantined_with_evidence_and_after_a_release_its_past_is_past(api, device_id):
    flooding, old, framed, gateway = device_id(), device_id(), device_id(), device_id()
    key = api.add(flooding).json()["api_key"]
    api.add(old)
    api.add(gateway, kind="gateway")
    api.add(framed)
    rule = {"count": COUNT, "window_s": 300, "for_s": 900, "enabled": True}
    set_policy(api, flood=rule, malformed_rate=rule)
    api.stop()  # else it would be obeyed within seconds, and nothing tells when
    api.start()
    now_ms = time.time_ns() // 1_000_000
    # Old ones first, and such of a device that is behind no gateway: were they counted, it would be seen below.
    asyncio.run(
        write(
            api,
            [refused(old, now_ms - 400_000) for _ in range(5 * COUNT)]
            + [refused(framed, now_ms, "malformed", gateway) for _ in range(5 * COUNT)]
            + [refused(flooding, now_ms) for _ in range(COUNT)],
        )
    )
    until(lambda: quarantined(api, flooding), "it is quarantined")
    assert not quarantined(api, old)
    assert not quarantined(api, framed)
    port = int(api.env["HUB_MQTT_URL"].rpartition(":")[2])
    until(lambda: asyncio.run(connect_code(port, flooding, key)) == NOT_AUTHORIZED, "it is refused")
    (shown,) = api.rest.get("/v1/quarantines", params={"device_id": flooding}).json()["quarantines"]
    assert shown["by"] == "policy:flood"
    assert shown["evidence"]["count"] == COUNT
    assert shown["evidence"]["samples_sha256"] == ["0" * 64] * 5
    assert shown["until"] is not None
    # Released by hand: neither what it did before nor a restart of the judge brings it back.
    assert api.rest.post(f"/v1/devices/{flooding}:release", json={"reason": "mended"}).status_code == 200
    asyncio.run(write(api, [refused(flooding, now_ms) for _ in range(2 * COUNT)]))
    api.stop()
    api.start()
    other = device_id()
    api.add(other)
    asyncio.run(write(api, [refused(other, time.time_ns() // 1_000_000) for _ in range(COUNT)]))
    until(lambda: quarantined(api, other), "the judge is at work again")
    assert not quarantined(api, flooding)
    assert not quarantined(api, old)
