"""Each row of the decision, and that a stranger cannot tell the refusals of a token apart."""

import dataclasses
from datetime import UTC, datetime, timedelta

import pytest

from control_plane.registry.enrolment.rules import (
    REFUSED,
    Create,
    Enrolment,
    Gateway,
    Known,
    Refusal,
    Refused,
    Renew,
    StoredToken,
    decide,
    token_problems,
)
from control_plane.registry.registration import Holder
from shared.device import Kind, Status
from shared.ids import DeviceId

NOW = datetime(2026, 1, 1, tzinfo=UTC)
HASH = b"h" * 32
KEY = b"k" * 32
FRESH = DeviceId("fresh")
REQUEST = Enrolment("e-1", HASH, "GW-1", "a" * 64, KEY)
TOKEN = StoredToken("e-1", HASH, "gateway", 1, 0, NOW + timedelta(hours=1), revoked=False)
HERE = Gateway(DeviceId("gw-1"), Kind.GATEWAY, Status.ACTIVE, "gateway", "GW-1", "a" * 64)
OLD = Gateway(DeviceId("gw-0"), Kind.GATEWAY, Status.ACTIVE, "gateway", "GW-0", "b" * 64)


def decided(request: Enrolment = REQUEST, token: StoredToken | None = TOKEN, **known: object):
    return decide(request, Known(token, **known), FRESH, NOW)  # type: ignore[arg-type]


def token(**changes: object) -> StoredToken:
    return dataclasses.replace(TOKEN, **changes)  # type: ignore[arg-type]


NO_TOKEN = {
    "unknown": None,
    "expired": token(expires_at=NOW),
    "revoked": token(revoked=True),
    "used up": token(used=1),
    "another secret": token(hash=b"x" * 32),
}


@pytest.mark.parametrize("why", NO_TOKEN)
@pytest.mark.parametrize("hardware", [None, HERE])
def test_a_token_that_is_none_is_refused_in_one_way(why: str, hardware: Gateway | None) -> None:
    assert decided(token=NO_TOKEN[why], hardware=hardware) is REFUSED


def test_new_hardware_gets_a_new_id() -> None:
    assert decided() == Create(FRESH)
    named = dataclasses.replace(REQUEST, name=DeviceId("hall-3"))
    assert decided(named) == Create(DeviceId("hall-3"))
    assert decided(unfinished=(DeviceId("gone"),)) == Create(FRESH, (DeviceId("gone"),))


def test_the_same_hardware_keeps_its_id_and_costs_a_use() -> None:
    assert decided(hardware=HERE) == Renew(HERE.id, costs=True)
    named = dataclasses.replace(REQUEST, name=DeviceId("hall-3"))
    assert decided(named, hardware=HERE) == Renew(HERE.id, costs=True)


def test_a_lost_answer_costs_no_further_use_and_another_key_pair_does() -> None:
    spent = token(used=1)
    assert decided(token=spent, hardware=HERE, earlier_key=KEY) == Renew(HERE.id, costs=False)
    assert decided(token=spent, hardware=HERE, earlier_key=b"x" * 32) is REFUSED
    assert decided(token=token(used=1, uses=2), hardware=HERE, earlier_key=b"x" * 32) == Renew(HERE.id, costs=True)


@pytest.mark.parametrize("state", [{"revoked": True}, {"expires_at": NOW}])
def test_even_a_repeat_needs_a_token_that_is_good(state: dict[str, object]) -> None:
    assert decided(token=token(used=1, **state), hardware=HERE, earlier_key=KEY) is REFUSED


def test_new_hardware_takes_over_and_its_repeat_does_not_do_it_twice() -> None:
    wants = token(replaces=OLD.id)
    assert decided(token=wants, replaces=OLD) == Create(FRESH, takes_over=OLD.id)
    gone = dataclasses.replace(OLD, replaced=True)
    assert decided(token=wants, replaces=gone, hardware=HERE, earlier_key=KEY) == Renew(HERE.id, costs=False)
    refused = decided(token=wants, replaces=gone)
    assert isinstance(refused, Refused)
    assert refused.why is Refusal.REPLACED


def test_hardware_that_is_there_already_may_take_over_another() -> None:
    wants = token(replaces=OLD.id)
    assert decided(token=wants, replaces=OLD, hardware=HERE) == Renew(HERE.id, costs=True, takes_over=OLD.id)
    assert decided(token=wants, replaces=HERE, hardware=HERE) == Renew(HERE.id, costs=True)


def test_a_gateway_registered_by_hand_is_adopted_when_the_token_names_it() -> None:
    by_hand = dataclasses.replace(HERE, hardware_id=None)
    taken = Holder(HERE.id, True)
    wants = token(replaces=HERE.id)
    assert decided(token=wants, replaces=by_hand, same_serial=taken) == Renew(HERE.id, costs=True, adopts=True)
    refused = decided(same_serial=taken)
    assert isinstance(refused, Refused)
    assert refused.why is Refusal.SERIAL_TAKEN
    other = decided(token=wants, replaces=HERE, same_serial=taken)
    assert isinstance(other, Refused), "it has hardware of its own, so this is other hardware with its serial"
    assert other.why is Refusal.SERIAL_TAKEN


def test_an_id_that_is_taken() -> None:
    refused = decided(dataclasses.replace(REQUEST, name=DeviceId("x")), same_id=Holder(DeviceId("x"), True))
    assert isinstance(refused, Refused)
    assert refused.why is Refusal.ID_TAKEN


@pytest.mark.parametrize("status", [Status.QUARANTINED, Status.SUSPENDED, Status.PENDING])
def test_enrolling_again_is_no_way_out_of_a_quarantine(status: Status) -> None:
    refused = decided(hardware=dataclasses.replace(HERE, status=status))
    assert isinstance(refused, Refused)
    assert refused.why is Refusal.CLOSED


def test_replaced_hardware_does_not_come_back_by_itself() -> None:
    refused = decided(hardware=dataclasses.replace(HERE, replaced=True))
    assert isinstance(refused, Refused)
    assert refused.why is Refusal.REPLACED


def test_stolen_hardware_comes_back_only_by_a_token_that_names_it() -> None:
    refused = decided(stolen=OLD.id)
    assert isinstance(refused, Refused)
    assert refused.why is Refusal.STOLEN
    revoked = dataclasses.replace(OLD, status=Status.RETIRED, revoked=True)
    assert decided(token=token(replaces=OLD.id), stolen=OLD.id, replaces=revoked) == Create(FRESH, takes_over=OLD.id)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({}, ""),
        ({"uses": 0}, "uses"),
        ({"uses": 10_001}, "uses"),
        ({"lasts": timedelta(0)}, "expire"),
        ({"lasts": timedelta(days=366)}, "expire"),
        ({"wants": "gw-0"}, "no gateway"),
        ({"wants": "gw-0", "replaces": dataclasses.replace(OLD, kind=Kind.DEVICE)}, "no gateway"),
        ({"wants": "gw-0", "replaces": dataclasses.replace(OLD, replaced=True)}, "already"),
        ({"wants": "gw-0", "replaces": OLD, "uses": 2}, "must be 1"),
        ({"wants": "gw-0", "replaces": OLD}, ""),
    ],
)
def test_tokens_that_make_no_sense(changes: dict[str, object], said: str) -> None:
    asked: dict[str, object] = {"uses": 1, "lasts": timedelta(hours=1), "replaces": None, "wants": None}
    found = token_problems(**(asked | changes))  # type: ignore[arg-type]
    assert bool(found) is bool(said)
    assert said in "; ".join(found)
