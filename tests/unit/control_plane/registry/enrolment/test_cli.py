import json

import pytest

from control_plane.registry.cli_words import UsageError
from control_plane.registry.enrolment.cli import seconds
from tests.unit.control_plane.registry.conftest import Hub

TOKEN = {
    "id": "e-abc", "type": "gateway", "labels": {}, "uses": 1, "used": 0, "replaces": None, "created_by": "t-1",
    "created_at": "2026-01-01T00:00:00Z", "expires_at": "2026-01-01T01:00:00Z", "revoked_at": None,
}  # fmt: skip


def test_a_token_is_shown_with_the_line_for_the_gateway(hub: Hub) -> None:
    words = ("gateway", "enroll-token", "--uses", "3", "--expires", "2h", "--label", "site=x", "--type", "edge")
    status, out, _ = hub(*words, answers=[(201, TOKEN | {"token": "e-abc.SECRET.00"})])
    assert status == 0
    assert "e-abc.SECRET.00" in out
    assert "edge-agent enroll" in out
    body = hub.asked[0]["body"]
    assert body == {"uses": 3, "expires_s": 7200, "labels": {"site": "x"}, "type": "edge"}


def test_replacing(hub: Hub) -> None:
    words = ("gateway", "enroll-token", "--replaces", "hall-3", "--json")
    status, out, _ = hub(*words, answers=[(201, TOKEN | {"token": "T"})])
    assert (status, json.loads(out)["token"]) == (0, "T")
    assert hub.asked[0]["body"]["replaces"] == "hall-3"


def test_the_list_says_what_is_open(hub: Hub) -> None:
    tokens = [TOKEN, TOKEN | {"id": "e-up", "used": 1}, TOKEN | {"id": "e-no", "revoked_at": "2026-01-01T00:00:00Z"}]
    status, out, _ = hub("gateway", "enroll-tokens", answers=[(200, {"tokens": tokens, "next_cursor": None})])
    assert status == 0
    states = [line.split()[3] for line in out.splitlines()[1:]]
    assert states == ["open", "used", "revoked"]


def test_revoking(hub: Hub) -> None:
    status, out, _ = hub("gateway", "enroll-revoke", "e-abc", answers=[(204, {})])
    assert status == 0
    assert "revoked e-abc" in out
    assert hub.asked[0]["path"] == "/v1/enrolment-tokens/e-abc"


@pytest.mark.parametrize(("text", "expected"), [("90s", 90), ("30m", 1800), ("12h", 43_200), ("7d", 604_800)])
def test_times(text: str, expected: int) -> None:
    assert seconds(text) == expected


@pytest.mark.parametrize("text", ["", "1", "h", "1.5h", "-1h", "1w", "1h "])
def test_what_is_no_time(text: str) -> None:
    with pytest.raises(UsageError):
        seconds(text)
