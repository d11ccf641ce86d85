import os
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared import batch, limits
from shared.batch import (
    Ack,
    AggregateRecord,
    BytesRecord,
    ClockQuality,
    EventRecord,
    Header,
    Hint,
    Lane,
    ReadingRecord,
)
from shared.errors import Reason, Rejected
from shared.ids import Epoch, new_epoch
from shared.reading import Verdict

READING = ReadingRecord(
    "dev", 1000, "2026-01-01T00:00:00Z", 1767225600000, {"t": 1.5, "n": 3, "on": True, "s": "x"}, "OK", 4,
    ClockQuality.SYNCED, -12, Verdict(3.1, "t", "spike", 1.2), "00-" + "a" * 32 + "-" + "b" * 16 + "-01",
)  # fmt: skip
RECORDS = [
    READING,
    AggregateRecord("dev", 1, "t", 0, 60_000, 12, -1.0, 2.0, 0.5),
    EventRecord("gw", 1, "salvaged", {"rows": 3}),
    BytesRecord("dev", 1, b"\xff\x00", 2, "ab" * 32),
]


@pytest.mark.parametrize("record", RECORDS)
def test_a_record_is_read_back_equal(record):
    assert batch.decode_record(batch.encode_record(record)) == record


def test_a_batch_is_read_back_equal_and_packs_the_same_bytes_each_time():
    encoded = [batch.encode_record(record) for record in RECORDS]
    packed = batch.pack(encoded)
    assert packed == batch.pack(encoded)
    assert batch.decode_records(batch.unpack(packed)) == RECORDS


def test_one_bad_record_is_judged_alone_in_its_place():
    good = batch.encode_record(READING)
    first, second, third = batch.decode_records(b"[" + good + b',["riddle",1],' + good + b"]")
    assert first == third == READING
    why, raw = second
    assert why.reason is Reason.MALFORMED
    assert raw == b'["riddle",1]'


@pytest.mark.parametrize("data", [b"", b"{}", b"[", b"\xff"])
def test_what_is_no_array_of_records_is_refused(data):
    assert batch.decode_records(data).reason is Reason.MALFORMED


