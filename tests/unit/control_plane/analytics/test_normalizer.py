"""What one raw record means: messages, batches, repeats, refusals, replays."""

import base64
import hashlib
import json
import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from control_plane.analytics.event_time import Rules
from control_plane.analytics.job import MemoryState
from control_plane.analytics.normalizer import Fate, Normalizer, unjudged
from control_plane.analytics.records import EventType, Flag, GapKind, Misconduct
from shared import limits
from shared.batch import (
    HEADER_NAMES,
    AggregateRecord,
    BytesRecord,
    ClockQuality,
    EventRecord,
    Lane,
    encode_record,
)
from shared.device import Status
from shared.envelope import rfc3339
from shared.errors import Reason
from shared.reading import Verdict
from shared.topics import Kafka
from tests.unit.control_plane.analytics.raw_kit import (
    EPOCH,
    NOW_MS,
    Bench,
    DictRegistry,
    batched,
    cut,
    device,
    direct,
    gateway,
    house,
    incoming,
    read_back,
    reading,
    replay_of,
)

TS = rfc3339(NOW_MS)
GOOD = {"ts": TS, "temperature": 21.5, "status": "OK", "seq": 7, "on": True, "mode": "eco"}


def reasons(outputs):
    return [output.data.reason for output in outputs if output.topic == Kafka.REJECTED]


def bytes_record(payload, name="dev-1", at_ms=NOW_MS, length=None):
    return BytesRecord(
        name, at_ms, payload, len(payload) if length is None else length, hashlib.sha256(payload).hexdigest()
    )


# Messages of directly attached devices


def test_a_direct_reading_is_normalised_with_all_it_said():
    record = direct(GOOD)
    (output,) = Bench().outputs(record)
    assert (output.topic, output.key, output.type) == (Kafka.NORMALIZED, "solo", EventType.READING)
    assert output.id == dict(record.headers)["ce_id"].decode()
    assert output.headers["ce_subject"] == "solo"
    assert output.headers["ce_time"] == TS
    data = output.data
    assert data.metrics == {"temperature": 21.5, "on": True, "mode": "eco"}
    assert (data.device_id, data.device_type, data.gateway_id) == ("solo", "thermometer", None)
    assert (data.ts, data.ts_raw, data.received_at, data.accepted_at) == (TS, TS, TS, None)
    assert (data.status, data.seq, data.lane) == ("OK", 7, Lane.LIVE)
    assert (data.quality.clock, data.quality.skew_ms, data.quality.flags) == (ClockQuality.SYNCED, None, ())
    assert data.score is None


def test_an_array_is_judged_object_by_object_and_numbered():
    record = direct([GOOD, {"temperature": 1}, {**GOOD, "ts": 1_700_000_000_000}])
    first, bad, last = Bench().outputs(record)
    own = dict(record.headers)["ce_id"].decode()
    assert [first.id, bad.id, last.id] == [f"{own}:0", f"{own}:1", f"{own}:2"]
    assert (first.topic, bad.topic, last.topic) == (Kafka.NORMALIZED, Kafka.REJECTED, Kafka.NORMALIZED)
    assert bad.data.reason == Reason.MISSING_TS
    assert base64.b64decode(bad.data.payload_base64) == b'{"temperature": 1}'
    assert (bad.data.origin.record, bad.data.origin.index, bad.data.origin.device_id) == ("reading", 1, "solo")
    assert last.data.ts_raw == 1_700_000_000_000


def test_an_array_of_one_is_numbered_too():
    (output,) = Bench().outputs(direct([GOOD]))
    assert output.id.endswith(":0")


def test_an_array_without_readings_is_no_silence():
    (output,) = Bench().outputs(direct([]))
    assert output.data.reason == Reason.MALFORMED


