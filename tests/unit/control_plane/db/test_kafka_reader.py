"""A consumer whose fetching misses the first word. The real one: tests/stack/test_kafka_reader.py."""

import asyncio

import pytest

from control_plane.db import kafka_reader
from control_plane.db.kafka_reader import stop_reader


class Fetcher:
    def __init__(self, deaf: int) -> None:
        self.deaf = deaf
        self._fetch_task = asyncio.ensure_future(self._fetch())

    async def _fetch(self) -> None:
        while True:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                if self.deaf == 0:
                    return
                self.deaf -= 1


class Consumer:
    """Stops when its fetching has; that is told `deaf` times in vain."""

    def __init__(self, deaf: int) -> None:
        self._fetcher = Fetcher(deaf)
        self.closed = False

    async def stop(self) -> None:
        await asyncio.sleep(0.05)  # leaving its group is not cut short
        self._fetcher._fetch_task.cancel()
        await self._fetcher._fetch_task
        self.closed = True


@pytest.mark.parametrize("deaf", [0, 1, 2])
async def test_it_is_told_until_it_hears(monkeypatch: pytest.MonkeyPatch, deaf: int) -> None:
    monkeypatch.setattr(kafka_reader, "ASK_AGAIN_S", 0.01)
    consumer = Consumer(deaf)
    async with asyncio.timeout(5):
        await stop_reader(consumer)
    assert consumer.closed


async def test_what_stopping_raises_is_raised() -> None:
    class Broken:
        _fetcher = None

        async def stop(self) -> None:
            raise OSError("gone")

    with pytest.raises(OSError, match="gone"):
        await stop_reader(Broken())
