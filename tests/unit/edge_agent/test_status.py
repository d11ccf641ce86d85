from pathlib import Path

from edge_agent.config import AgentConfig
from edge_agent.status import as_text, status


def config(data_dir: Path) -> AgentConfig:
    return AgentConfig("gw-1", data_dir, data_dir / "key", "mqtt://127.0.0.1:9")


def test_an_agent_that_does_not_run_is_said_to_and_how_to_start_it(tmp_path: Path) -> None:
    found = status(config(tmp_path))
    assert (found["running"], found["ready"], found["rows"]) == (False, False, None)
    text = as_text(found)
    assert text.startswith("gateway gw-1: not running")
    assert "edge-agent run" in text
    assert "no outbox" in text


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
    ready = found | {"ready": True, "missing": [], "uplink": {"connected": True, "trouble": None}}
    assert as_text(ready).splitlines()[:2] == ["gateway gw-1: pid 7, ready", "  hub: connected"]
