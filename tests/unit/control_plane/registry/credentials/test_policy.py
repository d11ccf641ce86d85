"""When a key falls due by the policy `credentials`."""

from datetime import UTC, datetime, timedelta

import pytest

from control_plane.registry.credentials.policy import CredentialsPolicy, due_at
from shared.device import Status

T = datetime(2026, 1, 1, tzinfo=UTC)


def test_a_fleet_of_one_day_falls_due_spread_over_the_last_fifth_of_its_age() -> None:
    policy = CredentialsPolicy()
    days = [
        (at - T).total_seconds() / 86_400 for n in range(500) if (at := due_at(policy, f"k:{n}", T, Status.ACTIVE))
    ]
    assert len(days) == 500
    assert 72 <= min(days) < 74
    assert 88 < max(days) <= 90
    per_day = [sum(low <= day < low + 1 for day in days) for low in range(72, 90)]
    assert max(per_day) < 60, "no day has more than twice its share"


def test_the_same_key_is_due_at_the_same_time_wherever_it_is_asked() -> None:
    policy = CredentialsPolicy()
    assert due_at(policy, "k:a", T, Status.ACTIVE) == due_at(policy, "k:a", T, Status.ACTIVE)
    assert due_at(CredentialsPolicy(jitter=0), "k:a", T, Status.ACTIVE) == T + timedelta(days=90)


def test_no_age_and_other_statuses_are_never_due() -> None:
    assert due_at(CredentialsPolicy(max_age_days=0), "k:a", T, Status.ACTIVE) is None
    assert due_at(CredentialsPolicy(), "k:a", T, Status.SUSPENDED) is None


@pytest.mark.parametrize(
    "value", [b'{"max_age_days": -1}', b'{"jitter": 1.5}', b'{"grace_s": 1e9}', b'{"x": 1}', b'{"statuses": ["odd"]}']
)
def test_a_policy_that_makes_no_sense_is_refused(value: bytes) -> None:
    assert isinstance(CredentialsPolicy.read(value), list)


def test_a_policy_says_what_it_leaves_out() -> None:
    assert CredentialsPolicy.read(b'{"grace_s": 1}') == CredentialsPolicy(grace_s=1)
