"""`hub audit` as a user types it."""

import json
import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from control_plane.registry.access.audit_documents import AuditEntry
from tests.unit.control_plane.registry.conftest import Hub

ENTRY: dict[str, Any] = AuditEntry.model_json_schema()["examples"][0]


def query(hub: Hub) -> dict[str, str]:
    return {name: values[0] for name, values in parse_qs(urlsplit(hub.asked[-1]["path"]).query).items()}


def page(*entries: dict[str, Any], cursor: str | None = None) -> tuple[int, dict[str, Any]]:
    return 200, {"entries": list(entries), "next_cursor": cursor}


def test_lines_with_what_was_changed(hub: Hub) -> None:
    erased = ENTRY | {"erased": True, "detail": {}, "target": "x\x1b[2J"}
    status, out, _ = hub("audit", answers=[page(ENTRY, erased)])
    assert status == 0
    first, second = out.splitlines()
    assert "device.suspend" in first
    assert '"to": "suspended"' in first
    assert second.endswith("(values erased)")
    assert "\x1b" not in out


def test_filters(hub: Hub) -> None:
    words = "audit --target cellar-1 --actor t-a --action device --since 2026-01-01T00:00:00Z --until 1h --json"
    _, out, _ = hub(*words.split(), answers=[page()])
    asked = query(hub)
    assert {name: asked[name] for name in ("target", "actor", "action", "from")} == {
        "target": "cellar-1",
        "actor": "t-a",
        "action": "device",
        "from": "2026-01-01T00:00:00+00:00",
    }
    ago = datetime.now(UTC) - datetime.fromisoformat(asked["to"])
    assert timedelta(minutes=59) < ago < timedelta(minutes=61)
    assert json.loads(out) == {"entries": []}


def test_no_more_pages_are_read_than_lines_are_wanted(hub: Hub) -> None:
    _, out, _ = hub("audit", "--limit", "2", answers=[page(ENTRY, cursor="a"), page(ENTRY, ENTRY, cursor="b")])
    assert len(out.splitlines()) == 2
    assert len(hub.asked) == 2


@pytest.mark.parametrize("words", ["--since yesterday", "--since 7", "--until 2026-13-01", "--limit 0"])
def test_what_makes_no_sense_reaches_nobody(hub: Hub, words: str) -> None:
    status, _, err = hub("audit", *words.split(), answers=[])
    assert (status, hub.asked) == (2, [])
    assert err.startswith("hub: ")


@pytest.mark.parametrize(("name", "kind"), [("a.csv", "csv"), ("a.jsonl", "jsonl"), ("a", "jsonl")])
def test_a_copy_in_a_file_of_its_own(hub: Hub, tmp_path: Path, name: str, kind: str) -> None:
    path = tmp_path / name
    status, _, _ = hub("audit", "--export", str(path), "--target", "x", answers=[(200, ENTRY)])
    assert status == 0
    assert query(hub) == {"format": kind, "target": "x"}
    assert json.loads(path.read_text()) == ENTRY
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_copy_that_fails_leaves_what_was_there(hub: Hub, tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("the last one")
    status, _, err = hub("audit", "--export", str(path), answers=[(403, {"detail": "this needs the role admin"})])
    assert (status, "admin" in err) == (1, True)
    status, _, _ = hub("audit", "--export", str(tmp_path / "no" / "a.csv"), answers=[])
    assert status == 1
    assert [item.name for item in tmp_path.iterdir() if item.name.startswith("a")] == ["a.csv"]
    assert path.read_text() == "the last one"
