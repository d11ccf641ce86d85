"""`hub policy` as a user types it, against a real HTTP server that records what it was asked."""

import json
from typing import Any

import pytest

from control_plane.__main__ import main
from control_plane.db.secret_files import ensure_token
from control_plane.registry.cli_words import UsageError
from control_plane.registry.policy_cli import changed
from tests.unit.control_plane.registry.test_rest_client import server

POLICY: dict[str, Any] = {
    "name": "limits",
    "version": 3,
    "value": {"device": {"messages_per_s": 5.0, "burst_s": 10.0}, "note": None},
}


@pytest.fixture
def hub(tmp_path, monkeypatch, capsys):
    ensure_token(tmp_path / "token")
    monkeypatch.setenv("HUB_ADMIN_TOKEN_FILE", str(tmp_path / "token"))

    def run(*words, answers):
        with server(answers) as (url, asked):
            monkeypatch.setenv("HUB_API_URL", url)
            status = main(words)
        return status, capsys.readouterr().out, asked

    return run


def test_set_changes_the_named_fields_of_the_version_it_read(hub):
    answers = [(200, POLICY), (200, POLICY | {"version": 4})]
    status, out, asked = hub("policy", "set", "limits", "device.messages_per_s=2", answers=answers)
    assert (status, "version 4" in out) == (0, True)
    assert asked[1]["body"] == {"device": {"messages_per_s": 2, "burst_s": 10.0}, "note": None}
    assert asked[1]["headers"]["If-Match"] == '"3"'


def test_show_and_list(hub):
    status, out, _ = hub("policy", "show", "limits", answers=[(200, POLICY | {"version": 0})])
    assert (status, out.splitlines()[0]) == (0, "limits (the defaults)")
    assert "device.messages_per_s" in out
    status, out, _ = hub("policy", "list", "--json", answers=[(200, {"policies": [POLICY]})])
    assert json.loads(out) == {"policies": [POLICY]}


@pytest.mark.parametrize("field", ["device.messages", "device", "nothing.at.all=1", "note.x=1", "=1"])
def test_a_field_that_is_none_is_refused(field):
    with pytest.raises(UsageError):
        changed(POLICY["value"], [field])


def test_words_need_no_quotes_and_the_document_given_is_left_alone():
    assert changed(POLICY["value"], ["note=yes", "device.burst_s=null"]) == {
        "device": {"messages_per_s": 5.0, "burst_s": None},
        "note": "yes",
    }
    assert POLICY["value"]["note"] is None
