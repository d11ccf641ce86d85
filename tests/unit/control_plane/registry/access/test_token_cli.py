"""`hub token` as a user types it."""

import json
import stat
from pathlib import Path
from typing import Any

import pytest

from tests.unit.control_plane.registry.conftest import Hub

TOKEN: dict[str, Any] = {
    "id": "t-abc", "name": "ci\x1b", "role": "viewer", "scopes": ["devices:read"], "state": "usable",
    "created_by": "t-first", "created_at": "2026-01-01T00:00:00Z", "expires_at": None, "revoked_at": None,
    "last_used_at": "2026-01-02T03:04:05.678Z",
}  # fmt: skip
MADE = TOKEN | {"token": "t-abc.secret"}


def test_a_token_is_shown_once(hub: Hub) -> None:
    words = "token create ci --role viewer --scope devices:read --scope types --expires-in 90d"
    status, out, _ = hub(*words.split(), answers=[(201, MADE)])
    assert (status, "shown this once: t-abc.secret" in out) == (0, True)
    assert hub.asked[0]["path"] == "/v1/tokens"
    assert hub.asked[0]["body"] == {
        "name": "ci", "role": "viewer", "scopes": ["devices:read", "types"], "expires_in_s": 7_776_000
    }  # fmt: skip
    assert hub.asked[0]["headers"]["Idempotency-Key"]


def test_or_written_to_a_file_and_not_shown(hub: Hub, tmp_path: Path) -> None:
    path = tmp_path / "ci.token"
    words = ["token", "create", "ci", "--role", "viewer", "--token-file", str(path), "--json"]
    status, out, _ = hub(*words, answers=[(201, MADE)])
    assert (status, json.loads(out)["id"], "secret" in out) == (0, "t-abc", False)
    assert path.read_text() == "t-abc.secret\n"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_file_that_is_there_is_not_overwritten_and_nothing_is_made(hub: Hub, tmp_path: Path) -> None:
    path = tmp_path / "ci.token"
    path.write_text("mine")
    status, _, err = hub("token", "create", "ci", "--role", "viewer", "--token-file", str(path), answers=[])
    assert (status, hub.asked, path.read_text()) == (1, [], "mine")
    assert "exists already" in err


def test_a_refused_creation_leaves_no_file(hub: Hub, tmp_path: Path) -> None:
    path = tmp_path / "ci.token"
    words = ["token", "create", "ci", "--role", "admin", "--token-file", str(path)]
    status, _, err = hub(*words, answers=[(403, {"detail": "the role admin is above"})])
    assert (status, path.exists()) == (1, False)
    assert "above" in err


@pytest.mark.parametrize("span", ["90", "d", "0d", "1y", "-1d", "1.5h", "9999999999d", "٣d"])
def test_a_time_that_is_none_reaches_nobody(hub: Hub, span: str) -> None:
    status, _, err = hub("token", "create", "ci", "--role", "viewer", f"--expires-in={span}", answers=[])
    assert (status, hub.asked) == (2, [])
    assert "no time" in err


def test_a_list(hub: Hub) -> None:
    page = {"tokens": [TOKEN], "next_cursor": None}
    _, out, _ = hub("token", "list", answers=[(200, page)])
    assert "t-abc" in out
    assert "2026-01-02T03:04:05Z" in out
    assert "\x1b" not in out
    assert "usable=true" in hub.asked[0]["path"]
    _, out, _ = hub("token", "list", "--all", "--json", answers=[(200, page)])
    assert json.loads(out) == {"tokens": [TOKEN]}
    assert "usable" not in hub.asked[0]["path"]


def test_revoke(hub: Hub) -> None:
    status, out, _ = hub("token", "revoke", "t-abc", answers=[(200, TOKEN | {"state": "revoked"})])
    assert (status, "revoked" in out) == (0, True)
    assert hub.asked[0]["path"] == "/v1/tokens/t-abc"
    status, _, err = hub("token", "revoke", "t-abc", answers=[(409, {"detail": "it is the last admin token"})])
    assert (status, "last admin token" in err) == (1, True)
    status, _, _ = hub("token", "revoke", "../devices", answers=[])
    assert (status, hub.asked) == (2, [])
