"""`make demo` as a process, on real servers: what it prints last, and that it keeps its promise."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.stack, pytest.mark.timeout(420)]
ROOT = Path(__file__).parents[2]
FIGURES = {
    "accepted", "normalized", "lost", "duplicates", "rejected", "anomalies_injected", "anomalies_detected",
    "false_alarms", "p50_ms", "p99_ms", "replay_p99_ms", "seconds", "quarantined", "refused",
    "rotations", "rotation_failures",
}  # fmt: skip


def test_a_short_demo_loses_and_doubles_nothing_and_says_so_in_its_last_line():
    done = subprocess.run(
        [sys.executable, "-m", "deploy.demo"],
        cwd=ROOT, env=os.environ | {"DEMO_SECONDS": "30", "DEMO_SEED": "7"},
        stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=400, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3_000:] + done.stdout[-3_000:]
    said = json.loads(done.stdout.splitlines()[-1])
    assert set(said) >= FIGURES
    assert (said["lost"], said["duplicates"]) == (0, 0)
    assert said["accepted"] + said["unacknowledged"] == said["normalized"] + said["rejected"] + said["lost"]
    assert said["accepted"] > 2_500
    assert said["rejected"] > 0, "some are malformed on purpose"
    assert said["health"] > 0
    assert said["anomalies_injected"] >= 20
    assert said["replay_p99_ms"] > said["p50_ms"] > 0
    assert (said["rotations"], said["rotation_failures"]) == (1, 0)
    assert said["quarantined"] == 1
    assert said["refused"] > 50
    assert "seed 7" in done.stderr
    assert "killed ingest" in done.stderr
