"""`hub serve` on real processes: restarts, the end, and that no child outlives it. Real services: tests/stack."""

import asyncio
import dataclasses
import errno
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import psutil
import pytest

from control_plane.restart import Phase
from control_plane.status import status
from control_plane.supervisor import NEEDED, SERVICES, Child, ServeConfig

SERVICE = Path(__file__).parent / "supervised_service.py"
DEADLINE_S = 20.0
_SERVE = """
import os, sys
from control_plane.supervisor import ServeConfig, serve
from shared.config import load
services = dict(item.split("=", 1) for item in sys.argv[1:])
python = sys.executable
argv = {name: (python, os.environ["SERVICE"], *words.split()) for name, words in services.items()}
sys.exit(serve(load(ServeConfig, os.environ), argv))
"""


def until(condition: Callable[[], Any], what: str) -> Any:
    """The condition's first true value, within the deadline."""
    deadline = time.monotonic() + DEADLINE_S
    while not (found := condition()):
        assert time.monotonic() < deadline, f"not within {DEADLINE_S} s: {what}"
        time.sleep(0.02)
    return found


class Tree:
    """A supervisor in a process of its own."""

    def __init__(self, data_dir: Path) -> None:
        self.data_dir = data_dir
        self.log = data_dir / "serve.log"
        self._processes: list[subprocess.Popen[bytes]] = []

    def start(self, services: Mapping[str, str]) -> subprocess.Popen[bytes]:
        """`services`: manner of each by name."""
        words = [f"{name}={manner} {self.data_dir / name}.pids" for name, manner in services.items()]
        environment = {"HUB_DATA_DIR": str(self.data_dir), "HUB_STOP_GRACE_S": "0.5", "SERVICE": str(SERVICE)}
        with self.log.open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-c", _SERVE, *words],
                env=os.environ | environment | {"PYTHONPATH": str(Path(__file__).parents[3])},
                stderr=log,
            )
        self._processes.append(process)
        return process

    def pids(self, name: str) -> Sequence[int]:
        """All pids that the service had so far."""
        path = self.data_dir / f"{name}.pids"
        return [int(line) for line in path.read_text().splitlines()] if path.exists() else []

    def services(self) -> dict[str, dict[str, Any]]:
        return {service["name"]: service for service in status(self.data_dir)["services"]}

    def close(self) -> None:
        for process in self._processes:
            if process.poll() is None:
                process.kill()
            process.wait()


@pytest.fixture
def tree(tmp_path: Path) -> Iterator[Tree]:
    made = Tree(tmp_path)
    yield made
    made.close()


def gone(pid: int) -> bool:
    return not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


def ready(tree: Tree, name: str) -> Callable[[], bool]:
    return lambda: tree.services().get(name, {}).get("ready", False)


def test_what_dies_is_started_again_and_said(tree: Tree) -> None:
    tree.start({"a": "steady", "b": "steady"})
    until(ready(tree, "a"), "a is ready")
    until(ready(tree, "b"), "b is ready")
    first, other = tree.pids("a")[0], tree.pids("b")
    os.kill(first, signal.SIGKILL)
    until(lambda: len(tree.pids("a")) == 2, "a started again")
    until(ready(tree, "a"), "a is ready again")
    shown = tree.services()["a"]
    assert (shown["pid"], shown["restarts"]) == (tree.pids("a")[1], 1)
    assert tree.pids("b") == other
    assert '"event":"service_died","service":"a"' in tree.log.read_text()
    assert '"ended":"SIGKILL"' in tree.log.read_text()


def test_one_that_always_dies_is_tried_again_and_again_beside_the_others(tree: Tree) -> None:
    tree.start({"a": "dying", "b": "steady"})
    until(lambda: len(tree.pids("a")) >= 4, "four tries")
    assert len(tree.pids("b")) == 1
    assert '"ended":"status 7"' in tree.log.read_text()
    assert not tree.services()["a"]["ready"]


@pytest.mark.parametrize("fails", ["subprocess.Popen", "os.pidfd_open"])
async def test_a_system_that_is_full_for_a_moment_ends_nothing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, fails: str
) -> None:
    module, _, name = fails.partition(".")
    real, left = getattr(sys.modules[module], name), [BlockingIOError(errno.EAGAIN, "full")] * 2

    def full(*words: Any, **more: Any) -> Any:
        if left:
            raise left.pop()
        return real(*words, **more)

    monkeypatch.setattr(f"control_plane.supervisor.{fails}", full)
    stopping, changed = asyncio.Event(), asyncio.Event()
    config = ServeConfig(data_dir=tmp_path)
    child = Child("a", [sys.executable, "-c", "import signal; signal.pause()"], config, 0, changed.set)
    living = asyncio.create_task(child.live(stopping))
    async with asyncio.timeout(DEADLINE_S):
        while child.state.phase is not Phase.RUNNING:
            await changed.wait()
            changed.clear()
    assert (left, child.state.restarts) == ([], 0)
    assert child.pid is not None
    assert psutil.pid_exists(child.pid)
    stopping.set()
    await living


