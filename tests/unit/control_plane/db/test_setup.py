"""What `hub migrate` reads, and what it says when servers are away. Doing it: tests/stack/test_migrations.py."""

from pathlib import Path

import pytest

from control_plane.db.setup import SetupConfig, set_up
from shared.config import ConfigError, load
from shared.errors import Transient


def environment(tmp_path: Path) -> dict[str, str]:
    return {
        "HUB_DATABASE_URL": "postgresql://hub:secret@127.0.0.1:1/hub",
        "HUB_KAFKA_BOOTSTRAP": "127.0.0.1:1",
        "HUB_DATA_DIR": str(tmp_path / "hub"),
        "HUB_ADMIN_TOKEN_FILE": str(tmp_path / "hub" / "admin-token"),
    }


def test_mistakes_are_told_at_once(tmp_path: Path) -> None:
    env = environment(tmp_path) | {"HUB_KAFKA_PARTITIONS": "0", "HUB_KAFKA_MIN_ISR": "2"}
    with pytest.raises(ConfigError) as caught:
        load(SetupConfig, env)
    assert [mistake.split(":")[0] for mistake in caught.value.mistakes] == [
        "HUB_KAFKA_PARTITIONS",
        "HUB_KAFKA_MIN_ISR",
    ]


async def test_all_that_is_away_is_named_and_waited_for(tmp_path: Path) -> None:
    config = load(SetupConfig, environment(tmp_path))
    said: list[str] = []
    with pytest.raises(Transient) as caught:
        await set_up(config, wait_s=0.6, say=said.append)
    assert "Postgres does not answer" in str(caught.value)
    assert "Kafka does not answer" in str(caught.value)
    assert "secret" not in str(caught.value)
    assert {words.split()[1] for words in said} == {"Postgres", "Kafka"}
