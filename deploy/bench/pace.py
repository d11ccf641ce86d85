"""Following a count that grows elsewhere, so that a load can keep to what its far end takes."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

LOOK_S = 0.05


@dataclass(slots=True)
class Followed:
    """How much it has grown since it is followed."""

    count: int = 0


@asynccontextmanager
async def followed(look: Callable[[], Awaitable[int]], every_s: float = LOOK_S) -> AsyncIterator[Followed]:
    """Ask `look` again and again until the block ends. What it raises ends the block, and leaves it as it is."""
    before = await look()
    found = Followed()

    async def follow() -> None:
        while True:
            found.count = await look() - before
            await asyncio.sleep(every_s)

    try:
        async with asyncio.TaskGroup() as tasks:
            following = tasks.create_task(follow())
            try:
                yield found
            finally:
                following.cancel()
    except ExceptionGroup as group:
        raise group.exceptions[0] from group