def test_sigkill_of_the_supervisor_leaves_no_orphan_and_the_next_start_works_at_once(tree: Tree) -> None:
    killed = tree.start({"a": "stubborn", "b": "steady"})
    until(lambda: tree.pids("a") and tree.pids("b"), "both run")
    old = [*tree.pids("a"), *tree.pids("b")]
    killed.kill()
    killed.wait()
    until(lambda: all(gone(pid) for pid in old), "no orphan")
    assert status(tree.data_dir) == {"serving": False, "pid": None, "services": []}
    again = tree.start({"a": "stubborn", "b": "steady"})
    until(ready(tree, "b"), "b is ready")
    assert again.poll() is None


def test_sigterm_ends_all_in_order_and_kills_who_stays(tree: Tree) -> None:
    process = tree.start({"a": "stubborn", "b": "steady"})
    until(lambda: tree.pids("a") and tree.pids("b"), "both run")
    process.terminate()
    assert process.wait(DEADLINE_S) == 0
    assert all(gone(pid) for pid in [*tree.pids("a"), *tree.pids("b")])
    killed = [line for line in tree.log.read_text().splitlines() if '"event":"service_killed"' in line]
    assert len(killed) == 1
    assert '"service":"a"' in killed[0]
    assert '"event":"service_died"' not in tree.log.read_text()


def test_a_second_one_on_the_same_directory_is_refused(tree: Tree) -> None:
    tree.start({"a": "steady"})
    until(lambda: tree.pids("a"), "the first runs")
    second = tree.start({"a": "steady"})
    assert second.wait(DEADLINE_S) == 1
    assert "AlreadyServed" in tree.log.read_text()
    assert len(tree.pids("a")) == 1


def test_one_that_runs_and_is_not_ready_says_why(tree: Tree) -> None:
    tree.start({"a": "unready"})
    until(lambda: tree.services().get("a", {}).get("missing") == ["it is never ready"], "its own words")
    assert not tree.services()["a"]["ready"]


def test_a_service_without_its_configuration_ends_all_with_status_2(tree: Tree) -> None:
    process = tree.start({"a": "unfit", "b": "steady"})
    assert process.wait(DEADLINE_S) == 2
    assert len(tree.pids("a")) == 1
    assert all(gone(pid) for pid in tree.pids("b"))
    said = tree.log.read_text()
    assert said.count('"event":"service_unfit","service":"a"') == 1
    assert '"event":"service_died"' not in said


def test_missing_settings_are_named_once_and_before_any_start(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    from control_plane.__main__ import main

    for name in [name for name in os.environ if name.startswith("HUB_")]:
        monkeypatch.delenv(name)
    assert main(["serve"]) == 2
    said = capsys.readouterr().err
    for variable in {"HUB_DATA_DIR"}.union(*NEEDED.values()):
        assert said.count(f"{variable}: missing") == 1
    monkeypatch.setenv("HUB_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("HUB_DATABASE_URL", "postgresql://u:p@127.0.0.1:9/hub")
    assert main(["serve", "--without", "api", "--without", "ingest", "--without", "sink"]) == 2
    assert capsys.readouterr().err.splitlines() == [
        "hub: configuration: HUB_KAFKA_BOOTSTRAP: missing (for normalizer, detector, forwarder)"
    ]
    assert list(tmp_path.iterdir()) == []


def test_what_is_needed_is_what_the_services_require() -> None:
    from control_plane.analytics.detector_job import DetectorConfig
    from control_plane.analytics.forwarder_job import ForwarderConfig
    from control_plane.analytics.normalizer_job import NormalizerConfig
    from control_plane.analytics.sink_job import SinkConfig
    from control_plane.ingest.service import IngestConfig
    from control_plane.registry.service import ApiConfig

    kinds: list[Any] = [ApiConfig, IngestConfig, NormalizerConfig, DetectorConfig, ForwarderConfig, SinkConfig]
    for (name, needed), kind in zip(NEEDED.items(), kinds, strict=True):
        fields = [field for field in dataclasses.fields(kind) if field.default is dataclasses.MISSING]
        required = {field.metadata["env"] for field in fields}
        assert required - {"HUB_DATA_DIR"} == set(needed), name
    assert list(NEEDED) == list(SERVICES)


def test_every_service_of_the_hub_is_a_command() -> None:
    from control_plane.__main__ import parser

    for words in SERVICES.values():
        assert callable(parser().parse_args(words).run)