def test_a_refusal_has_its_origin_and_the_bytes():
    record = direct(b'{"temperature": 21', received_ms=NOW_MS + 5)
    (output,) = Bench().outputs(record)
    assert (output.topic, output.key, output.type) == (Kafka.REJECTED, "solo", EventType.REJECTED)
    data = output.data
    assert data.reason == Reason.MALFORMED
    assert base64.b64decode(data.payload_base64) == record.value
    assert data.length == len(record.value)
    assert data.sha256 == hashlib.sha256(record.value).hexdigest()
    origin = data.origin
    assert (origin.kind, origin.sender, origin.record, origin.device_id) == ("telemetry", "solo", "message", "solo")
    assert origin.received_at == rfc3339(NOW_MS + 5)
    assert (origin.raw.topic, origin.raw.partition, origin.raw.offset) == (Kafka.RAW, 0, record.offset)
    assert origin.content_type == "application/json"


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        (b"\xff\xfe", Reason.MALFORMED),
        (b"", Reason.MALFORMED),
        (b"17", Reason.MALFORMED),
        (b'{"temperature": 1}', Reason.MISSING_TS),
        (b'{"ts": "yesterday"}', Reason.BAD_TS),
        (b'{"ts": 1, "a": NaN}', Reason.NOT_FINITE),
        (b'{"ts": 1, "a": -Infinity}', Reason.NOT_FINITE),
        (b'{"ts": 1, "a": 1e999}', Reason.NOT_FINITE),
        (b'{"ts": 1, "a": [1]}', Reason.BAD_FIELD),
        (b'{"ts": 1, "a b": 1}', Reason.BAD_FIELD),
    ],
)
def test_bad_messages_by_reason(payload, reason):
    outcome = Bench().judge(direct(payload))
    assert reasons(map(read_back, outcome.outputs)) == [reason]
    assert outcome.fate is Fate.REJECTED


def test_unknown_fields_are_metrics():
    (output,) = Bench().outputs(direct({"ts": TS, "x_new.field": 3}))
    assert output.data.metrics == {"x_new.field": 3}


def test_a_cut_message_is_too_large_and_keeps_length_and_digest():
    whole = direct(b"x" * 300_000)
    (output,) = Bench().outputs(cut(whole, 300_000))
    assert output.data.reason == Reason.TOO_LARGE
    assert output.data.length == 300_000
    assert output.data.sha256 == "0" * 64
    assert len(base64.b64decode(output.data.payload_base64)) == limits.KEPT_OF_OVERSIZED_BYTES


def test_a_throttled_message_is_refused_as_such():
    assert reasons(Bench().outputs(direct(GOOD, throttled="1"))) == [Reason.THROTTLED]


@pytest.mark.parametrize(
    ("status", "reason"),
    [
        (Status.PENDING, Reason.PENDING),
        (Status.SUSPENDED, Reason.SUSPENDED),
        (Status.RETIRED, Reason.RETIRED),
        (Status.QUARANTINED, Reason.QUARANTINED),
    ],
)
def test_who_is_not_heard(status, reason):
    registry = DictRegistry(device("solo", status=status), gateway("gw", status=status))
    assert reasons(Bench(registry).outputs(direct(GOOD))) == [reason]
    assert reasons(Bench(registry).outputs(batched([reading()]))) == [reason]
    registry = DictRegistry(gateway("gw"), device("dev-1", "gw", status=status))
    assert reasons(Bench(registry).outputs(batched([reading()]))) == [reason]


def test_the_truth_is_asked_before_a_device_is_unknown():
    bench = Bench(DictRegistry(hidden=[device("solo")]))
    assert not reasons(bench.outputs(direct(GOOD)))
    bench = Bench(DictRegistry())
    assert reasons(bench.outputs(direct(GOOD))) == [Reason.UNKNOWN_DEVICE]
    assert bench.registry.asked == [{"solo"}]


def test_a_message_delivered_again_is_a_repeat_refused_or_not():
    bench = Bench()
    for record in (direct(GOOD), direct(b"nonsense")):
        assert bench.judge(record).fate is not Fate.REPEAT
        again = bench.judge(record)
        assert (again.fate, again.outputs) == (Fate.REPEAT, [])


