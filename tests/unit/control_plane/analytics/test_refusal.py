import base64
import hashlib

import pytest

from control_plane.analytics.dead_letter import was_cut
from control_plane.analytics.job import Output
from control_plane.analytics.raw_message import Cut, read
from control_plane.analytics.refusal import READING, RECORD, WHOLE, BatchPlace, Part, instead_of, refuse
from shared import limits
from shared.batch import Lane
from shared.envelope import rfc3339
from shared.errors import Reason, Rejected
from shared.ids import is_device_id
from shared.topics import Kafka
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


def test_a_part_larger_than_any_message_is_cut_and_says_what_it_was():
    payload = b"x" * (limits.PAYLOAD_BYTES + 1)
    made = read_back(refuse(read(batched([reading()])), WHY, payload, "id-1", part=Part(RECORD, "dev-1", index=0)))
    assert base64.b64decode(made.data.payload_base64) == payload[: limits.KEPT_OF_OVERSIZED_BYTES]
    assert (made.data.length, made.data.sha256) == (len(payload), hashlib.sha256(payload).hexdigest())
    assert was_cut(made.data)
    whole = read_back(refuse(read(batched([reading()])), WHY, payload[:-1], "id-1"))
    assert not was_cut(whole.data)


def test_no_text_that_a_sender_chose_makes_it_large():
    text = "x" * limits.MIB
    record = batched([reading()], marks={"content-type": text, "clock": text, "ledger": text})
    for part in (Part(RECORD, text, index=0), WHOLE):
        made = refuse(read(record), Rejected(Reason.BAD_FIELD, text), b"", "id-1", part=part, cut=Cut(10**99, text))
        assert len(made.value) < 10_000
        letter = read_back(made)
    assert letter.data.origin.device_id is None
    assert letter.data.length == 2**63 - 1


def test_a_shortened_id_is_no_other_devices():
    made = read_back(refuse(read(batched([reading()])), WHY, b"", "id-1", part=Part(READING, "a" * 65)))
    assert not is_device_id(made.data.origin.device_id)


@pytest.mark.parametrize("size", [0, 10, limits.KAFKA_MESSAGE_BYTES])
def test_instead_of_what_is_too_large_its_beginning_is_written(size):
    output = Output(Kafka.NORMALIZED, b"dev-1", b"x" * size, [("ce_id", b"i" * limits.MIB)])
    made = instead_of(read(batched([reading()])), output)
    assert len(made.value) + sum(len(value) for _, value in made.headers) < limits.PAYLOAD_BYTES
    letter = read_back(made)
    assert (letter.topic, letter.data.reason) == (Kafka.REJECTED, Reason.TOO_LARGE)
    assert letter.id.startswith("iii")
    assert was_cut(letter.data)
