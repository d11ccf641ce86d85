import math
from pathlib import Path

import pytest

from edge_agent.config import AgentConfig
from edge_agent.learning import open_scorer
from edge_agent.warming import warm_file
from shared.errors import Permanent, Transient


def config(data_dir: Path, **changes: object) -> AgentConfig:
    return AgentConfig("gw-1", "mqtt://127.0.0.1:9", data_dir, data_dir / "key", **changes)  # type: ignore[arg-type]


@pytest.fixture
def history(tmp_path: Path) -> Path:
    file = tmp_path / "history.csv"
    file.write_text("temp\n" + "".join(f"{20 + math.sin(n):.2f}\n" for n in range(300)))
    return file


def warm(config: AgentConfig, history: Path, **changes: object) -> dict[str, int]:
    words: dict[str, object] = {"device": "d1", "metric": "temperature", "interval_s": 0.2} | changes
    return warm_file(config, history, "temp", **words)  # type: ignore[arg-type]


def test_the_agent_starts_with_what_was_learned(models_file: Path, history: Path) -> None:
    assert warm(config(models_file.parent), history) == {"learned": 300, "empty": 0}
    assert warm(config(models_file.parent), history, device="d2") == {"learned": 300, "empty": 0}
    scorer, store = open_scorer(models_file, "edge", 10)
    assert store is not None
    store.close()
    assert len(scorer) == 2
    assert scorer.cold_start_reason is None


@pytest.mark.parametrize(
    ("changes", "settings", "said"),
    [
        ({"device": "no id"}, {}, "no device id"),
        ({"metric": "n"}, {}, "AGENT_UNSCORED"),
        ({"interval_s": 0.0}, {}, "positive number"),
        ({}, {"scoring": False}, "AGENT_SCORING"),
    ],
)
def test_what_cannot_be_warmed_is_refused_in_words(
    models_file: Path, history: Path, changes: dict[str, object], settings: dict[str, object], said: str
) -> None:
    with pytest.raises(Permanent, match=said):
        warm(config(models_file.parent, **settings), history, **changes)


def test_without_a_model_file_nothing_is_claimed(tmp_path: Path, history: Path) -> None:
    (tmp_path / "models.db").mkdir()
    with pytest.raises(Transient, match="AGENT_DATA_DIR"):
        warm(config(tmp_path), history)