@pytest.mark.parametrize("per_s", [5, 50])
def test_what_a_stopped_ingest_writes_again_is_known_however_fast_the_device_is(per_s):
    """A lease of 15 s, the broker's autosave and a while until the stopped one wakes: all of that later."""
    bench = Bench()
    sent = [direct({"ts": NOW_MS, "n": n}, received_ms=NOW_MS + n * 1_000 // per_s) for n in range(60 * per_s)]
    for record in sent:
        assert bench.judge(record).fate is Fate.NORMALIZED
    assert {bench.judge(record).fate for record in sent} == {Fate.REPEAT}
    assert max(map(len, bench.state.values.values())) < 1_000 * per_s // 5


def test_the_clock_of_a_direct_device_is_learnt_and_its_offset_taken_off():
    bench = Bench()
    ahead = 3_600_000
    outputs = [
        bench.outputs(direct({"ts": NOW_MS + n * 2_000 + ahead, "n": n}, received_ms=NOW_MS + n * 2_000 + 40))[0]
        for n in range(8)
    ]
    first, last = outputs[0].data, outputs[-1].data
    assert first.quality.skew_ms is None
    assert last.quality.skew_ms == ahead - 40
    assert last.quality.flags == (Flag.DRIFT, Flag.SKEW_CORRECTED)
    assert last.ts == rfc3339(NOW_MS + 7 * 2_000 + 40)
    assert last.ts_raw == NOW_MS + 7 * 2_000 + ahead


def test_a_backlog_in_one_message_says_nothing_of_the_clock():
    bench = Bench()
    for n in range(8):
        now_ms = NOW_MS + n * 2_000
        old = [{"ts": now_ms - 3_600_000, "n": n}, {"ts": now_ms - 20, "n": n}]
        output = bench.outputs(direct(old, received_ms=now_ms))[0]
    assert output.data.quality.skew_ms == -20
    assert output.data.ts == rfc3339(NOW_MS + 7 * 2_000 - 3_600_000)


@pytest.mark.parametrize("ts", ["1970-01-01T00:00:07Z", "2099-01-01T00:00:00Z", 0])
def test_an_impossible_ts_is_accepted_flagged_and_replaced_by_the_receipt(ts):
    output, conduct = Bench().outputs(direct({"ts": ts, "n": 1}))
    assert (conduct.topic, conduct.key, conduct.data.kind) == (Kafka.CONDUCT, "solo", Misconduct.IMPOSSIBLE_CLOCK)
    assert (conduct.data.count, conduct.data.gateway_id, conduct.data.at) == (1, None, TS)
    assert output.data.ts == TS
    assert output.data.ts_raw == ts
    assert output.data.quality.flags == (Flag.TS_IMPLAUSIBLE,)


# Batches


def test_a_batched_reading_is_normalised_with_all_the_edge_knew():
    verdict = Verdict(3.5, "temperature", "level", 20.0)
    record = reading(
        at_ms=NOW_MS - 900, ts_ms=NOW_MS - 1_000, skew_ms=-100, status="OK", seq=4, score=verdict,
        clock=ClockQuality.CORRECTED,
    )  # fmt: skip
    (output,) = Bench().outputs(batched([record], number=3, lane=Lane.REPLAY))
    assert (output.topic, output.key, output.id) == (Kafka.NORMALIZED, "dev-1", f"gw:{EPOCH}:3:0")
    data = output.data
    assert (data.gateway_id, data.lane, data.seq, data.status) == ("gw", Lane.REPLAY, 4, "OK")
    assert (data.ts, data.accepted_at, data.received_at) == (rfc3339(NOW_MS - 1_000), rfc3339(NOW_MS - 900), TS)
    assert (data.quality.clock, data.quality.skew_ms) == (ClockQuality.CORRECTED, -100)
    score = data.score
    assert (score.value, score.metric, score.reason, score.expected) == (3.5, "temperature", "level", 20.0)


def test_an_impossible_ts_behind_a_gateway_is_replaced_by_the_acceptance():
    *outputs, conduct = Bench().outputs(batched([reading(at_ms=NOW_MS - 5_000, ts_ms=0)] * 3))
    output = outputs[0]
    assert (conduct.key, conduct.data.count, conduct.data.gateway_id) == ("dev-1", 3, "gw")
    assert conduct.id == f"gw:{EPOCH}:1/impossible_clock/dev-1"
    assert output.data.ts == output.data.accepted_at == rfc3339(NOW_MS - 5_000)
    assert output.data.quality.flags == (Flag.TS_IMPLAUSIBLE,)


def test_records_stay_in_order_and_one_bad_one_harms_no_other():
    outputs = Bench().outputs(
        batched([reading(), reading("stranger"), reading("other"), reading("dev-2"), reading("gw")])
    )
    assert [output.id.rsplit(":", 1)[1] for output in outputs] == list("01234")
    assert [output.key for output in outputs] == ["dev-1", "stranger", "other", "dev-2", "gw"]
    assert reasons(outputs) == [Reason.UNKNOWN_DEVICE, Reason.FOREIGN_DEVICE]
    bad = outputs[1].data
    assert (bad.origin.record, bad.origin.epoch, bad.origin.number, bad.origin.index) == ("record", EPOCH, 1, 1)
    assert base64.b64decode(bad.payload_base64) == encode_record(reading("stranger"))


def test_a_batch_asks_once_for_all_that_is_doubtful():
    registry = house(hidden=[device("late", "gw"), device("moved", "gw", version=2)])
    registry.views["moved"] = device("moved", ("gw", 0, 5), "gw-2")
    bench = Bench(registry)
    outputs = bench.outputs(batched([reading("late"), reading("moved"), reading("none"), reading("no id")]))
    assert registry.asked == [{"late", "moved", "none"}]
    assert reasons(outputs) == [Reason.UNKNOWN_DEVICE, Reason.UNKNOWN_DEVICE]
    assert outputs[3].key == "gw"  # what is no id is no key


def test_who_owned_the_device_then_may_speak_of_then():
    registry = house()
    registry.views["dev-9"] = device(
        "dev-9", ("gw", NOW_MS - 10_000_000, NOW_MS - 5_000_000), ("gw-2", NOW_MS - 5_000_000, None)
    )
    outputs = Bench(registry).outputs(
        batched(
            [
                reading("dev-9", NOW_MS - 6_000_000),
                reading("dev-9", NOW_MS - 1_000),
                reading("dev-9", NOW_MS - 7_000_000),
            ]
        )
    )
    assert [output.topic for output in outputs] == [Kafka.NORMALIZED, Kafka.REJECTED, Kafka.NORMALIZED]
    assert reasons(outputs) == [Reason.FOREIGN_DEVICE]


def test_aggregates_and_events_have_types_of_their_own():
    aggregate = AggregateRecord("dev-1", NOW_MS, "temperature", NOW_MS - 60_000, NOW_MS, 60, 20.0, 22.0, 21.0)
    event = EventRecord("gw", NOW_MS, "clock_stepped", {"by_ms": -5})
    outputs = Bench().outputs(batched([aggregate, event]))
    assert [output.type for output in outputs] == [EventType.AGGREGATE, EventType.GATEWAY_EVENT]
    assert (outputs[0].key, outputs[0].data.count, outputs[0].data.mean) == ("dev-1", 60, 21.0)
    assert outputs[0].data.from_ts == rfc3339(NOW_MS - 60_000)
    assert (outputs[1].key, outputs[1].data.name, outputs[1].data.data) == ("gw", "clock_stepped", {"by_ms": -5})


def test_what_the_agent_could_not_parse_is_refused_with_the_devices_bytes():
    (output,) = Bench().outputs(batched([bytes_record(b'{"ts": "bad", "a": 1}')]))
    assert output.data.reason == Reason.BAD_TS
    assert output.key == "dev-1"
    assert base64.b64decode(output.data.payload_base64) == b'{"ts": "bad", "a": 1}'
    assert (output.data.origin.record, output.data.origin.accepted_at) == ("reading", TS)


def test_what_the_agent_could_not_parse_and_the_hub_can_is_normalised():
    one, two, three = Bench().outputs(
        batched([bytes_record(json.dumps(GOOD).encode()), bytes_record(json.dumps([GOOD, GOOD]).encode())])
    )
    assert one.id == f"gw:{EPOCH}:1:0"
    assert [two.id, three.id] == [f"gw:{EPOCH}:1:1:0", f"gw:{EPOCH}:1:1:1"]
    assert (one.data.gateway_id, one.data.accepted_at) == ("gw", TS)


def test_bytes_that_are_half_an_array_are_one_refusal():
    (output,) = Bench().outputs(batched([bytes_record(b'[{"ts": 1}, ')]))
    assert (output.id, output.data.reason) == (f"gw:{EPOCH}:1:0", Reason.MALFORMED)


def test_what_the_agent_had_to_cut_is_too_large():
    (output,) = Bench().outputs(batched([bytes_record(b"x" * 100, length=100_000)]))
    assert (output.data.reason, output.data.length) == (Reason.TOO_LARGE, 100_000)


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        (reading(ts_raw="2026-01-01T00:00:00Z"), Reason.BAD_TS),  # not what ts_ms says
        (reading(ts_raw="soon"), Reason.BAD_TS),
        (reading(metrics={"a b": 1.0}), Reason.BAD_FIELD),
        (reading(metrics={"a": "x" * 257}), Reason.BAD_FIELD),
        (reading(metrics={"a": 2**70}), Reason.BAD_FIELD),
        (reading(metrics={f"m{n}": 1.0 for n in range(64)}), Reason.BAD_FIELD),
        (reading(status="x" * 257), Reason.BAD_FIELD),
        (reading(seq=-1), Reason.BAD_FIELD),
        (reading(at_ms=-5, ts_ms=NOW_MS), Reason.BAD_FIELD),
        (reading(at_ms=10**17, ts_ms=NOW_MS), Reason.BAD_FIELD),
        (reading(skew_ms=10**17), Reason.BAD_FIELD),
        (reading(score=Verdict(1.0, "m" * 300, "r")), Reason.BAD_FIELD),
        (AggregateRecord("dev-1", NOW_MS, "a b", 1, 2, 3, 0.0, 1.0, 0.5), Reason.BAD_FIELD),
        (AggregateRecord("dev-1", NOW_MS, "a", 3, 2, 3, 0.0, 1.0, 0.5), Reason.BAD_TS),
        (AggregateRecord("dev-1", NOW_MS, "a", 1, 2, 0, 0.0, 1.0, 0.5), Reason.BAD_FIELD),
        (AggregateRecord("dev-1", NOW_MS, "a", 1, 2, 3, 0.0, 1.0, 1.5), Reason.BAD_FIELD),
        (EventRecord("dev-1", NOW_MS, "no name!", {}), Reason.BAD_FIELD),
        (EventRecord("dev-1", -1, "name", {}), Reason.BAD_FIELD),
        (bytes_record(b"{}", at_ms=-1), Reason.BAD_FIELD),
        (bytes_record(b"[]"), Reason.MALFORMED),
    ],
)
def test_records_that_no_agent_of_ours_writes(record, reason):
    assert reasons(Bench().outputs(batched([record, reading()]))) == [reason]


