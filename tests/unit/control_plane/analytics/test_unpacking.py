import json
import zlib

from control_plane.analytics.event_time import Rules
from control_plane.analytics.outlet import Outlet
from control_plane.analytics.raw_message import read
from control_plane.analytics.unpacking import judge_batch
from shared import batch
from shared.batch import Lane
from shared.errors import Reason
from tests.unit.control_plane.analytics.raw_kit import batched, house, read_back, reading


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
        import base64

        assert json.loads(base64.b64decode(letter.data.payload_base64)) == records[index]
        assert letter.data.origin.index == index


def test_bytes_after_the_stream_and_what_is_no_array_are_refused_whole():
    sound = batched([reading()])
    (trailing,) = opened(batched([reading()], payload=sound.value + b"x"))
    (no_array,) = opened(batched([reading()], payload=zlib.compress(b'{"a": 1}')))
    assert (trailing.data.reason, no_array.data.reason) == (Reason.MALFORMED, Reason.MALFORMED)
    assert trailing.data.origin.record == "message"
