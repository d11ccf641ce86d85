"""`hub device` and its like as a user types them, against a real HTTP server that records what it was asked."""

import json
from pathlib import Path
from typing import Any

import pytest

from control_plane.__main__ import main
from tests.unit.control_plane.registry.conftest import Hub
from tests.unit.control_plane.registry.test_rest_client import Answer

KEY = "k:abc.S3cret"
DEVICE: dict[str, Any] = {
    "id": "dev",
    "serial": "S",
    "type": "t",
    "kind": "device",
    "status": "provisioned",
    "gateway_id": None,
    "labels": {},
    "version": 1,
}


def test_add_shows_the_key_and_how_to_use_it(hub: Hub) -> None:
    words = ("device", "add", "dev", "--serial", "S", "--type", "t", "--gateway", "gw", "--label", "site=b=c")
    status, out, _ = hub(*words, answers=[(201, DEVICE | {"api_key": KEY})])
    assert status == 0
    assert KEY in out
    assert "client id dev, user name k:abc, password S3cret" in out
    expected = {"id": "dev", "serial": "S", "type": "t", "kind": "device", "gateway_id": "gw"}
    assert hub.asked[0]["body"] == expected | {"labels": {"site": "b=c"}}


def test_add_into_a_file_shows_no_key(hub: Hub, tmp_path: Path) -> None:
    path = tmp_path / "gw.key"
    words = ("gateway", "add", "--serial", "S", "--key-file", str(path), "--json")
    status, out, err = hub(*words, answers=[(201, DEVICE | {"api_key": KEY})])
    assert status == 0
    assert path.read_text() == KEY + "\n"
    assert path.stat().st_mode & 0o777 == 0o600
    assert "S3cret" not in out + err
    assert json.loads(out)["id"] == "dev"
    assert (hub.asked[0]["body"]["kind"], hub.asked[0]["body"]["type"]) == ("gateway", "gateway")


def test_a_key_file_is_never_overwritten_and_nothing_is_registered(hub: Hub, tmp_path: Path) -> None:
    (tmp_path / "gw.key").write_text("old")
    status, _, err = hub("gateway", "add", "--serial", "S", "--key-file", str(tmp_path / "gw.key"), answers=[])
    assert (status, hub.asked) == (1, [])
    assert "exists already" in err


def test_where_no_key_file_can_be_nothing_is_registered(hub: Hub, tmp_path: Path) -> None:
    path = str(tmp_path / "nowhere" / "gw.key")
    status, _, err = hub("gateway", "add", "--serial", "S", "--key-file", path, answers=[])
    assert (status, hub.asked) == (1, [])
    assert "cannot be written: No such file or directory" in err
    assert "Traceback" not in err


def test_a_refused_registration_leaves_no_key_file(hub: Hub, tmp_path: Path) -> None:
    path = tmp_path / "gw.key"
    words = ("gateway", "add", "--serial", "S", "--key-file", str(path))
    status, _, err = hub(*words, answers=[(409, {"detail": "the serial is taken"})])
    assert (status, path.exists()) == (1, False)
    assert "the serial is taken" in err


def test_a_key_that_cannot_be_written_is_shown_rather_than_lost(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("control_plane.registry.fleet.device_cli.os.fsync", full)
    path = tmp_path / "gw.key"
    words = ("gateway", "add", "--serial", "S", "--key-file", str(path))
    status, out, err = hub(*words, answers=[(201, DEVICE | {"api_key": KEY})])
    assert (status, path.exists()) == (1, False)
    assert KEY in out
    assert "No space left" in err


def test_what_a_serial_holds_steers_no_terminal(hub: Hub) -> None:
    odd = DEVICE | {"serial": "\x9b31mRED\u202eX", "labels": {"a": "\x9b2J"}}
    _, out, _ = hub("device", "list", answers=[(200, {"devices": [odd], "next_cursor": None})])
    _, shown, _ = hub("device", "show", "dev", answers=[(200, odd)])
    assert "RED" in out
    assert not any(char in out + shown for char in "\x9b\u202e")


def test_an_address_that_is_none_is_a_mistake_of_configuration(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HUB_API_URL", "foo")
    monkeypatch.setenv("HUB_ADMIN_TOKEN_FILE", str(tmp_path / "token"))
    assert main(["device", "list"]) == 2
    assert "http://host:port" in capsys.readouterr().err


def test_list_as_table_and_as_json(hub: Hub) -> None:
    page = {"devices": [DEVICE], "next_cursor": None}
    _, out, _ = hub("device", "list", answers=[(200, page)])
    assert "dev" in out.splitlines()[1]
    _, out, _ = hub("gateway", "list", "--json", answers=[(200, page)])
    assert json.loads(out) == {"devices": [DEVICE]}
    assert "kind=gateway" in hub.asked[0]["path"]
    _, out, _ = hub("device", "list", answers=[(200, {"devices": [], "next_cursor": None})])
    assert out == "none\n"


def test_show_what_is_not_there_is_status_3(hub: Hub) -> None:
    absent: Answer = (404, {"detail": "there is no such device"})
    status, out, err = hub("device", "show", "dev", answers=[absent])
    assert (status, out, err) == (3, "", "hub: there is no such device\n")
    status, out, err = hub("device", "show", "dev", "--json", answers=[absent])
    assert status == 3
    assert json.loads(out) == {"error": {"message": "there is no such device", "hint": "", "transient": False}}


def test_assign(hub: Hub) -> None:
    status, _, _ = hub("device", "assign", "dev", "--gateway", "gw", answers=[(200, DEVICE)])
    assert (status, hub.asked[0]["path"], hub.asked[0]["body"]) == (0, "/v1/devices/dev:assign", {"gateway_id": "gw"})
    hub("device", "assign", "dev", "--direct", answers=[(200, DEVICE)])
    assert hub.asked[0]["body"] == {"gateway_id": None}


@pytest.mark.parametrize(
    "words",
    [
        ("device", "show", "../types"),
        ("device", "show", "a?b"),
        ("device", "add", "--serial", "S", "--type", "t", "--label", "nothing"),
    ],
)
def test_words_that_make_no_sense_reach_nobody(hub: Hub, words: tuple[str, ...]) -> None:
    status, _, err = hub(*words, answers=[])
    assert (status, hub.asked) == (2, [])
    assert err.startswith("hub: ")
