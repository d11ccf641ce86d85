import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared import limits
from shared.envelope import rfc3339
from shared.errors import Reason, Rejected
from shared.reading import Reading, Refused, parse_payload, parse_ts

GOOD = {"ts": "2026-01-01T00:00:00Z", "temperature": 24.1, "voltage": 3.7, "status": "OK", "seq": 7, "on": True}


def one(payload):
    (item,) = parse_payload(payload if isinstance(payload, bytes) else json.dumps(payload).encode())
    return item


def reason(payload):
    item = one(payload)
    assert isinstance(item, Refused), item
    return item.why.reason


def test_the_reading_of_the_contract():
    assert one(GOOD) == Reading(
        "2026-01-01T00:00:00Z", 1767225600000, {"temperature": 24.1, "voltage": 3.7, "on": True}, "OK", 7
    )


def test_each_object_of_an_array_is_judged_alone_and_keeps_its_bytes():
    items = list(parse_payload(b'[{"ts":1,"a":1}, {"a":2} ,{"ts":3,"a":3}]'))
    assert [type(item) for item in items] == [Reading, Refused, Reading]
    assert items[1].raw == b'{"a":2}'
    assert items[1].why.reason is Reason.MISSING_TS


def test_an_empty_array_holds_nothing():
    assert list(parse_payload(b" [] ")) == []


@pytest.mark.parametrize(
    ("payload", "expected"),
    [
        (b"", Reason.MALFORMED),
        (b"{", Reason.MALFORMED),
        (b"\xff\xfe\x00", Reason.MALFORMED),
        (b'"text"', Reason.MALFORMED),
        (b"[" * 200_000, Reason.MALFORMED),
        (b'{"ts":1,"a":"\\ud800"}', Reason.MALFORMED),
        (b'[{"ts":1},', Reason.MALFORMED),
        (b'{"temperature":1}', Reason.MISSING_TS),
        (b'{"ts":null}', Reason.BAD_TS),
        (b'{"ts":true}', Reason.BAD_TS),
        (b'{"ts":"yesterday"}', Reason.BAD_TS),
        (b'{"ts":"2026-01-01"}', Reason.BAD_TS),
        (b'{"ts":"2026-01-01T00:00:00"}', Reason.BAD_TS),
        (b'{"ts":"2026-02-30T00:00:00Z"}', Reason.BAD_TS),
        (b'{"ts":"1969-12-31T23:59:59Z"}', Reason.BAD_TS),
        (b'{"ts":"2026-01-01T00:00+00:00"}', Reason.BAD_TS),
        (b'{"ts":"2026-01-01T00:00:00+00:00:30"}', Reason.BAD_TS),
        (b'{"ts":"2026-01-01T00:00:00,5Z"}', Reason.BAD_TS),
        (b'{"ts":"2016-12-31T23:59:60Z"}', Reason.BAD_TS),
        (b'{"ts":"9999-12-31T23:59:59-23:59"}', Reason.BAD_TS),
        (b'{"ts":-1}', Reason.BAD_TS),
        (b'{"ts":1e300}', Reason.BAD_TS),
        (b'{"ts":1,"a":NaN}', Reason.NOT_FINITE),
        (b'{"ts":1,"a":-Infinity}', Reason.NOT_FINITE),
        (b'{"ts":1,"a":1e999}', Reason.NOT_FINITE),
        (b'{"ts":1,"a":null}', Reason.BAD_FIELD),
        (b'{"ts":1,"a":[1]}', Reason.BAD_FIELD),
        (b'{"ts":1,"a":{"b":1}}', Reason.BAD_FIELD),
        (b'{"ts":1,"a":123456789012345678901}', Reason.BAD_FIELD),
        (b'{"ts":1,"a b":1}', Reason.BAD_FIELD),
        (b'{"ts":1,"":1}', Reason.BAD_FIELD),
        (b'{"ts":1,"status":5}', Reason.BAD_FIELD),
        (b'{"ts":1,"seq":-1}', Reason.BAD_FIELD),
        (b'{"ts":1,"seq":true}', Reason.BAD_FIELD),
    ],
)
def test_what_is_no_reading_is_refused_by_reason(payload, expected):
    assert reason(payload) is expected
    assert one(payload).raw == payload


def test_limits_are_judged():
    many = {"ts": 1} | {f"m{i}": i for i in range(limits.READING_FIELDS)}
    assert reason(many) is Reason.BAD_FIELD
    assert reason({"ts": 1, "a": "x" * (limits.STRING_CHARS + 1)}) is Reason.BAD_FIELD
    assert reason({"ts": 1, "x" * (limits.FIELD_NAME_CHARS + 1): 1}) is Reason.BAD_FIELD
    assert isinstance(one({"ts": 1, "x" * limits.FIELD_NAME_CHARS: "x" * limits.STRING_CHARS}), Reading)
    assert reason([{"ts": 1}] * (limits.READINGS_PER_MESSAGE + 1)) is Reason.TOO_LARGE


@pytest.mark.parametrize(
    ("value", "ms"),
    [
        ("1970-01-01T00:00:00Z", 0),
        ("2099-12-31T23:59:59.999Z", 4102444799999),
        ("2026-01-01T01:00:00+01:00", 1767225600000),
        ("2026-01-01t00:00:00.123456z", 1767225600123),
        (1767225600000, 1767225600000),
        (1767225600000.9, 1767225600000),
    ],
)
def test_a_parsable_time_is_taken_however_implausible(value, ms):
    assert parse_ts(value) == ms


@given(st.binary(max_size=300))
def test_no_bytes_raise(payload):
    for item in parse_payload(payload):
        assert isinstance(item, Reading | Refused)


@given(st.recursive(st.none() | st.booleans() | st.floats() | st.integers() | st.text(), st.lists, max_leaves=8))
def test_no_ts_raises(value):
    assert isinstance(parse_ts(value), int | Rejected)


@pytest.mark.parametrize(
    "text",
    ["1970-01-01T00:00:00Z", "9999-12-31T23:59:59.999Z", "1970-01-01T23:59:00+23:59", "2026-01-01 00:00:00.1234567z"],
)
def test_every_time_that_is_accepted_can_be_printed(text):
    ms = parse_ts(text)
    assert isinstance(ms, int)
    assert parse_ts(rfc3339(ms)) == ms
