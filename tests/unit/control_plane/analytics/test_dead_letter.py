import base64

import msgspec
import pytest

from control_plane.analytics import dead_letter
from shared import envelope
from shared.recent import identity
from tests.unit.control_plane.analytics.raw_kit import NOW_MS, Bench, batched, cut, direct, reading


def dead(record):
    (letter,) = Bench().outputs(record)
    return letter


def test_it_comes_back_as_of_its_own_sender_and_time():
    record = batched([reading()], number=4, marks={"schema": "9"}, received_ms=NOW_MS - 77)
    letter = dead(record)
    made = dead_letter.replay(letter.id, letter.data)
    headers = envelope.text_headers(made.headers)
    assert (made.key, made.value) == (b"gw", record.value)
    assert headers["replay_of"] == headers["ce_id"] == letter.id
    assert headers["ce_source"] == "/deadletters"
    assert headers["received_ms"] == headers["replay_received_ms"] == str(NOW_MS - 77)
    assert (headers["topic_kind"], headers["number"], headers["schema"]) == ("batches", "4", "9")
    assert headers["content-type"] == dict(record.headers)["content-type"].decode()
    assert msgspec.json.decode(headers["replay_origin"])["sender"] == "gw"


def test_ingest_does_not_take_it_for_a_message_of_its_own():
    from control_plane.ingest.raw_record import recorded_identity

    record = direct(b"nonsense")
    assert recorded_identity(record.key, record.value, record.headers) == identity(b"solo", b"nonsense")
    made = dead_letter.replay("solo:1", dead(record).data)
    assert recorded_identity(made.key, made.value, made.headers) is None


def test_what_was_cut_cannot_come_back():
    letter = dead(cut(direct(b"x" * 300_000)))
    assert dead_letter.was_cut(letter.data)
    with pytest.raises(AssertionError):
        dead_letter.replay(letter.id, letter.data)
    assert not dead_letter.was_cut(dead(direct(b"x")).data)


def test_a_payload_that_is_no_base64_cannot_either():
    letter = dead(direct(b"x"))
    assert dead_letter.was_cut(msgspec.structs.replace(letter.data, payload_base64="é"))
    assert dead_letter.was_cut(msgspec.structs.replace(letter.data, payload_base64="A"))
    assert base64.b64decode(letter.data.payload_base64) == dead_letter.payload(letter.data)
