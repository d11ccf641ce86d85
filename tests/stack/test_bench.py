"""`make bench` as a process: the shortest measurement of the whole path, and the file that it leaves."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.stack, pytest.mark.timeout(300)]
ROOT = Path(__file__).parents[2]


def test_a_small_target_is_sustained_and_written_down(tmp_path):
    # A tenth of the time is allowed for the drain: of 15 s that is enough on a machine with other tests on it.
    settings = {"ONLY": "sustained", "TARGET": "100", "DURATION_S": "15", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-m", "deploy.bench"],
        cwd=tmp_path, env=os.environ | settings,
        stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=280, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3_000:]
    assert "sustained_readings_per_s" in done.stdout
    written = json.loads((tmp_path / "bench.json").read_text())
    figures = {item["name"]: item for item in written["results"]}
    assert figures["sustained_readings_per_s"]["median"] >= 90
    assert figures["sustained_p99_ms"]["median"] > 0
    assert set(figures["sustained_p99_ms"]) == {"name", "unit", "min", "median", "max", "runs"}
    assert {"machine", "versions"} <= set(written)
