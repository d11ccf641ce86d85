"""Hub acknowledgements that are due."""

from control_plane.ingest.hub_acks import HubAcks
from shared.batch import Ack, decode_ack


def taken(acks, gateways=100):
    return {gateway: decode_ack(payload) for gateway, payload in acks.take(gateways)}


def test_merged_per_gateway_and_epoch():
    acks = HubAcks(100)
    for gateway, epoch, number in [("g1", "e1", 1), ("g2", "e9", 4), ("g1", "e1", 2), ("g1", "e2", 1)]:
        acks.confirmed(gateway, epoch, number)
    assert len(acks) == 4
    assert taken(acks) == {"g1": Ack({"e1": [1, 2], "e2": [1]}), "g2": Ack({"e9": [4]})}
    assert len(acks) == 0
    assert taken(acks) == {}


def test_a_number_named_again_is_told_again_but_once_a_message():
    acks = HubAcks(100)
    acks.confirmed("g", "e", 1)
    acks.confirmed("g", "e", 1)
    assert taken(acks) == {"g": Ack({"e": [1]})}
    acks.confirmed("g", "e", 1)
    assert taken(acks) == {"g": Ack({"e": [1]})}


def test_the_longest_waiting_first_and_no_more_than_asked_for():
    acks = HubAcks(100)
    for gateway in ("g1", "g2", "g3"):
        acks.confirmed(gateway, "e", 1)
    assert list(taken(acks, 2)) == ["g1", "g2"]
    assert taken(acks, 0) == {}
    assert taken(acks, -5) == {}
    assert list(taken(acks, 2)) == ["g3"]


def test_beyond_the_limit_the_longest_waiting_gateway_is_forgotten():
    acks = HubAcks(3)
    for gateway, number in [("g1", 1), ("g1", 2), ("g2", 1), ("g3", 1)]:
        acks.confirmed(gateway, "e", number)
    assert len(acks) == 2
    assert acks.forgotten == 2
    assert list(taken(acks)) == ["g2", "g3"]
