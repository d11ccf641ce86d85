"""When tokens were used: written behind the requests' backs, seldom, and again if it failed."""

import asyncio
from collections.abc import Mapping
from datetime import datetime

import pytest

from control_plane.registry.access import token_uses
from control_plane.registry.access.token_uses import EVERY_S, TokenUses
from shared.errors import Transient


class Table:
    def __init__(self) -> None:
        self.written: list[set[str]] = []
        self.trouble = 0
        self.told = asyncio.Event()
        self.now = 0.0

    async def write(self, uses: Mapping[str, datetime]) -> None:
        self.told.set()
        if self.trouble:
            self.trouble -= 1
            raise Transient("Postgres does not answer")
        self.written.append(set(uses))

    async def until_told(self) -> None:
        async with asyncio.timeout(10):
            await self.told.wait()
        self.told.clear()


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(token_uses, "_LOOK_S", 0.01)


async def test_the_first_use_at_once_and_then_once_a_minute(quick: None) -> None:
    table = Table()
    uses = TokenUses(table.write, clock=lambda: table.now)
    serving = asyncio.create_task(uses.serve())
    uses.note("t-a")
    await table.until_told()
    for _ in range(100):
        uses.note("t-a")
    uses.note("t-b")
    await table.until_told()
    assert table.written == [{"t-a"}, {"t-b"}]
    table.now += EVERY_S
    await table.until_told()
    assert table.written == [{"t-a"}, {"t-b"}, {"t-a"}]
    serving.cancel()


async def test_what_could_not_be_written_is_written_later(quick: None) -> None:
    table = Table()
    table.trouble = 2
    uses = TokenUses(table.write, clock=lambda: table.now)
    serving = asyncio.create_task(uses.serve())
    uses.note("t-a")
    for _ in range(3):
        await table.until_told()
    assert table.written == [{"t-a"}]
    serving.cancel()


async def test_the_end_writes_what_waits() -> None:
    table = Table()
    uses = TokenUses(table.write, clock=lambda: table.now)
    uses.note("t-a")
    uses.note("t-b")
    await uses.finish()
    await uses.finish()
    assert table.written == [{"t-a", "t-b"}]
    table.trouble = 1
    uses.note("t-a")
    await uses.finish()  # the hub ends although Postgres is away
