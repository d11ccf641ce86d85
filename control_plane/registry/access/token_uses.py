"""When each API token was last used: noted in memory, written behind the requests' backs.

Promises: a first use is written at once, later ones at most once a minute per token, so that a busy client costs no
write of its own; what cannot be written is tried again. A process that is killed forgets at most its last minute.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from datetime import UTC, datetime

from control_plane.registry.access.events import TokenUsesNotWritten
from shared.errors import HubError

EVERY_S = 60.0
_LOOK_S = 5.0
_REMEMBERED = 10_000

Write = Callable[[Mapping[str, datetime]], Awaitable[None]]


class TokenUses:
    """One a process. `write` takes the newest use of each token."""

    def __init__(self, write: Write, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._write = write
        self._clock = clock
        self._waiting: dict[str, datetime] = {}
        self._written_at: dict[str, float] = {}
        self._wake = asyncio.Event()

    def note(self, token_id: str) -> None:
        """The token was good just now. Does not wait."""
        self._waiting[token_id] = datetime.now(UTC)
        if token_id not in self._written_at:
            self._wake.set()

    async def serve(self) -> None:
        """Write what is due, for ever."""
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(_LOOK_S):
                    await self._wake.wait()
            self._wake.clear()
            try:
                await self._write_those(self._due())
            except HubError as error:
                TokenUsesNotWritten(str(error)).emit()
                await asyncio.sleep(_LOOK_S)

    async def finish(self) -> None:
        """Write all that waits; what cannot be written now is forgotten."""
        with suppress(HubError):
            await self._write_those(list(self._waiting))

    def _due(self) -> list[str]:
        now = self._clock()
        return [name for name in self._waiting if now - self._written_at.get(name, -EVERY_S) >= EVERY_S]

    async def _write_those(self, names: list[str]) -> None:
        uses = {name: self._waiting[name] for name in names}
        if not uses:
            return
        await self._write(uses)
        now = self._clock()
        if len(self._written_at) > _REMEMBERED:
            self._written_at.clear()
        for name, at in uses.items():
            self._written_at[name] = now
            if self._waiting.get(name) == at:
                del self._waiting[name]
