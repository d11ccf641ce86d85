import base64

from control_plane.analytics.raw_message import Cut, read
from control_plane.analytics.refusal import READING, BatchPlace, Part, refuse
from shared.batch import Lane
from shared.envelope import rfc3339
from shared.errors import Reason, Rejected
from tests.unit.control_plane.analytics.raw_kit import EPOCH, NOW_MS, batched, direct, read_back, reading

WHY = Rejected(Reason.BAD_FIELD, "because")


def test_a_part_of_a_batch_names_its_place_and_only_the_clock():
    message = read(batched([reading()], number=3))
    part = Part(READING, "dev-1", NOW_MS - 5, 7)
    made = read_back(refuse(message, WHY, b"abc", "id-1", part=part, lane=Lane.LIVE, batch=BatchPlace(EPOCH, 3)))
    origin = made.data.origin
    assert (made.key, made.id, made.headers["ce_time"]) == ("dev-1", "id-1", rfc3339(NOW_MS))
    assert (origin.epoch, origin.number, origin.index, origin.lane) == (EPOCH, 3, 7, Lane.LIVE)
    assert (origin.sender, origin.device_id, origin.accepted_at) == ("gw", "dev-1", rfc3339(NOW_MS - 5))
    assert origin.headers == {"clock": "synced"}
    assert (made.data.length, base64.b64decode(made.data.payload_base64)) == (3, b"abc")


def test_a_whole_batch_keeps_its_properties():
    message = read(batched([reading()], number=3))
    made = read_back(refuse(message, WHY, message.value, "id-1"))
    assert made.key == "gw"
    assert made.data.origin.headers == message.properties
    assert made.data.origin.device_id is None


def test_what_was_cut_says_what_it_was():
    message = read(direct(b"abc"))
    made = read_back(refuse(message, WHY, b"abc", "id-1", cut=Cut(99, "d" * 64)))
    assert (made.data.length, made.data.sha256) == (99, "d" * 64)


def test_a_claimed_id_that_is_none_is_no_key():
    made = read_back(refuse(read(batched([reading()])), WHY, b"", "id-1", part=Part(READING, "a b")))
    assert (made.key, made.data.origin.device_id) == ("gw", "a b")