def test_a_batch_that_came_before_is_a_repeat():
    bench = Bench()
    assert bench.judge(batched([reading()])).fate is Fate.NORMALIZED
    again = bench.judge(batched([reading()], resent=True))
    assert (again.fate, again.outputs) == (Fate.REPEAT, [])


def test_a_gap_is_one_event_with_its_ranges():
    bench = Bench()
    bench.judge(batched([reading()], number=1))
    outcome = bench.judge(batched([reading()], number=9, floor=7, void=((EPOCH, 3, 4),)))
    assert [(lost.kind, lost.ranges) for lost in outcome.lost] == [
        (GapKind.GAP, ((2, 2), (5, 6))),
        (GapKind.DAMAGED, ((3, 4),)),
    ]
    assert outcome.header.number == 9
    gap, damaged, kept = map(read_back, outcome.outputs)
    assert (gap.topic, gap.key, gap.id) == (Kafka.GAP, "gw", f"gw:{EPOCH}:gap:2-6")
    assert (gap.data.kind, gap.data.ranges, gap.data.count) == (GapKind.GAP, ((2, 2), (5, 6)), 3)
    assert (damaged.data.kind, damaged.data.ranges) == (GapKind.DAMAGED, ((3, 4),))
    assert damaged.data.noticed_at == TS
    assert kept.topic == Kafka.NORMALIZED


