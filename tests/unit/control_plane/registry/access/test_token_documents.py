"""What a request for a token may say."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from pydantic import ValidationError

from control_plane.registry.access.token_documents import LONGEST_S, NewApiToken, created_token, token_view
from shared.authority import SCOPES, Role

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def test_its_own_examples_are_good() -> None:
    for example in NewApiToken.model_json_schema()["examples"]:
        NewApiToken.model_validate(example)


@pytest.mark.parametrize(
    "wrong",
    [
        {"name": ""},
        {"name": "a\n"},
        {"name": "a" * 65},
        {"role": "root"},
        {"role": None},
        {"scopes": ["devices:fly"]},
        {"scopes": [""]},
        {"expires_in_s": 0},
        {"expires_in_s": LONGEST_S + 1},
        {"expires_in_s": 1, "expires_at": "2030-01-01T00:00:00Z"},
        {"expires_at": "2030-01-01T00:00:00"},
        {"id": "t-mine"},
    ],
)
def test_what_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        NewApiToken.model_validate({"name": "n", "role": "viewer"} | wrong)


def test_all_scopes_are_taken() -> None:
    assert NewApiToken(name="n", role="admin", scopes=sorted(SCOPES)).role.role() is Role.ADMIN  # type: ignore[arg-type]


def test_its_end() -> None:
    def wanted(**more: Any) -> NewApiToken:
        return NewApiToken.model_validate({"name": "n", "role": "viewer"} | more)

    assert wanted().end(NOW) is None
    assert wanted(expires_in_s=60).end(NOW) == NOW + timedelta(minutes=1)
    assert wanted(expires_at=NOW + timedelta(days=1)).end(NOW) == NOW + timedelta(days=1)
    for moment in (NOW, NOW - timedelta(days=1), NOW + timedelta(days=4000)):
        with pytest.raises(ValueError, match="future"):
            wanted(expires_at=moment).end(NOW)


def test_no_hash_is_shown() -> None:
    row = {"id": "t-a", "name": "n", "role": "viewer", "scopes": [], "state": "usable", "created_by": None}
    row |= {"created_at": NOW, "expires_at": None, "revoked_at": None, "last_used_at": None, "token_hash": b"x"}
    assert "hash" not in token_view(row).model_dump_json()
    assert created_token(row, "t-a.secret").token == "t-a.secret"
