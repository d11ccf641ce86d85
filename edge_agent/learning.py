"""Keeps what the scorer learns: loads it at the start, saves a bounded part of it at a time, all of it at the end.

Importing this loads no detector; `open_scorer` does, and only where scoring is on.
"""

import asyncio
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from edge_agent.events import ModelsNotSaved, ModelsSaved, ScoringStartedCold, Unscorable
from edge_agent.pipeline import Pipeline
from shared.errors import Transient

if TYPE_CHECKING:
    from edge_agent.anomaly.scorer import Scorer
    from edge_agent.model_store import ModelStore

SLICE = 16
"""Channels packed in one turn of the loop: some 2 ms."""

MOST_PER_SAVE = 256
"""Channels written at one save, longest waiting first; at 10 KiB each this bounds the wear of a gateway's flash."""


def open_scorer(path: Path, model: str, max_channels: int) -> "tuple[Scorer, ModelStore | None]":
    """The scorer as it was saved, and the file to save it in; cold, and said so, where there is no such file.

    Raises ConfigError for an unknown model.
    """
    from edge_agent.anomaly.scorer import Scorer  # noqa: PLC0415 - nothing of models is loaded while scoring is off
    from edge_agent.model_store import ModelStore  # noqa: PLC0415 - as above

    scorer = Scorer(max_channels=max_channels, model=model)
    try:
        store = ModelStore(path, model)
    except Transient as error:
        ScoringStartedCold(str(error), 0).emit()
        return scorer, None
    scorer.load(store.load())
    reason = store.cold_reason or scorer.cold_start_reason
    if reason is not None:
        ScoringStartedCold(reason, scorer.cold_channels).emit()
    return scorer, store


class Learning:
    """Saves one scorer. `every_s`: seconds between saves."""

    def __init__(self, scorer: "Scorer", store: "ModelStore | None", pipeline: Pipeline, every_s: float) -> None:
        self._scorer = scorer
        self._store = store
        self._pipeline = pipeline
        self._every_s = every_s
        self._unscorable = 0

    async def serve(self, stopping: asyncio.Event) -> None:
        """Save every `every_s` seconds until `stopping`, then everything, and close the file."""
        try:
            stopped = False
            while not stopped:
                with suppress(TimeoutError):
                    async with asyncio.timeout(self._every_s):
                        await stopping.wait()
                stopped = stopping.is_set()
                await self._save(None if stopped else MOST_PER_SAVE)
                self._report()
        finally:
            if self._store is not None:
                self._store.close()

    async def _save(self, most: int | None) -> None:
        if self._store is None:
            return
        saved = 0
        try:
            while most is None or saved < most:
                chunk = list(self._scorer.dirty_channels(SLICE if most is None else min(SLICE, most - saved)))
                gone = self._scorer.gone_channels()
                if not chunk and not gone:
                    break
                await asyncio.to_thread(self._store.save, chunk, gone)
                saved += len(chunk)
        except Transient as error:
            ModelsNotSaved(str(error)).emit()
        if saved:
            ModelsSaved(saved).emit()

    def _report(self) -> None:
        fresh = self._pipeline.unscorable - self._unscorable
        self._unscorable = self._pipeline.unscorable
        if fresh:
            Unscorable(fresh).emit()
