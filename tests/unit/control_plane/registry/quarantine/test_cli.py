"""The quarantine's commands as a user types them, against a real HTTP server that records what it was asked."""

import json

QUARANTINE = {
    "id": 4,
    "device_id": "dev",
    "status": "quarantined",
    "at": "2026-01-01T00:00:00Z",
    "by": "policy:flood",
    "reason": "flood",
    "evidence": {"count": 7},
    "until": None,
    "released_at": None,
    "released_by": None,
}


def test_in_and_out(hub):
    words = ("device", "quarantine", "dev", "--reason", "floods", "--for", "60")
    status, out, _ = hub(*words, answers=[(200, QUARANTINE)])
    assert (status, out) == (0, "quarantined dev until it is released\n")
    assert hub.asked[0]["path"] == "/v1/devices/dev:quarantine"
    assert hub.asked[0]["body"] == {"reason": "floods", "for_s": 60}
    released = QUARANTINE | {"status": "active", "released_at": "2026-01-01T00:01:00Z"}
    status, out, _ = hub("device", "release", "dev", answers=[(200, released)])
    assert (status, out) == (0, "released dev, which is active now\n")
    assert hub.asked[0]["body"] == {"reason": None}


def test_the_list_shows_why(hub):
    page = {"quarantines": [QUARANTINE], "next_cursor": None}
    status, out, _ = hub("quarantine", "list", "--ended", answers=[(200, page)])
    assert (status, '{"count": 7}' in out, "policy:flood" in out) == (0, True, True)
    assert "ended=true" in hub.asked[0]["path"]
    status, out, _ = hub("quarantine", "list", "--json", answers=[(200, page)])
    assert json.loads(out) == {"quarantines": [QUARANTINE]}
    assert hub("quarantine", "list", answers=[(200, {"quarantines": [], "next_cursor": None})])[1] == "none\n"


def test_an_id_that_is_none_reaches_no_other_route(hub):
    status, _, err = hub("device", "release", "a/b", answers=[])
    assert (status, "is no id" in err) == (2, True)
