import base64
import json
import zlib
from collections import Counter

import pytest

from control_plane.analytics.event_time import Rules
from control_plane.analytics.outlet import Outlet
from control_plane.analytics.raw_message import read
from control_plane.analytics.unpacking import OPENED_READINGS, judge_batch
from shared import batch, limits
from shared.batch import BytesRecord, Lane
from shared.errors import Reason
from tests.unit.control_plane.analytics.raw_kit import NOW_MS, batched, house, read_back, reading


def opened(record):
    message = read(record)
    outlet = Outlet(message, Lane.LIVE, Rules(), None)
    judge_batch(outlet, batch.decode_header(message.properties), house())
    return [read_back(output) for output in outlet.outputs]


def test_the_refused_record_has_its_own_bytes_even_those_we_do_not_know():
    records = [
        json.loads(batch.encode_record(reading())),
        [*json.loads(batch.encode_record(reading("stranger"))), "of a newer agent"],
        ["unheard", "dev-1"],
    ]
    payload = zlib.compress(json.dumps(records).encode())
    good, foreign, unheard = opened(batched([reading()] * 3, payload=payload))
    assert good.key == "dev-1"
    assert (foreign.data.reason, unheard.data.reason) == (Reason.UNKNOWN_DEVICE, Reason.MALFORMED)
    for index, letter in ((1, foreign), (2, unheard)):
        assert json.loads(base64.b64decode(letter.data.payload_base64)) == records[index]
        assert letter.data.origin.index == index


def test_bytes_after_the_stream_and_what_is_no_array_are_refused_whole():
    sound = batched([reading()])
    (trailing,) = opened(batched([reading()], payload=sound.value + b"x"))
    (no_array,) = opened(batched([reading()], payload=zlib.compress(b'{"a": 1}')))
    assert (trailing.data.reason, no_array.data.reason) == (Reason.MALFORMED, Reason.MALFORMED)
    assert trailing.data.origin.record == "message"


def bytes_record(payload, **changes):
    fields = {"device": "dev-1", "at_ms": NOW_MS, "payload": payload, "length": len(payload), "sha256": "0" * 64}
    return BytesRecord(**(fields | changes))


def test_readings_taken_out_of_bytes_are_bounded_and_what_is_over_is_kept_whole():
    array = b"[" + b",".join([b"{}"] * 1_000) + b"]"
    records = [bytes_record(array)] * (OPENED_READINGS // 1_000 + 2)
    letters = opened(batched(records))
    assert Counter(letter.data.reason for letter in letters) == {Reason.MISSING_TS: OPENED_READINGS, Reason.BOMB: 2}
    assert base64.b64decode(letters[-1].data.payload_base64) == array
    # One of them alone is not too much: it can come back.
    (outlet,) = opened(batched([bytes_record(b'[{"ts": 1}]')]))
    assert outlet.data.device_id == "dev-1"


def test_a_batch_of_nothing_but_unparsable_messages_is_within_the_bound():
    letters = opened(batched([bytes_record(b"no json")] * limits.BATCH_RECORDS))
    assert {letter.data.reason for letter in letters} == {Reason.MALFORMED}
    assert len(letters) == limits.BATCH_RECORDS


@pytest.mark.parametrize("spoilt", [b'{"a":"\\ud800"}', b"[" * 3_000 + b"]" * 3_000], ids=["surrogate", "nesting"])
def test_where_a_record_ends_nobody_can_tell_the_whole_is_refused(spoilt):
    payload = zlib.compress(b"[%s,%s]" % (batch.encode_record(reading()), spoilt))
    (letter,) = opened(batched([reading()] * 2, payload=payload))
    assert (letter.data.reason, letter.data.origin.record) == (Reason.MALFORMED, "message")
