"""What a registration may do, as a table: what the database holds, and what is decided."""

from dataclasses import replace

import pytest

from control_plane.registry.registration import (
    Claim,
    Create,
    Decision,
    Holder,
    Known,
    Refusal,
    Refused,
    Renew,
    Repeat,
    Request,
    decide,
    gateway_refusal,
)
from shared.device import Kind
from shared.ids import DeviceId

FRESH, WANTED, OTHER, GATEWAY = (DeviceId(text) for text in ("fresh", "wanted", "other", "gw"))
NAMED = Request(serial="S1", type="t", kind=Kind.DEVICE, id=WANTED)
UNNAMED = replace(NAMED, id=None)
SAME = NAMED.fingerprint()


@pytest.mark.parametrize(
    ("request_", "known", "expected"),
    [
        (NAMED, Known(), Create(WANTED)),
        (UNNAMED, Known(), Create(FRESH)),
        # An unfinished registration gives way, whoever began it.
        (NAMED, Known(same_id=Holder(WANTED, False)), Create(WANTED, (WANTED,))),
        (NAMED, Known(same_serial=Holder(OTHER, False)), Create(WANTED, (OTHER,))),
        (
            NAMED,
            Known(same_id=Holder(WANTED, False), same_serial=Holder(OTHER, False)),
            Create(WANTED, (OTHER, WANTED)),
        ),
        # The same request again, by its Idempotency-Key.
        (NAMED, Known(claim=Claim(SAME, WANTED, True, False), same_id=Holder(WANTED, True)), Renew(WANTED)),
        (NAMED, Known(claim=Claim(SAME, WANTED, True, True), same_id=Holder(WANTED, True)), Repeat(WANTED)),
        (NAMED, Known(claim=Claim(SAME, WANTED, False, False)), Create(WANTED, (WANTED,))),
        (UNNAMED, Known(claim=Claim(UNNAMED.fingerprint(), OTHER, False, False)), Create(OTHER, (OTHER,))),
        # Behind a gateway.
        (replace(NAMED, gateway_id=GATEWAY), Known(gateway_kind=Kind.GATEWAY), Create(WANTED)),
    ],
)
def test_decisions(request_: Request, known: Known, expected: Decision) -> None:
    assert decide(request_, known, FRESH) == expected


@pytest.mark.parametrize(
    ("request_", "known", "why"),
    [
        (NAMED, Known(same_id=Holder(WANTED, True)), Refusal.ID_TAKEN),
        (UNNAMED, Known(same_serial=Holder(OTHER, True)), Refusal.SERIAL_TAKEN),
        (NAMED, Known(claim=Claim(b"x" * 32, WANTED, True, False)), Refusal.IDEMPOTENCY_KEY_REUSED),
        (NAMED, Known(claim=Claim(b"x" * 32, WANTED, False, False)), Refusal.IDEMPOTENCY_KEY_REUSED),
        # An unfinished earlier try does not hide that somebody else has the id by now.
        (
            NAMED,
            Known(claim=Claim(SAME, WANTED, False, False), same_serial=Holder(OTHER, True)),
            Refusal.SERIAL_TAKEN,
        ),
        (replace(NAMED, gateway_id=GATEWAY), Known(), Refusal.GATEWAY_UNKNOWN),
        (replace(NAMED, gateway_id=GATEWAY), Known(gateway_kind=Kind.DEVICE), Refusal.GATEWAY_UNKNOWN),
        (
            replace(NAMED, kind=Kind.GATEWAY, gateway_id=GATEWAY),
            Known(gateway_kind=Kind.GATEWAY),
            Refusal.GATEWAY_BEHIND_GATEWAY,
        ),
    ],
)
def test_refusals(request_: Request, known: Known, why: Refusal) -> None:
    decision = decide(request_, known, FRESH)
    assert isinstance(decision, Refused)
    assert decision.why is why


def test_the_fingerprint_tells_requests_apart_and_nothing_else() -> None:
    base = replace(NAMED, labels={"a": "1", "b": "2"})
    assert base.fingerprint() == replace(NAMED, labels={"b": "2", "a": "1"}).fingerprint()
    others = [
        replace(base, serial="S2"),
        replace(base, type="u"),
        replace(base, kind=Kind.GATEWAY),
        replace(base, id=None),
        replace(base, gateway_id=GATEWAY),
        replace(base, labels={"a": "1", "b": "3"}),
        replace(base, labels={}),
    ]
    assert len({request.fingerprint() for request in [base, *others]}) == len(others) + 1


def test_no_gateway_is_always_fine() -> None:
    assert gateway_refusal(Kind.GATEWAY, None, None) is None