@pytest.mark.parametrize(
    ("marks", "payload", "reason"),
    [
        ({"schema": "2"}, None, Reason.SCHEMA_VERSION),
        ({"schema": None}, None, Reason.SCHEMA_VERSION),
        ({"content-type": "application/x-new"}, None, Reason.SCHEMA_VERSION),
        ({"number": "0"}, None, Reason.PROTOCOL),
        ({"number": "2000"}, None, Reason.PROTOCOL),
        ({"floor": "2"}, None, Reason.PROTOCOL),
        ({"epoch": "short"}, None, Reason.PROTOCOL),
        ({"records": "2"}, None, Reason.PROTOCOL),
        ({"closed": f"{EPOCH}:4"}, None, Reason.PROTOCOL),
        ({}, b"no zlib", Reason.TRUNCATED),
        ({}, b"x\x9c", Reason.TRUNCATED),
        ({"throttled": "1"}, None, Reason.THROTTLED),
    ],
)
def test_batches_that_cannot_be_opened_are_refused_whole(marks, payload, reason):
    bench = Bench()
    record = batched([reading()], marks=marks, payload=payload)
    outcome = bench.judge(record)
    (output,) = map(read_back, outcome.outputs)
    assert (outcome.fate, output.data.reason, output.key) == (Fate.REJECTED, reason, "gw")
    assert base64.b64decode(output.data.payload_base64) == record.value
    assert (output.data.origin.kind, output.data.origin.record) == ("batches", "message")
    assert bench.judge(record).fate is Fate.REPEAT  # whatever its content: known again


