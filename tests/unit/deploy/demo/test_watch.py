import base64
import json

from deploy.demo.judge import Alarm, Refused, Visible
from deploy.demo.watch import Watch
from deploy.site.topics import Record
from shared.topics import Kafka


def record(topic, key, value=None, **headers):
    return Record(topic, 0, 0, key, headers, json.dumps(value or {}).encode())


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


def test_an_alarm_has_its_readings_time():
    watch = Watch({"d"})
    data = {"device_id": "d", "metric": "t", "ts": "2026-01-01T00:00:00.250Z"}
    watch.take(record(Kafka.ANOMALY, "d", data), 1)
    assert watch.alarms() == [Alarm("d", "t", 1767225600250)]
