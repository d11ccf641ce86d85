"""`hub device rotate|keys|revoke` as a user types them, against a server that records what it was asked."""

from pathlib import Path

from tests.unit.control_plane.registry.conftest import Hub

ISSUED = {"key_id": "k:new", "api_key": "k:new.S3cret", "ending": {"k:old": "2026-01-02T00:00:00Z"}, "closed": True}
KEY = {"key_id": "k:old", "created_at": "2026-01-01", "last_used_at": None, "not_after": None}


def test_rotate_shows_the_new_key_once_and_when_the_old_one_ends(hub: Hub) -> None:
    status, out, _ = hub("device", "rotate", "dev", "--overlap-s", "60", answers=[(201, dict(ISSUED))])
    assert status == 0
    assert "k:new.S3cret" in out
    assert "k:old ends at 2026-01-02" in out
    assert hub.asked[0]["body"] == {"overlap_s": 60}
    assert hub.asked[0]["path"] == "/v1/devices/dev/credentials:rotate"


def test_rotate_into_a_file_shows_no_key_and_overwrites_none(hub: Hub, tmp_path: Path) -> None:
    path = tmp_path / "dev.key"
    words = ("device", "rotate", "dev", "--key-file", str(path))
    status, out, err = hub(*words, "--json", answers=[(201, dict(ISSUED))])
    assert (status, path.read_text(), path.stat().st_mode & 0o777) == (0, "k:new.S3cret\n", 0o600)
    assert "S3cret" not in out + err
    status, _, err = hub(*words, answers=[])
    assert (status, hub.asked) == (1, [])
    assert "exists already" in err


def test_a_rotation_that_is_refused_leaves_no_file(hub: Hub, tmp_path: Path) -> None:
    path = tmp_path / "dev.key"
    status, _, _ = hub("device", "rotate", "dev", "--key-file", str(path), answers=[(404, {"detail": "none"})])
    assert (status, path.exists()) == (3, False)


def test_keys_are_shown_ended_and_counted(hub: Hub) -> None:
    _, out, _ = hub("device", "keys", "dev", answers=[(200, {"keys": [KEY]})])
    assert "last used never" in out
    _, out, _ = hub("device", "keys", "dev", "--end", "k:old", answers=[(200, {"id": "k:old", "closed": False})])
    assert "closes it when it is back" in out
    assert hub.asked[0]["path"].startswith("/v1/devices/dev/credentials/k:old")
    overdue = {"keys": [KEY | {"device_id": "dev"}], "total": 7}
    _, out, _ = hub("device", "keys", "--overdue", answers=[(200, overdue)])
    assert "7 in all" in out


def test_an_argument_reaches_no_other_route(hub: Hub) -> None:
    assert hub("device", "keys", answers=[])[0] == 2
    assert hub("device", "keys", "dev", "--end", "k:../x", answers=[])[0] == 2
    assert hub("device", "keys", "dev", "--end", "x", answers=[])[0] == 2
    assert hub.asked == []


def test_revoke_says_whether_it_is_closed(hub: Hub) -> None:
    words = ("device", "revoke", "dev", "--reason", "stolen")
    status, out, _ = hub(*words, answers=[(200, {"id": "dev", "closed": True})])
    assert (status, hub.asked[0]["body"]) == (0, {"reason": "stolen"})
    assert "the broker has closed it" in out