def test_a_bomb_is_refused_unopened():
    bomb = zlib.compress(b"[" + b" " * (limits.BATCH_UNPACKED_BYTES + 1) + b"]", 9)
    assert reasons(Bench().outputs(batched([reading()], payload=bomb))) == [Reason.BOMB]


def test_a_batch_that_was_refused_whole_is_no_gap():
    bench = Bench()
    bench.judge(batched([reading()], number=1))
    bench.judge(batched([reading()], number=2, payload=b"broken"))
    outcome = bench.judge(batched([reading()], number=3, floor=3))
    assert outcome.lost == ()


def test_a_cut_batch_is_too_large_and_no_gap():
    bench = Bench()
    (output,) = bench.outputs(cut(batched([reading()], number=1)))
    assert output.data.reason == Reason.TOO_LARGE
    assert bench.judge(batched([reading()], number=2, floor=2)).lost == ()


def test_a_refused_header_leaves_the_batch_window_alone():
    bench = Bench()
    bench.judge(batched([reading()], marks={"floor": "5"}))
    assert [name[:1] for name in bench.state.values] == [b"m"]


def test_what_is_no_gateway_sends_no_batches():
    bench = Bench()
    assert reasons(bench.outputs(batched([reading()], sender="solo"))) == [Reason.PROTOCOL]
    assert [name[:1] for name in bench.state.values] == [b"m"]


def test_an_unknown_gateways_numbers_are_kept_so_that_its_admission_is_no_gap():
    bench = Bench(DictRegistry(device("dev-1", "gw")))
    assert reasons(bench.outputs(batched([reading()], number=1))) == [Reason.UNKNOWN_GATEWAY]
    bench.registry.views["gw"] = gateway("gw")
    outcome = bench.judge(batched([reading()], number=2, floor=2))
    assert (outcome.fate, outcome.lost) == (Fate.NORMALIZED, ())


def test_properties_left_out_by_ingest_are_named():
    (output,) = Bench().outputs(batched([reading()], marks={"schema": None, "headers_cut": "1"}))
    assert "left out" in output.data.detail


def test_a_batchs_own_clock_counts_for_what_its_agent_could_not_parse():
    payload = json.dumps({"ts": 5, "a": 1}).encode()
    output, _ = Bench().outputs(
        batched([bytes_record(payload, at_ms=7_000)], clock=ClockQuality.UNSYNCED, received_ms=NOW_MS)
    )
    assert output.data.quality.clock == ClockQuality.UNSYNCED
    assert output.data.ts == TS  # the acceptance is no time to go by


def test_a_hint_that_is_ignored_is_told_and_nothing_is_refused():
    output, conduct = Bench().outputs(batched([reading()], marks={"hint_ignored": "h-1"}))
    assert (output.topic, conduct.topic, conduct.key) == (Kafka.NORMALIZED, Kafka.CONDUCT, "gw")
    assert (conduct.data.kind, conduct.data.hint, conduct.data.count) == (Misconduct.IGNORED_HINT, "h-1", 1)


def test_a_dead_letter_that_comes_back_says_nothing_anew_of_its_sender():
    bench = Bench(DictRegistry())
    (dead,) = bench.outputs(direct({"ts": 7, "n": 1}))
    bench.registry.views["solo"] = device("solo")
    assert [output.topic for output in bench.outputs(replay_of(dead))] == [Kafka.NORMALIZED]


# Dead letters that come back


