import asyncio
import math
from pathlib import Path

import pytest

from edge_agent import learning
from edge_agent.anomaly.scorer import Scorer
from edge_agent.learning import Learning, open_scorer
from edge_agent.pipeline import Pipeline
from edge_agent.skew import SkewBook
from shared.config import ConfigError


def teach(scorer: Scorer, channels: int, samples: int = 50) -> None:
    for channel in range(channels):
        for number in range(samples):
            scorer.score("d", f"m{channel}", 1_790_000_000.0 + number, 20 + math.sin(number) + channel)


async def run(learner: Learning, until_saved: int | None = None) -> None:
    stopping = asyncio.Event()
    task = asyncio.ensure_future(learner.serve(stopping))
    if until_saved is None:
        stopping.set()
    async with asyncio.timeout(5):
        await task


async def test_what_was_learned_is_there_after_a_restart(models_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(learning, "MOST_PER_SAVE", 5)  # the last save is not bounded
    path = models_file
    scorer, store = open_scorer(path, "edge", 100)
    teach(scorer, learning.SLICE * 2 + 1)
    await run(Learning(scorer, store, Pipeline(SkewBook()), 60.0))
    again, store = open_scorer(path, "edge", 100)
    assert store is not None
    assert len(again) == learning.SLICE * 2 + 1
    assert again.snapshot() == scorer.snapshot()
    store.close()


async def test_one_save_is_bounded_and_the_next_goes_on(models_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(learning, "MOST_PER_SAVE", 10)
    monkeypatch.setattr(learning, "SLICE", 4)
    scorer, store = open_scorer(models_file, "edge", 100)
    assert store is not None
    teach(scorer, 25, samples=3)
    learner = Learning(scorer, store, Pipeline(SkewBook()), 60.0)
    counts = []
    for _ in range(4):
        await learner._save(learning.MOST_PER_SAVE)
        counts.append(len(list(store.load())))
    assert counts == [10, 20, 25, 25]
    store.close()


async def test_channels_that_were_evicted_leave_the_file(models_file: Path) -> None:
    scorer, store = open_scorer(models_file, "edge", 3)
    assert store is not None
    learner = Learning(scorer, store, Pipeline(SkewBook()), 60.0)
    teach(scorer, 3, samples=3)
    await learner._save(None)
    teach(scorer, 5, samples=3)
    await learner._save(None)
    assert {metric for (_, metric), _ in store.load()} == {"m2", "m3", "m4"}
    store.close()


async def test_without_a_file_scoring_goes_on(tmp_path: Path) -> None:
    scorer, store = open_scorer(tmp_path / "missing" / "models.db", "edge", 3)
    assert store is None
    teach(scorer, 2, samples=3)
    await run(Learning(scorer, store, Pipeline(SkewBook()), 60.0))
    assert len(scorer) == 2


def test_an_unknown_model_is_a_mistake_of_configuration(models_file: Path) -> None:
    with pytest.raises(ConfigError, match="unknown"):
        open_scorer(models_file, "magic", 3)
