"""Raw records as ingest writes them, a registry in a dictionary, and outputs read back."""

import itertools
import json
from pathlib import Path

import jsonschema

from control_plane.analytics import dead_letter
from control_plane.analytics.event_time import Rules
from control_plane.analytics.job import Incoming, MemoryState
from control_plane.analytics.normalizer import Normalizer
from control_plane.analytics.records import STRUCTS, EventType, decode
from shared import batch, limits
from shared.batch import ClockQuality, Header, Lane, ReadingRecord
from shared.device import DeviceView, Kind, Ownership, Status
from shared.envelope import JSON, rfc3339
from shared.rates import Defaults
from shared.recent import identity
from shared.topics import Kafka

NOW_MS = 1_790_000_000_000
EPOCH = "e" * 22
SCHEMAS = Path(__file__).parents[4] / "shared" / "schemas"
_VALIDATORS = {
    name: jsonschema.Draft202012Validator(
        json.loads((SCHEMAS / f"{name}.json").read_text()), format_checker=jsonschema.FormatChecker()
    )
    for name in STRUCTS
}


def device(name, *gateways, status=Status.ACTIVE, kind=Kind.DEVICE, version=1):
    """A view; `gateways` own it: a name (since ever, still) or (name, from_ms, until_ms)."""
    owners = tuple(Ownership(own, 0) if isinstance(own, str) else Ownership(*own) for own in gateways)
    return DeviceView(name, kind, "thermometer", status, version, owners)


def gateway(name, **more):
    return device(name, kind=Kind.GATEWAY, **more)


class DictRegistry:
    """`hidden` is known only to who asks."""

    def __init__(self, *views, hidden=()):
        self.views = {view.id: view for view in views}
        self.hidden = {view.id: view for view in hidden}
        self.asked = []
        self.defaults = Defaults()

    def get(self, device_id):
        return self.views.get(device_id)

    def ask(self, device_ids):
        self.asked.append(set(device_ids))
        self.views |= {name: self.hidden[name] for name in device_ids if name in self.hidden}


def house(**more):
    """One gateway `gw` with `dev-1` and `dev-2`; `solo` stands alone; `other` belongs to another gateway."""
    return DictRegistry(
        gateway("gw"),
        device("dev-1", "gw"),
        device("dev-2", "gw"),
        device("solo"),
        device("other", "gw-2"),
        gateway("gw-2"),
        **more,
    )


_OFFSETS = itertools.count()


def incoming(key, value, headers):
    pairs = [(name, text if isinstance(text, bytes) else str(text).encode()) for name, text in headers.items()]
    return Incoming(Kafka.RAW, 0, next(_OFFSETS), key.encode(), value, pairs, NOW_MS)


def direct(payload, sender="solo", received_ms=NOW_MS, **marks):
    """A device's own message."""
    value = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
    return incoming(
        sender,
        value,
        {
            "ce_specversion": "1.0",
            "ce_id": f"{sender}:{identity(sender.encode(), value).hex()}",
            "ce_source": f"/mqtt/devices/{sender}",
            "ce_type": "iot.telemetry.raw.v1",
            "content-type": JSON,
            "received_ms": received_ms,
            "topic_kind": "telemetry",
            **marks,
        },
    )


def reading(name="dev-1", at_ms=NOW_MS, ts_ms=None, **more):
    ts_ms = at_ms if ts_ms is None else ts_ms
    fields = {
        "ts_raw": rfc3339(ts_ms),
        "metrics": {"temperature": 21.5},
        "status": None,
        "seq": None,
        "clock": ClockQuality.SYNCED,
        "skew_ms": None,
    }
    return ReadingRecord(device=name, at_ms=at_ms, ts_ms=ts_ms, **(fields | more))


def batched(records, number=1, *, sender="gw", payload=None, received_ms=NOW_MS, marks=None, **header):
    """A gateway's batch. `payload` stands for the packed records, `marks` for headers (None: left out)."""
    fields = {"epoch": EPOCH, "number": number, "floor": 1, "lane": Lane.LIVE, "records": len(records)} | header
    properties = dict(batch.encode_header(Header(**fields)))
    packed = batch.pack([batch.encode_record(record) for record in records]) if payload is None else payload
    headers = {
        "ce_id": f"{sender}:{fields['epoch']}:{number}",
        "content-type": batch.CONTENT_TYPE,
        "received_ms": received_ms,
        "topic_kind": "batches",
        **properties,
        **(marks or {}),
    }
    return incoming(sender, packed, {name: text for name, text in headers.items() if text is not None})


def cut(record, length=300 * limits.KIB):
    """As ingest cuts it."""
    marks = [("cut_length", str(length).encode()), ("cut_sha256", b"0" * 64)]
    return record._replace(value=record.value[: limits.KEPT_OF_OVERSIZED_BYTES], headers=record.headers + marks)


class Bench:
    """A normaliser with the state of one sender."""

    def __init__(self, registry=None, **rules):
        self.registry = house() if registry is None else registry
        self.normalizer = Normalizer(self.registry, Rules(**rules))
        self.state = MemoryState()

    def judge(self, record):
        """The outcome; every output is valid by its schema."""
        outcome = self.normalizer.judge(record, self.state)
        for output in outcome.outputs:
            read_back(output)
        return outcome

    def outputs(self, *records):
        return [read_back(output) for record in records for output in self.judge(record).outputs]


class ReadBack:
    """One output: `data` decoded, `headers` as text."""

    def __init__(self, output):
        self.topic, self.key = output.topic, output.key.decode()
        self.headers = {name: value.decode() for name, value in output.headers}
        self.id = self.headers["ce_id"]
        self.type = EventType(self.headers["ce_type"])
        _VALIDATORS[self.type].validate(json.loads(output.value))
        self.data = decode(self.type, output.value)
        self.output = output


def read_back(output):
    return ReadBack(output)


def replay_of(rejected):
    """The raw record by which a dead letter comes back."""
    made = dead_letter.replay(rejected.id, rejected.data)
    return Incoming(Kafka.RAW, 0, next(_OFFSETS), made.key, made.value, made.headers, NOW_MS)