def test_a_whole_message_comes_back_when_its_device_is_known():
    bench = Bench(DictRegistry())
    (dead,) = bench.outputs(direct(GOOD, received_ms=NOW_MS - 50_000))
    bench.registry.views["solo"] = device("solo")
    (output,) = bench.outputs(replay_of(dead))
    assert (output.id, output.topic) == (dead.id, Kafka.NORMALIZED)
    assert (output.data.lane, output.data.received_at) == (Lane.REPLAY, rfc3339(NOW_MS - 50_000))
    again = bench.judge(replay_of(dead))
    assert (again.fate, again.is_replay, again.outputs) == (Fate.REPEAT, True, [])


def test_a_replay_refused_again_says_nothing_twice_and_may_come_back_once_more():
    bench = Bench(DictRegistry())
    (dead,) = bench.outputs(direct(GOOD))
    outcome = bench.judge(replay_of(dead))
    assert (outcome.fate, outcome.outputs, outcome.tally.refused) == (Fate.REJECTED, [], [Reason.UNKNOWN_DEVICE])
    bench.registry.views["solo"] = device("solo")
    assert bench.judge(replay_of(dead)).fate is Fate.NORMALIZED


def test_a_record_of_a_batch_comes_back_as_of_its_own_time_and_place():
    bench = Bench()
    (dead,) = bench.outputs(batched([reading("late", NOW_MS - 1_000)], number=4))
    bench.registry.views["late"] = device("late", "gw")
    (output,) = bench.outputs(replay_of(dead))
    assert (output.id, output.key) == (f"gw:{EPOCH}:4:0", "late")
    assert (output.data.gateway_id, output.data.lane) == ("gw", Lane.REPLAY)
    assert output.data.accepted_at == rfc3339(NOW_MS - 1_000)
    assert bench.judge(replay_of(dead)).fate is Fate.REPEAT


def test_a_part_that_comes_back_asks_for_its_device():
    bench = Bench()
    (dead,) = bench.outputs(batched([reading("late")]))
    bench.registry.hidden["late"] = device("late", "gw")
    (output,) = bench.outputs(replay_of(dead))
    assert (output.topic, output.key) == (Kafka.NORMALIZED, "late")


def test_the_bytes_of_a_device_behind_a_gateway_come_back():
    bench = Bench()
    payload = json.dumps({"ts": NOW_MS - 2_000, "a": 1}).encode()
    bad = bytes_record(payload, "late", NOW_MS - 1_500)
    (dead,) = bench.outputs(batched([bad], clock=ClockQuality.CORRECTED))
    assert dead.data.reason == Reason.UNKNOWN_DEVICE
    bench.registry.views["late"] = device("late", "gw")
    (output,) = bench.outputs(replay_of(dead))
    assert (output.id, output.data.gateway_id) == (f"gw:{EPOCH}:1:0", "gw")
    assert (output.data.accepted_at, output.data.quality.clock) == (rfc3339(NOW_MS - 1_500), ClockQuality.CORRECTED)


def test_a_whole_batch_comes_back_past_the_batch_check():
    bench = Bench(DictRegistry(device("dev-1", "gw")))
    (dead,) = bench.outputs(batched([reading(), reading("nobody")], number=6))
    bench.registry.views["gw"] = gateway("gw")
    good, bad = bench.outputs(replay_of(dead))
    assert (good.id, good.data.lane) == (f"gw:{EPOCH}:6:0", Lane.REPLAY)
    assert (bad.id, bad.data.reason) == (f"gw:{EPOCH}:6:1", Reason.UNKNOWN_DEVICE)
    assert bench.judge(replay_of(dead)).fate is Fate.REPEAT
    # The refused part is a dead letter of its own now.
    bench.registry.views["nobody"] = device("nobody", "gw")
    (output,) = bench.outputs(replay_of(bad))
    assert (output.id, output.key) == (f"gw:{EPOCH}:6:1", "nobody")


def test_a_batch_of_an_unknown_schema_comes_back_refused_while_it_is_unknown():
    bench = Bench()
    (dead,) = bench.outputs(batched([reading()], marks={"schema": "9"}))
    assert bench.judge(replay_of(dead)).tally.refused == [Reason.SCHEMA_VERSION]


def test_an_element_of_an_array_comes_back(monkeypatch):
    bench = Bench()
    with monkeypatch.context() as stricter:
        stricter.setattr(limits, "STRING_CHARS", 10)
        (_, dead) = bench.outputs(direct([GOOD, {"ts": TS, "a": "x" * 11}]))
    (output,) = bench.outputs(replay_of(dead))
    assert (output.id, output.key, output.data.lane) == (dead.id, "solo", Lane.REPLAY)


