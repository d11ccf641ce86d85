"""The form of an API token."""

import hashlib

import pytest

from control_plane.db.api_token import split_token, token_hash
from control_plane.db.secret_files import new_token


def test_a_token_is_its_public_half_and_256_secret_bits() -> None:
    token = new_token()
    name, secret = split_token(token) or ("", "")
    assert f"{name}.{secret}" == token
    assert len(secret) == 43
    assert token_hash(secret) == hashlib.sha256(secret.encode()).digest()


def test_tokens_differ() -> None:
    assert len({new_token() for _ in range(100)}) == 100


@pytest.mark.parametrize("text", ["", "t-abc", "t-abc.", "x-abc.secret", ".secret", "t-a." + "s" * 200])
def test_what_is_no_token(text: str) -> None:
    assert split_token(text) is None
