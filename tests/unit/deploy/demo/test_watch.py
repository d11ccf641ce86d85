import base64
import json
from contextlib import asynccontextmanager
from types import SimpleNamespace

import pytest

from deploy.demo import watch as watches
from deploy.demo.judge import Alarm, Refused, Visible
from deploy.demo.watch import LiveWatch, Watch, started_and_watched, watching
from deploy.site import topics
from deploy.site.topics import Record
from shared.batch import ClockQuality, ReadingRecord, encode_record
from shared.errors import Transient
from shared.topics import Kafka


def record(topic, key, value=None, partition=0, offset=0, **headers):
    return Record(topic, partition, offset, key, headers, json.dumps(value or {}).encode())


def normalized(device="d", n=1, ce_id="gw:e:4:0", lane="live"):
    data = {"device_id": device, "metrics": {"n": n} if n else {}, "lane": lane}
    return record(Kafka.NORMALIZED, device, data, ce_id=ce_id)


def test_a_reading_is_told_with_its_first_sight_and_whether_its_batch_was_resent():
    watch = Watch({"d"})
    watch.take(record(Kafka.RAW, "gw", ce_id="gw:e:5", resent="1"), 1)
    watch.take(normalized(), 100)
    watch.take(normalized(n=2, ce_id="gw:e:5:0", lane="replay"), 200)
    watch.take(normalized(n=None, ce_id="gw:e:4:1"), 300)
    assert watch.visible() == [
        Visible("d", 1, "gw:e:4:0", "live", False, 100),
        Visible("d", 2, "gw:e:5:0", "replay", True, 200),
        Visible("d", None, "gw:e:4:1", "live", False, 300),
    ]
    assert watch.counts[Kafka.RAW] == 1


def test_devices_of_others_do_not_count():
    watch = Watch({"d"})
    watch.take(normalized(device="stranger"), 1)
    assert watch.visible() == []


def test_a_refused_one_has_its_number_where_it_can_be_read():
    watch = Watch({"d"})
    for payload in (b'{"ts": 1, "n": 5}', b"nonsense"):
        data = {"payload_base64": base64.b64encode(payload).decode(), "sha256": "ab"}
        watch.take(record(Kafka.REJECTED, "d", data, ce_id="x"), 1)
    assert watch.refused() == [Refused("d", 5, "x", "ab"), Refused("d", None, "x", "ab")]


def test_a_refused_record_of_a_batch_has_its_number_too():
    watch = Watch({"d"})
    payload = encode_record(ReadingRecord("d", 1, 1, 1, {"n": 7}, None, None, ClockQuality.SYNCED, 0))
    data = {
        "payload_base64": base64.b64encode(payload).decode(), "sha256": "ab", "origin": {"record": "record"},
    }  # fmt: skip
    watch.take(record(Kafka.REJECTED, "d", data, ce_id="x"), 1)
    assert watch.refused() == [Refused("d", 7, "x", "ab")]


def test_only_a_normalised_record_is_progress():
    watch = Watch({"d"})
    watch.take(record(Kafka.RAW, "gw", ce_id="gw:e:5"), 1)
    assert not watch.progressed.is_set()
    watch.take(normalized(), 2)
    assert watch.progressed.is_set()


def test_a_reader_has_judged_all_when_it_stands_behind_the_last_record_of_each_partition():
    watch = Watch({"d"})
    assert watch.judged_by({})
    data = {"device_id": "d", "metrics": {}, "lane": "live"}
    for partition, offset in ((0, 3), (0, 4), (2, 9)):
        watch.take(record(Kafka.NORMALIZED, "d", data, partition, offset, ce_id="x"), 1)
    assert not watch.judged_by({0: 5, 2: 9})
    assert not watch.judged_by({0: 5})
    assert watch.judged_by({0: 5, 1: 0, 2: 10})


class FakeConsumer:
    """Stands at `at` of one partition of the anomalies, which end at `end`."""

    def __init__(self, at=0, end=0):
        self.at, self.end = at, end

    def assignment(self):
        return [SimpleNamespace(topic=Kafka.ANOMALY), SimpleNamespace(topic=Kafka.RAW)]

    async def end_offsets(self, places):
        return dict.fromkeys([place.topic for place in places], self.end)

    async def position(self, place):
        assert place == Kafka.ANOMALY
        return self.at

    async def getmany(self, timeout_ms):
        raise Transient("Kafka is away")


async def test_the_detector_is_done_when_its_position_and_its_alarms_are_here(monkeypatch):
    positions = {0: 0}

    async def committed(bootstrap, group, topic):
        assert (group, topic) == ("hub-detector", Kafka.NORMALIZED)
        return positions

    monkeypatch.setattr(watches, "committed", committed)
    client = FakeConsumer(at=3, end=5)
    watch = LiveWatch({"d"}, "", client)
    watch.take(normalized(), 1)
    assert not await watch.detector_is_done()
    positions[0] = 1
    assert not await watch.detector_is_done(), "its alarms were not taken yet"
    client.at = 5
    assert await watch.detector_is_done()


async def test_a_detector_whose_position_nobody_knows_is_not_done(monkeypatch):
    async def committed(bootstrap, group, topic):
        raise Transient("the coordinator is loading")

    monkeypatch.setattr(watches, "committed", committed)
    assert not await LiveWatch({"d"}, "", FakeConsumer()).detector_is_done()


async def test_nobody_to_ask_is_a_matter_of_time():
    with pytest.raises(Transient, match="hub-detector"):
        await topics.committed("127.0.0.1:9", "hub-detector", Kafka.NORMALIZED)


async def test_the_watch_is_open_before_a_gateway_starts(monkeypatch):
    happened = []

    @asynccontextmanager
    async def opened(bootstrap, names):
        happened.append(("watch", bootstrap, tuple(names)))
        yield "the watch"

    monkeypatch.setattr(watches, "watching", opened)
    gateways = {name: SimpleNamespace(start=lambda name=name: happened.append(name)) for name in ("a", "b")}
    stack = SimpleNamespace(env=lambda: {"HUB_KAFKA_BOOTSTRAP": "k"})
    async with started_and_watched(SimpleNamespace(stack=stack, gateways=gateways, names=["a", "b"])) as watch:
        assert watch == "the watch"
    assert happened == [("watch", "k", ("a", "b")), "a", "b"]


async def test_an_error_under_the_watch_is_itself_and_no_group(monkeypatch):
    @asynccontextmanager
    async def consumer(bootstrap, topics, start):
        yield FakeConsumer()

    monkeypatch.setattr(watches, "consumer", consumer)
    with pytest.raises(Transient, match="of the block"):
        async with watching("", []):
            raise Transient("of the block")


def test_an_alarm_has_its_readings_time():
    watch = Watch({"d"})
    data = {"device_id": "d", "metric": "t", "ts": "2026-01-01T00:00:00.250Z"}
    watch.take(record(Kafka.ANOMALY, "d", data), 1)
    assert watch.alarms() == [Alarm("d", "t", 1767225600250)]
