"""Who a token stands for."""

from dataclasses import replace

import pytest

from control_plane.db.api_token import split_token, token_hash
from control_plane.db.secret_files import new_token
from control_plane.registry.access.attempts import Failure
from control_plane.registry.tokens import Presented, Stored, check, read_header
from shared.authority import Actor, Role

TOKEN = new_token()
NAME, SECRET = split_token(TOKEN) or ("", "")
STORED = Stored(NAME, Role.OPERATOR, token_hash(SECRET))


@pytest.mark.parametrize("form", ["Bearer {}", "bearer {}", "Bearer  {} "])
def test_a_good_token_is_its_actor(form: str) -> None:
    presented = read_header(form.format(TOKEN))
    assert presented is not None
    assert check(presented, STORED) == Actor(NAME, Role.OPERATOR)


@pytest.mark.parametrize("form", [None, "", "Bearer", "Basic {}", "{}", "Bearer x.y", "Bearer t-a."])
def test_what_is_no_token(form: str | None) -> None:
    assert read_header(None if form is None else form.format(TOKEN)) is None


def test_a_wrong_secret_an_unknown_id_and_the_hash_of_nobody_are_nobody() -> None:
    assert check(Presented(NAME, token_hash("wrong")), STORED) is Failure.WRONG
    assert check(Presented(NAME, token_hash(SECRET)), None) is Failure.UNKNOWN
    assert check(Presented(NAME, b"\0" * 32), None) is Failure.UNKNOWN


@pytest.mark.parametrize("why", [Failure.REVOKED, Failure.EXPIRED])
def test_a_token_that_ended_is_nobody_and_only_its_owner_is_told_apart(why: Failure) -> None:
    ended = replace(STORED, ended=why)
    assert check(Presented(NAME, token_hash(SECRET)), ended) is why
    assert check(Presented(NAME, token_hash("wrong")), ended) is Failure.WRONG


def test_roles_are_ordered() -> None:
    assert Role.VIEWER < Role.OPERATOR < Role.ADMIN
