"""No token makes or ends one that opens more than itself, and the last way in stays open."""

from datetime import UTC, datetime, timedelta

import pytest

from control_plane.registry.access.rules import leaves_no_way_in, outliving, widening
from shared.authority import Actor, Role

NOW = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("role", "scopes", "wanted_role", "wanted_scopes", "words"),
    [
        (Role.ADMIN, "", Role.ADMIN, "", None),
        (Role.ADMIN, "", Role.VIEWER, "devices:read", None),
        (Role.OPERATOR, "", Role.ADMIN, "", "role admin"),
        (Role.VIEWER, "", Role.OPERATOR, "devices", "role operator"),
        (Role.ADMIN, "tokens", Role.ADMIN, "", "narrowed"),
        (Role.ADMIN, "tokens", Role.ADMIN, "tokens", None),
        (Role.ADMIN, "tokens", Role.ADMIN, "tokens:read", None),
        (Role.ADMIN, "tokens:write", Role.ADMIN, "tokens", "scopes tokens"),
        (Role.ADMIN, "tokens:write", Role.VIEWER, "tokens:write devices", "scopes devices"),
        (Role.ADMIN, "tokens devices", Role.VIEWER, "devices:whois tokens:read", None),
    ],
)
def test_what_would_open_more(
    role: Role, scopes: str, wanted_role: Role, wanted_scopes: str, words: str | None
) -> None:
    found = widening(Actor("t-a", role, frozenset(scopes.split())), wanted_role, wanted_scopes.split())
    assert found is None if words is None else words in str(found)


@pytest.mark.parametrize(
    ("own_h", "wanted_h", "longer"),
    [(None, None, False), (None, 5, False), (5, 5, False), (5, 4, False), (5, 6, True), (5, None, True)],
)
def test_what_would_be_good_for_longer(own_h: int | None, wanted_h: int | None, longer: bool) -> None:
    own, wanted = (None if hours is None else NOW + timedelta(hours=hours) for hours in (own_h, wanted_h))
    assert (outliving(own, wanted) is not None) is longer


@pytest.mark.parametrize(
    ("admins", "closed"),
    [
        ({"t-a": None}, True),
        ({"t-a": None, "t-b": None}, False),
        ({"t-a": None, "t-b": 23}, True),
        ({"t-a": None, "t-b": 25}, False),
        ({"t-a": 2, "t-b": 23}, True),
        ({"t-b": None}, False),  # what is revoked is no admin token
        ({}, False),
    ],
)
def test_the_last_way_in(admins: dict[str, int | None], closed: bool) -> None:
    ends = [(name, None if hours is None else NOW + timedelta(hours=hours)) for name, hours in admins.items()]
    assert leaves_no_way_in("t-a", ends, NOW) is closed