def test_a_replay_mark_without_origin_is_an_ordinary_message():
    assert Bench().judge(direct(GOOD, replay_of="x:1")).is_replay is False
    assert Bench().judge(direct(GOOD, replay_of="x:1", replay_origin="{}")).is_replay is False


# Whatever comes


def test_a_record_that_could_not_be_judged_is_kept_whole():
    record = batched([reading()])
    outcome = unjudged(record)
    (output,) = map(read_back, outcome.outputs)
    assert (outcome.fate, output.data.reason) == (Fate.REJECTED, Reason.UNJUDGED)
    assert base64.b64decode(output.data.payload_base64) == record.value
    assert Bench().judge(replay_of(output)).fate is Fate.NORMALIZED


_ORIGIN = {"kind": "batches", "sender": "gw", "record": "reading", "received_at": "x", "content_type": "c"}
_NAMES = (
    *HEADER_NAMES,
    *("ce_id", "content-type", "received_ms", "topic_kind", "cut_length", "cut_sha256", "headers_cut", "throttled"),
    *("replay_of", "replay_origin", "replay_received_ms"),
)
_VALUES = (
    *(b"1", b"2", b"-1", b"9" * 30, b"live", b"batches", EPOCH.encode(), b"synced", b"%d" % NOW_MS),
    json.dumps(_ORIGIN | {"raw": {"topic": "r", "partition": 0, "offset": 0}}).encode(),
)
HEADERS = st.dictionaries(st.sampled_from(_NAMES), st.binary(max_size=40) | st.sampled_from(_VALUES))


@settings(max_examples=400, deadline=None)
@given(
    HEADERS,
    st.one_of(st.binary(max_size=200), st.sampled_from([b"[]", b"{}", b'[{"ts":1}]'])),
    st.sampled_from(["gw", "solo", "", "\x00", "ü"]),
)
def test_no_record_makes_it_raise_and_each_has_one_fate(headers, value, key):
    record = incoming(key, value, headers)
    first, again = Bench(), Bench()
    outcome = first.judge(record)
    assert [output.value for output in again.judge(record).outputs] == [output.value for output in outcome.outputs]
    if not outcome.is_replay:
        assert outcome.outputs
        assert first.judge(record).fate is Fate.REPEAT


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(["ts", "a", "status", "seq"]) | st.text(max_size=3), inner, max_size=4)
    ),
    max_leaves=12,
)


@settings(max_examples=300, deadline=None)
@given(JSON)
def test_any_json_of_a_device_is_counted_once_per_object(value):
    outcome = Bench().judge(direct(value))
    tally = outcome.tally
    wanted = max(1, len(value)) if isinstance(value, list) else 1
    judged = [output for output in outcome.outputs if output.topic is not Kafka.CONDUCT]
    assert tally.readings + len(tally.refused) == len(judged)
    assert len(judged) in (wanted, 1)


@settings(max_examples=300, deadline=None)
@given(st.lists(JSON, min_size=1, max_size=5))
def test_any_json_in_a_batch_is_counted_once_per_record(values):
    payload = zlib.compress(json.dumps(values).encode())
    outcome = Bench().judge(batched([reading()] * len(values), payload=payload))
    assert len(outcome.outputs) >= 1
    assert outcome.tally.readings + len(
        outcome.tally.refused
    ) + outcome.tally.events + outcome.tally.aggregates == len(outcome.outputs)


def test_traces_go_along_and_their_stage_is_recorded():
    asked = []

    def stage(parent):
        asked.append(parent)
        return "00-" + "2" * 32 + "-" + "3" * 16 + "-01"

    parent = "00-" + "1" * 32 + "-" + "1" * 16 + "-01"
    own = "00-" + "4" * 32 + "-" + "4" * 16 + "-01"
    plain = Normalizer(house(), Rules()).judge(direct(GOOD, traceparent=parent), MemoryState())
    assert read_back(plain.outputs[0]).headers["traceparent"] == parent
    traced = Normalizer(house(), Rules(), stage).judge(
        batched([reading(traceparent=own), reading()], traceparent=parent), MemoryState()
    )
    assert asked == [own]  # the batch bears the trace of one of its records, not of the others
    assert [read_back(output).headers.get("traceparent") for output in traced.outputs] == [stage(None), None]
