"""Keys begin and end at their times: the leader sleeps until the next of them, and is woken when another is set.

Promises: a key whose not_after has come is refused at REST at that moment, ended in Postgres and deleted at the
broker within a second (its session is closed), ahead of everything else there; one whose not_before has come is
enabled. While Postgres or the broker is away both happen when it is back. Rows: `rings`.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from control_plane.db.connect import connect, database_errors
from control_plane.registry.credentials import events
from control_plane.registry.credentials.rings import Rings
from control_plane.registry.credentials.store import Credentials
from shared.errors import HubError
from shared.ids import DeviceId, KeyId

CHANNEL = "registry_credentials"
_AT_ONCE = 100
_LONGEST_S = 600.0
"""A sleep is bounded, in case Postgres' clock was set."""
_RETRY_S = 2.0
_COUNT_S = 3_600.0


class KeyTimes:
    """`delete` and `project` tell the broker; False: it could not be told now, and somebody else tries again."""

    def __init__(
        self,
        rings: Rings,
        credentials: Credentials,
        database_url: str,
        delete: Callable[[Sequence[KeyId]], Awaitable[bool]],
        project: Callable[[DeviceId], Awaitable[bool]],
    ) -> None:
        self._rings = rings
        self._credentials = credentials
        self._database_url = database_url
        self._delete = delete
        self._project = project
        self._changed = asyncio.Event()

    async def serve(self) -> None:
        """Until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._listen())
            tasks.create_task(self._keep_time())
            tasks.create_task(self._count_overdue())

    async def _listen(self) -> None:
        while True:
            try:
                connection = await connect(self._database_url, application="hub registry key times")
                try:
                    ended = asyncio.Event()
                    connection.add_termination_listener(lambda *_, ended=ended: ended.set())
                    with database_errors():
                        await connection.add_listener(CHANNEL, lambda *_: self._changed.set())
                    self._changed.set()  # for what was set while nobody listened
                    await ended.wait()
                finally:
                    connection.terminate()
            except HubError as error:
                events.KeyTimesDeaf(str(error)).emit()
            await asyncio.sleep(_RETRY_S)

    async def _keep_time(self) -> None:
        followed = False
        while True:
            self._changed.clear()
            try:
                if not followed:
                    await self._rings.follow_all()
                    followed = True
                wait_s = await self.turn()
            except HubError as error:
                events.KeyTimesDeaf(str(error)).emit()
                wait_s = _RETRY_S
            try:
                async with asyncio.timeout(wait_s):
                    await self._changed.wait()
            except TimeoutError:
                continue

    async def _count_overdue(self) -> None:
        while True:
            try:
                overdue = await self._credentials.overdue_count(await self._rings.policy())
                events.KeysOverdue(overdue).emit()
            except HubError as error:
                events.KeyTimesDeaf(str(error)).emit()
            await asyncio.sleep(_COUNT_S)

    async def turn(self) -> float:
        """Do what is due now; seconds until something else may be. Raises Transient or Permanent."""
        while ended := await self._rings.end_due(_AT_ONCE):
            events.KeysEnded(len(ended), "expired").emit()
            await self._delete(ended)
        for device_id in await self._rings.begun(_AT_ONCE):
            if not await self._project(device_id):
                return _RETRY_S
            await self._rings.has_begun(device_id)
        next_s = await self._rings.next_change_s()
        return _LONGEST_S if next_s is None else min(max(next_s, 0.0), _LONGEST_S)
