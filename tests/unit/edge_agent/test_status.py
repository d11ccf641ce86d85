import sqlite3
from pathlib import Path

from edge_agent.config import AgentConfig
from edge_agent.device_book import Device, Page, encode
from edge_agent.status import as_text, status


def config(data_dir: Path) -> AgentConfig:
    return AgentConfig("gw-1", "mqtt://127.0.0.1:9", data_dir, data_dir / "key")


def test_an_agent_that_does_not_run_is_said_to_and_how_to_start_it(tmp_path: Path) -> None:
    found = status(config(tmp_path))
    assert (found["running"], found["ready"], found["rows"]) == (False, False, None)
    text = as_text(found)
    assert text.startswith("gateway gw-1: not running")
    assert "edge-agent run" in text
    assert "no outbox" in text


def test_held_rows_and_pending_devices_are_read_from_what_is_kept(tmp_path: Path) -> None:
    assert [status(config(tmp_path))[name] for name in ("held", "pending_devices")] == [None, None]
    db = sqlite3.connect(tmp_path / "outbox.db")
    db.execute("CREATE TABLE held (device TEXT)")
    db.executemany("INSERT INTO held VALUES (?)", [("a",), ("a",), ("b",)])
    db.commit()
    db.close()
    devices = tuple(Device(name, word) for name, word in (("a", "pending"), ("b", "active")))
    (tmp_path / "devices.json").write_bytes(encode(Page(devices, "1")))
    found = status(config(tmp_path))
    assert (found["held"], found["pending_devices"]) == ({"rows": 3, "devices": 2}, 1)


def test_what_is_missing_and_what_waits_is_shown() -> None:
    found = {
        "gateway": "gw-1", "running": True, "pid": 7, "ready": False, "missing": ["local broker: refused"],
        "uplink": {"connected": False, "trouble": "no route"}, "clock": "unsynced",
        "rows": {"accepted": 5, "waiting": 3},
    }  # fmt: skip
    assert as_text(found).splitlines() == [
        "gateway gw-1: pid 7, NOT READY",
        "  missing: local broker: refused",
        "  hub: no route",
        "  clock: unsynced",
        "  rows: accepted 5, waiting 3",
    ]
    strangers = found | {"held": {"rows": 7, "devices": 2}, "pending_devices": 2}
    assert as_text(strangers).splitlines()[-2:] == [
        "  held: 7 rows of 2 devices that are not approved",
        "  pending devices: 2 (hub device approve ID)",
    ]
    ready = found | {"ready": True, "missing": [], "uplink": {"connected": True, "trouble": None}}
    assert as_text(ready).splitlines()[:2] == ["gateway gw-1: pid 7, ready", "  hub: connected"]
