"""What the resident agent carries; how it works is in tests/stack/test_agent.py."""

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

FORBIDDEN = (
    "grpc", "httpx", "cryptography", "opentelemetry", "river.anomaly", "scipy", "pandas", "numpy", "sqlite_utils",
    "aiokafka", "asyncpg", "fastapi", "importlib.metadata",
)  # fmt: skip

BUILD = textwrap.dedent("""
    import os, sys
    from edge_agent.agent import Agent
    from edge_agent.config import load_config
    from shared.tracing import open_tracing
    agent = Agent(load_config(os.environ), open_tracing("edge-agent", {}))
    agent.services()
    agent.writer.stop()
    print("\\n".join(sys.modules))
""")


def carried(tmp_path: Path, **changes: str) -> set[str]:
    """The modules of an agent that was built as `run` builds it."""
    key = tmp_path / "key"
    key.write_text("k:abc.secret")
    key.chmod(0o600)
    env = {
        "PATH": "/usr/bin:/bin",
        "AGENT_ID": "gw-1",
        "AGENT_DATA_DIR": str(tmp_path),
        "AGENT_KEY_FILE": str(key),
        "HUB_MQTT_URL": "mqtt://127.0.0.1:9",
        "AGENT_OUTBOX_MAX_MIB": "64",
        "AGENT_DISK_FLOOR_MIB": "1",
    } | changes
    root = Path(__file__).parents[3]
    done = subprocess.run(
        [sys.executable, "-c", BUILD], env=env, cwd=root, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return set(done.stdout.split())


@pytest.mark.parametrize("scoring", ["on", "off"])
def test_the_resident_agent_carries_nothing_heavy(tmp_path: Path, scoring: str) -> None:
    modules = carried(tmp_path, AGENT_SCORING=scoring)
    assert "edge_agent.intake" in modules
    assert not [name for name in FORBIDDEN if name in modules]


def test_without_scoring_no_model_is_loaded(tmp_path: Path) -> None:
    modules = carried(tmp_path, AGENT_SCORING="off")
    assert not [
        name for name in modules if name.startswith(("river", "edge_agent.anomaly", "edge_agent.model_store"))
    ]