def test_a_batch_over_a_limit_is_not_packed():
    hard_to_pack = batch.encode_record(BytesRecord("d", 1, os.urandom(limits.KEPT_OF_OVERSIZED_BYTES), 1, ""))
    assert batch.pack([hard_to_pack]) is not None
    assert batch.pack([hard_to_pack] * 5) is None
    easy_to_pack = b"0" * (limits.BATCH_UNPACKED_BYTES // 4)
    assert batch.pack([easy_to_pack] * 3) is not None
    assert batch.pack([easy_to_pack] * 4) is None


def test_a_damaged_stream_is_refused_by_what_is_wrong():
    packed = batch.pack([batch.encode_record(READING)])
    assert batch.unpack(packed[:-3]).reason is Reason.TRUNCATED
    assert batch.unpack(packed[:-1] + bytes([packed[-1] ^ 1])).reason is Reason.TRUNCATED
    assert batch.unpack(b"no zlib").reason is Reason.TRUNCATED
    assert batch.unpack(b"").reason is Reason.TRUNCATED
    assert batch.unpack(packed + b"x").reason is Reason.MALFORMED


def test_a_bomb_is_refused_without_unpacking_it():
    bomb = zlib.compress(b"0" * (64 * limits.MIB), 9)
    assert len(bomb) < limits.BATCH_PACKED_BYTES
    assert batch.unpack(bomb).reason is Reason.BOMB
    assert batch.unpack(zlib.compress(b"0" * limits.BATCH_UNPACKED_BYTES)) == b"0" * limits.BATCH_UNPACKED_BYTES


epochs = st.binary(min_size=16, max_size=16).map(
    lambda b: Epoch(__import__("base64").urlsafe_b64encode(b)[:22].decode())
)
headers = st.builds(
    lambda floor, ahead, **rest: Header(floor=floor, number=floor + ahead, **rest),
    floor=st.integers(1, 10**12),
    ahead=st.integers(0, limits.WINDOW_NUMBERS - 1),
    epoch=epochs,
    lane=st.sampled_from(Lane),
    records=st.integers(1, limits.BATCH_RECORDS),
    resent=st.booleans(),
    closed=st.lists(st.tuples(epochs, st.integers(0, 10**6)), max_size=3).map(tuple),
    void=st.lists(st.tuples(epochs, st.integers(1, 5), st.integers(5, 9)), max_size=3).map(tuple),
    clock=st.sampled_from(ClockQuality),
    hint=st.none() | st.just("h1"),
    traceparent=st.none() | st.just("00-" + "1" * 32 + "-" + "2" * 16 + "-01"),
)


@given(headers)
def test_a_header_is_read_back_equal(header):
    pairs = batch.encode_header(header)
    assert {name for name, _ in pairs} <= set(batch.HEADER_NAMES)
    assert batch.decode_header(dict(pairs)) == header


def test_lists_are_cut_to_what_a_property_may_hold_oldest_kept():
    closed = tuple((new_epoch(), 1_000_000) for _ in range(40))
    void = tuple((new_epoch(), 10**6, 10**6 + 1) for _ in range(40))
    header = Header(epoch=new_epoch(), number=1, floor=1, lane=Lane.LIVE, records=1, closed=closed, void=void)
    pairs = dict(batch.encode_header(header))
    assert all(len(value) <= limits.HEADER_VALUE_BYTES for value in pairs.values())
    read = batch.decode_header(pairs)
    assert read.closed == closed[: batch.listed_closed(closed)] == closed[: limits.CLOSED_EPOCHS]
    assert read.void == void[: batch.listed_void(void)]
    assert 0 < len(read.void) < 40


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"schema": "2"}, Reason.SCHEMA_VERSION),
        ({"schema": None}, Reason.SCHEMA_VERSION),
        ({"epoch": "short"}, Reason.PROTOCOL),
        ({"number": "0", "floor": "0"}, Reason.PROTOCOL),
        ({"number": "-1"}, Reason.PROTOCOL),
        ({"number": "07"}, Reason.PROTOCOL),
        ({"number": "4", "floor": "5"}, Reason.PROTOCOL),
        ({"number": str(5 + limits.WINDOW_NUMBERS)}, Reason.PROTOCOL),
        ({"lane": "fast"}, Reason.PROTOCOL),
        ({"records": "0"}, Reason.PROTOCOL),
        ({"records": "1001"}, Reason.PROTOCOL),
        ({"closed": "x:1"}, Reason.PROTOCOL),
        ({"void": "A" * 22 + ":3-1"}, Reason.PROTOCOL),
        ({"clock": "sundial"}, Reason.PROTOCOL),
        ({"closed": ",".join(["A" * 22 + ":1"] * 33)}, Reason.PROTOCOL),
    ],
)
def test_a_header_that_no_agent_of_ours_writes_is_refused(change, reason):
    pairs = dict(batch.encode_header(Header(epoch=new_epoch(), number=7, floor=5, lane=Lane.LIVE, records=1)))
    pairs |= {name: value for name, value in change.items() if value is not None}
    pairs = {name: value for name, value in pairs.items() if change.get(name, "") is not None}
    read = batch.decode_header(pairs)
    assert isinstance(read, Rejected)
    assert read.reason is reason


def test_a_bad_traceparent_is_left_out_and_refuses_nothing():
    pairs = dict(batch.encode_header(Header(epoch=new_epoch(), number=1, floor=1, lane=Lane.LIVE, records=1)))
    assert batch.decode_header(pairs | {"traceparent": "nonsense"}).traceparent is None


def test_acknowledgements():
    ack = Ack({"e": [1, 2, 9]}, Hint("h", 10.0, 60.0))
    assert batch.decode_ack(batch.encode_ack(ack)) == ack
    assert batch.encode_ack(Ack({"e": [1]})) == b'{"acks":{"e":[1]}}'
    assert isinstance(batch.decode_ack(b'{"acks":{"e":["x"]}}'), Rejected)


TRACE = "00-" + "a" * 32 + "-" + "b" * 16 + "-0"


@pytest.mark.parametrize(("trace", "found"), [(TRACE + "1", TRACE + "1"), (TRACE + "0", None), (None, None)])
def test_the_trace_of_an_encoded_record_is_found_at_its_end(trace, found):
    reading = ReadingRecord("d", 1, 1, 1, {"t": 1.0}, TRACE + "1", None, ClockQuality.SYNCED, None, None, trace)
    assert batch.sampled_trace(batch.encode_record(reading)) == found
    assert batch.sampled_trace(batch.encode_record(BytesRecord("d", 1, b"x", 1, "00", trace))) == found


def test_records_that_bear_no_trace_have_none():
    assert batch.sampled_trace(batch.encode_record(EventRecord("d", 1, TRACE + "1", {}))) is None
    assert batch.sampled_trace(b"") is None


def test_an_aggregate_of_an_older_agent_is_read_and_one_of_a_newer_by_an_older_hub():
    old = b'["aggregate","dev",1,"t",0,60000,12,-1.0,2.0,0.5]'
    assert batch.decode_record(old) == AggregateRecord("dev", 1, "t", 0, 60_000, 12, -1.0, 2.0, 0.5, None)
    newer = old[:-1] + b',"synced","and more"]'
    assert batch.decode_record(newer).clock is ClockQuality.SYNCED
