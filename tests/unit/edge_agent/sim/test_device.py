import json

from edge_agent.sim.device import BROKEN, Device, Kind, Sensor
from edge_agent.sim.faults import Distortion, Episode, Fault
from edge_agent.sim.series import Replay
from shared.reading import Reading, Refused, parse_payload

NOW = 1767225600000


def device(*episodes, distortion=None):
    return Device("a", {"temperature": Sensor(Replay([20.0, 21.0]), distortion)}, episodes, 0.2)


def episode(fault, size=1.0):
    return Episode("a", fault, "temperature", 1.0, 2.0, size)


def test_a_reading_is_of_the_contract_and_numbered():
    (message,) = device().measure(7, 0.0, NOW)
    assert message.kind is Kind.READING
    assert json.loads(message.payload) == {
        "ts": "2026-01-01T00:00:00.000Z", "n": 7, "temperature": 21.0, "status": "OK",
    }  # fmt: skip


def test_a_value_fault_shows_in_the_payload():
    faulty = device(distortion=Distortion([episode(Fault.LEVEL_SHIFT, 5.0)], 2.0, 1))
    assert json.loads(faulty.measure(0, 1.5, NOW)[0].payload)["temperature"] == 30.0


def test_a_duplicate_is_the_same_bytes():
    first, second = device(episode(Fault.DUPLICATES)).measure(0, 1.5, NOW)
    assert (first.kind, second.kind) == (Kind.READING, Kind.REPEAT)
    assert first.payload == second.payload


def test_malformed_messages_follow_readings_and_are_all_refused_and_all_different():
    broken = device(episode(Fault.MALFORMED))
    messages = [broken.measure(n, 1.5, NOW) for n in range(3 * len(BROKEN))]
    for reading, malformed in messages:
        assert isinstance(next(parse_payload(reading.payload)), Reading)
        assert malformed.kind is Kind.MALFORMED
        assert all(isinstance(item, Refused) for item in parse_payload(malformed.payload))
    assert len({malformed.sha256 for _, malformed in messages}) == len(messages)


def test_clocks_are_off_only_in_their_episode():
    skewed = device(episode(Fault.CLOCK_SKEW, -60.0))
    assert b"2025-12-31T23:59:00" in skewed.measure(0, 1.5, NOW)[0].payload
    assert b"2026-01-01T00:00:00" in skewed.measure(1, 2.5, NOW)[0].payload
    assert b"1970-01-01T00:00:00.500Z" in device(episode(Fault.CLOCK_RESET)).measure(0, 1.5, NOW)[0].payload


def test_a_flood_is_many_readings_and_an_outage_none_until_its_end():
    assert device(episode(Fault.FLOOD, 20.0)).readings_at(1.5) == 20
    assert device(episode(Fault.FLOOD, 20.0)).readings_at(2.5) == 1
    assert device(episode(Fault.OFFLINE)).offline_for(1.25) == 0.75
    assert device(episode(Fault.OFFLINE)).offline_for(2.0) == 0.0
