"""A device's key as it is sent to REST."""

import pytest

from control_plane.registry import dynsec
from control_plane.registry.credentials.presented import matches, read_header
from shared.ids import new_key_id, new_secret

SECRET = new_secret()
STORED = dynsec.hash_secret(SECRET, b"s" * dynsec.SALT_BYTES)


def test_a_key_of_ours_is_read_whole() -> None:
    key_id = new_key_id()
    found = read_header(f"Bearer {key_id}.{SECRET}")
    assert found is not None
    assert (found.key_id, str(found.secret)) == (key_id, SECRET)
    assert SECRET not in repr(found)


@pytest.mark.parametrize(
    "header",
    [
        *(None, "", "Bearer", "Bearer k:abc", "Bearer k:abc.", "Basic k:abc.0123456789abcdef0"),
        *("Bearer t-abc.0123456789abcdef0", "Bearer k:ABC.0123456789abcdef0", "Bearer k:a' OR 1=1.0123456789abcdef0"),
        *("Bearer k:abc.0123456789abcdef0\n", "Bearer k:abc.0123456789abcdef0 x", "Bearer k:abc." + "x" * 257),
    ],
)
def test_anything_else_is_no_key(header: str | None) -> None:
    found = read_header(header)
    assert found is None or str(found.secret) == "0123456789abcdef0"  # a line's end is trimmed, as HTTP does


def test_the_secret_matches_its_own_hash_alone() -> None:
    assert matches(SECRET, STORED)
    assert not matches(SECRET[:-1] + ("A" if SECRET[-1] != "A" else "B"), STORED)
    assert not matches(SECRET, dynsec.hash_secret(SECRET + "x", b"s" * dynsec.SALT_BYTES))
    assert not matches(SECRET, None), "no such key"


@pytest.mark.parametrize("stored", ["", "$7$", "$6$101$c2FsdA==$a2V5", "$7$x$c2FsdA==$a2V5", "plain"])
def test_what_is_no_hash_matches_nothing(stored: str) -> None:
    assert not matches(SECRET, stored)


def test_a_hash_of_other_iterations_is_read_by_its_own_word() -> None:
    assert matches(SECRET, dynsec.hash_secret(SECRET, b"s" * dynsec.SALT_BYTES, iterations=7))
