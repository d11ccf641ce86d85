"""`hub anomalies` as a user sees it."""

import json
import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta

import asyncpg
import pytest

from control_plane.db import connect, migrate
from tests.stack.hub_process import CHECKOUT

NOW = datetime.now(UTC).replace(microsecond=0)


@pytest.fixture
async def filled(database_url: str) -> str:
    """Ten anomalies, one a minute, alternately of two devices."""
    connection = await connect.connect(database_url)
    await migrate.apply(connection)
    for n in range(10):
        await connection.execute(
            "INSERT INTO anomalies (id, ts, device_id, metric, value, score, severity, reason, expected, source,"
            " episode_id) VALUES ($1, $2, $3, 'temperature', $4, 9.5, 'warning', 'jump', 20, 'hub', 'e')",
            f"a{n}",
            NOW - timedelta(minutes=n),
            f"dev-{n % 2}",
            float(n),
        )
    await connection.close()
    return database_url


def hub(url: str, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "control_plane", "anomalies", *words],
        cwd=CHECKOUT,
        env=os.environ | {"HUB_DATABASE_URL": url},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


async def test_the_latest_first(filled: str) -> None:
    done = hub(filled)
    assert done.returncode == 0
    assert [line.split("temperature=")[1].split()[0] for line in done.stdout.splitlines()] == [
        str(n) for n in range(10)
    ]


async def test_device_since_limit_and_json(filled: str) -> None:
    since = (NOW - timedelta(minutes=5)).isoformat()
    found = [
        json.loads(line) for line in hub(filled, "--device", "dev-1", "--since", since, "--json").stdout.splitlines()
    ]
    assert [item["id"] for item in found] == ["a1", "a3", "a5"]
    assert found[0]["ts"] == f"{NOW - timedelta(minutes=1):%Y-%m-%dT%H:%M:%S}.000Z"
    assert len(hub(filled, "--since", "1d").stdout.splitlines()) == 10
    assert len(hub(filled, "--limit", "4").stdout.splitlines()) == 4


async def test_none_is_no_failure(filled: str) -> None:
    done = hub(filled, "--device", "nobody")
    assert (done.returncode, done.stdout) == (0, "")
    assert "no anomalies" in done.stderr
    assert hub(filled, "--device", "nobody", "--json").stderr == ""


async def test_exit_statuses(filled: str, database_url: str) -> None:
    assert hub(filled, "--since", "yesterday").returncode == 2
    assert hub("postgresql://nobody@127.0.0.1:1/none").returncode == 4
    connection = await asyncpg.connect(database_url)
    await connection.execute("DROP TABLE anomalies")
    await connection.close()
    assert hub(filled).returncode == 1
