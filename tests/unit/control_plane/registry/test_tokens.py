"""Who a token stands for."""

import pytest

from control_plane.db.api_token import split_token, token_hash
from control_plane.db.secret_files import new_token
from control_plane.registry.tokens import Actor, Presented, Role, Stored, check, read_header

TOKEN = new_token()
NAME, SECRET = split_token(TOKEN) or ("", "")
STORED = Stored(NAME, Role.OPERATOR, token_hash(SECRET))


@pytest.mark.parametrize("header", [f"Bearer {TOKEN}", f"bearer {TOKEN}", f"Bearer  {TOKEN} "])
def test_a_good_token_is_its_actor(header: str) -> None:
    presented = read_header(header)
    assert presented is not None
    assert check(presented, STORED) == Actor(NAME, Role.OPERATOR)


@pytest.mark.parametrize("header", [None, "", "Bearer", f"Basic {TOKEN}", TOKEN, "Bearer x.y", "Bearer t-a."])
def test_what_is_no_token(header: str | None) -> None:
    assert read_header(header) is None


def test_a_wrong_secret_an_unknown_id_and_the_hash_of_nobody_are_nobody() -> None:
    assert check(Presented(NAME, token_hash("wrong")), STORED) is None
    assert check(Presented(NAME, token_hash(SECRET)), None) is None
    assert check(Presented(NAME, b"\0" * 32), None) is None


def test_roles_are_ordered() -> None:
    assert Role.VIEWER < Role.OPERATOR < Role.ADMIN
