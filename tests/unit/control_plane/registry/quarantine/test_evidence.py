"""Whose fault what is, from the records that the normaliser really writes."""

import hashlib

import pytest

from control_plane.registry.quarantine.evidence import of_conduct, of_rejected
from control_plane.registry.quarantine.rules import Rule
from shared import batch
from shared.batch import BytesRecord
from shared.errors import Reason
from tests.unit.control_plane.analytics import raw_kit

GATEWAY_AT = raw_kit.NOW_MS - 60_000


def told(*records):
    """What these raw records lead to, as observations."""
    found = []
    for output in raw_kit.Bench().outputs(*records):
        reader = {"iot.telemetry.rejected.v1": of_rejected, "iot.device.conduct.v1": of_conduct}.get(output.topic)
        if reader is not None:
            found.append(reader(output.output.value))
    return found


def test_a_devices_own_message_is_its_own_fault():
    (seen,) = told(raw_kit.direct(b"nonsense"))
    assert (seen.device_id, seen.rule, seen.behind, seen.signs) == ("solo", Rule.MALFORMED_RATE, None, 1)
    assert (seen.at_ms, len(seen.sample)) == (raw_kit.NOW_MS, 64)
    (flood,) = told(raw_kit.direct({"ts": raw_kit.NOW_MS}, throttled="1"))
    assert (flood.device_id, flood.rule) == ("solo", Rule.FLOOD)


def test_of_a_batch_the_device_or_the_gateway():
    bad = BytesRecord("dev-1", GATEWAY_AT, b"nonsense", 8, hashlib.sha256(b"nonsense").hexdigest())
    (seen,) = told(raw_kit.batched([bad]))
    assert (seen.device_id, seen.behind, seen.rule, seen.at_ms) == ("dev-1", "gw", Rule.MALFORMED_RATE, GATEWAY_AT)
    (whole,) = told(raw_kit.batched([raw_kit.reading()], payload=b"no zip"))
    assert (whole.device_id, whole.behind, whole.rule) == ("gw", None, Rule.MALFORMED_RATE)
    two = batch.pack([batch.encode_record(raw_kit.reading())] * 2)
    (false,) = told(raw_kit.batched([raw_kit.reading()], payload=two))  # its header says one
    assert (false.device_id, false.rule) == ("gw", Rule.FALSE_HEADERS)
    (foreign,) = told(raw_kit.batched([raw_kit.reading("other", at_ms=GATEWAY_AT)]))
    assert (foreign.device_id, foreign.rule, foreign.behind) == ("gw", Rule.FOREIGN_DEVICES, None)
    assert foreign.at_ms == GATEWAY_AT, "when it happened, not when it came"


def test_what_is_not_refused_is_told_by_its_conduct():
    (clock,) = told(raw_kit.batched([raw_kit.reading(ts_ms=7)] * 3))
    assert (clock.device_id, clock.behind, clock.rule, clock.signs) == ("dev-1", "gw", Rule.IMPOSSIBLE_CLOCK, 3)
    (hint,) = told(raw_kit.batched([raw_kit.reading()], marks={"hint_ignored": "h"}))
    assert (hint.device_id, hint.behind, hint.rule) == ("gw", None, Rule.IGNORED_HINT)


def test_no_reason_but_misbehaviour_counts():
    assert told(raw_kit.direct({"ts": raw_kit.NOW_MS}, sender="stranger")) == [None]
    assert told(raw_kit.batched([raw_kit.reading("stranger")])) == [None]


@pytest.mark.parametrize("value", [b"", b"{}", b"\xff", b"[]", b'{"reason": 5}'])
def test_bytes_that_are_none_say_nothing(value):
    assert of_rejected(value) is None
    assert of_conduct(value) is None


@pytest.mark.parametrize("sender", ["_ingest", "_registry", "a/b", ""])
def test_none_of_our_own_services_is_ever_spoken_against(sender):
    said = b'{"reason": "%b", "sha256": "0", "origin": {"kind": "telemetry", "sender": "%b", "record": "message",'
    said += b' "received_at": "2026-01-01T00:00:00.000Z"}}'
    assert of_rejected(said % (Reason.MALFORMED.encode(), sender.encode())) is None
    assert of_rejected(said % (Reason.MALFORMED.encode(), b"dev")) is not None


def test_a_time_that_is_none_says_nothing():
    said = b'{"device_id": "d", "kind": "impossible_clock", "count": 1, "at": "%b"}'
    assert of_conduct(said % b"yesterday") is None
    assert of_conduct(said % b"2026-01-01T00:00:00.000Z").rule is Rule.IMPOSSIBLE_CLOCK
