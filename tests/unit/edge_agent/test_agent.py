"""What the resident agent carries and that its parts are joined; how it works is in tests/stack/test_agent.py."""

import asyncio
import json
import subprocess
import sys
import textwrap
from contextlib import closing
from pathlib import Path

import pytest

from edge_agent.agent import Agent
from edge_agent.config import load_config
from edge_agent.outbox import Outbox
from edge_agent.row import StoredRow
from shared.batch import ClockQuality, ReadingRecord, decode_record
from shared.clock import SystemClock
from shared.tracing import NoTracing
from tests.unit.edge_agent.outbox_files import new_file

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


def environment(tmp_path: Path) -> dict[str, str]:
    key = tmp_path / "key"
    key.write_text("k:abc.secret")
    key.chmod(0o600)
    return {
        "AGENT_ID": "gw-1",
        "AGENT_DATA_DIR": str(tmp_path),
        "AGENT_KEY_FILE": str(key),
        "AGENT_LOCAL_MQTT_URL": "mqtt://127.0.0.1:9",
        "HUB_MQTT_URL": "mqtt://127.0.0.1:9",
        "AGENT_OUTBOX_MAX_MIB": "64",
        "AGENT_DISK_FLOOR_MIB": "1",
    }


def carried(tmp_path: Path, **changes: str) -> set[str]:
    """The modules of an agent that was built as `run` builds it."""
    env = environment(tmp_path) | {"PATH": "/usr/bin:/bin"} | changes
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


class UnsetClock(SystemClock):
    """A gateway without a battery for its clock: 1970 at boot, until `set`."""

    def __init__(self) -> None:
        self.zero_ms = 0
        self.is_synced = False

    def set(self, zero_ms: int) -> None:
        self.zero_ms, self.is_synced = zero_ms, True

    def wall_ms(self) -> int:
        return self.zero_ms + self.boot_ms()

    def synced(self) -> bool:
        return self.is_synced


def stored(path: Path) -> list[StoredRow]:
    with closing(Outbox(path)) as outbox:
        return outbox.rows((1, 99), 99)


async def accepts(agent: Agent, clock: UnsetClock, path: Path, *, set_to: int | None = None) -> list[StoredRow]:
    """Run a built agent until one more reading is stored and, if the clock was set, no stamp is left unsynced."""
    before = agent.writer.ledger().accepted[3]
    stopping = asyncio.Event()
    services = [
        asyncio.ensure_future(serve(stopping))
        for name, serve in agent.services().items()
        if name in ("outbox", "intake", "clock")
    ]
    try:
        async with asyncio.timeout(30):
            agent.intake.offer("d1", json.dumps({"ts": clock.wall_ms() + 500, "t": 1.0}).encode())
            while agent.writer.ledger().accepted[3] == before:
                await asyncio.sleep(0.01)
            if set_to is not None:
                clock.set(set_to)
                while any(row.clock is ClockQuality.UNSYNCED for row in stored(path)):
                    await asyncio.sleep(0.05)
    finally:
        stopping.set()
        await asyncio.gather(*services)
        agent.writer.stop()
    return stored(path)


async def test_rows_stamped_before_the_clock_was_set_get_their_true_times(tmp_path: Path) -> None:
    """Also those of an earlier process of this boot. The watch's call was thrown away by the builder."""
    config = load_config(environment(tmp_path) | {"AGENT_SCORING": "off"})
    new_file(config.outbox_path)
    clock = UnsetClock()
    (first,) = await accepts(Agent(config, NoTracing(), clock), clock, config.outbox_path)
    assert first.clock is ClockQuality.UNSYNCED
    zero_ms = 1_790_000_000_000
    rows = await accepts(Agent(config, NoTracing(), clock), clock, config.outbox_path, set_to=zero_ms)
    assert [(row.clock, row.wall_ms) for row in rows] == [
        (ClockQuality.CORRECTED, zero_ms + row.boot_ms) for row in rows
    ]
    record = decode_record(rows[0].record)
    assert isinstance(record, ReadingRecord)
    assert record.at_ms == rows[0].wall_ms
    assert abs(record.ts_ms - first.wall_ms - 500) < 1_000, "what the device said stays"


async def test_an_agent_that_finds_the_clock_set_mends_what_the_one_before_it_left(tmp_path: Path) -> None:
    config = load_config(environment(tmp_path) | {"AGENT_SCORING": "off"})
    new_file(config.outbox_path)
    clock = UnsetClock()
    await accepts(Agent(config, NoTracing(), clock), clock, config.outbox_path)
    clock.set(1_790_000_000_000)
    rows = await accepts(Agent(config, NoTracing(), clock), clock, config.outbox_path, set_to=clock.zero_ms)
    assert [row.clock for row in rows] == [ClockQuality.CORRECTED, ClockQuality.SYNCED]


async def test_an_outbox_that_answers_no_more_is_missing(tmp_path: Path) -> None:
    """A disk that hangs holds the outbox's thread in a commit, while the event loop lives on."""
    agent = Agent(load_config(environment(tmp_path)), NoTracing())
    try:
        async with asyncio.timeout(5):
            while agent.writer.beat._at_s == float("inf"):
                await asyncio.sleep(0.01)
        assert not any("outbox" in lack for lack in agent.missing())
        agent.writer.beat._hung_s = -1.0  # any silence is one
        assert any(lack.startswith("the outbox hangs") for lack in agent.missing())
    finally:
        agent.writer.stop()
