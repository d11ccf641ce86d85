"""What only one API process may do at a time: relay, reconcile, watch the keys.

Leadership is a session lock in Postgres, so it ends with the connection that holds it, whatever happens to the
process. What runs under it must bear an unnoticed overlap of seconds; the relay is fenced by Kafka.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING

from control_plane.db.connect import connect, database_errors
from control_plane.registry import events
from shared.errors import HubError, Transient

if TYPE_CHECKING:
    import asyncpg

_LOCK = 0x4855_4202
_RETRY_S = 1.0
_CHECK_S = 5.0

Duty = Callable[[], Awaitable[None]]


class _Lost(Exception):  # noqa: N818 - it is no error but the end of a term
    """Ends the task group of a term."""


async def lead(database_url: str, duties: Sequence[Duty]) -> None:
    """Run `duties` while this process leads, again and again, until cancelled. A duty ends only by a bug of ours."""
    while True:
        try:
            await _term(database_url, duties)
        except HubError as error:
            events.LeadershipLost(str(error), _RETRY_S).emit()
        await asyncio.sleep(_RETRY_S)


async def _term(database_url: str, duties: Sequence[Duty]) -> None:
    connection = await connect(database_url, application="hub registry leader")
    try:
        with database_errors():
            if not await connection.fetchval("SELECT pg_try_advisory_lock($1)", _LOCK):
                return
        events.LeadershipWon().emit()
        lost = False
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(_hold(connection))
                for duty in duties:
                    tasks.create_task(_run(duty))
        except* _Lost:
            lost = True
        assert lost, "a term ends by its loss or by an exception"
        raise Transient("the connection that held the leadership is gone")
    finally:
        connection.terminate()


async def _run(duty: Duty) -> None:
    await duty()
    raise AssertionError("a duty ended")


async def _hold(connection: "asyncpg.Connection[asyncpg.Record]") -> None:
    """Ends with _Lost when the lock's connection is gone, noticed at once if the server closed it."""
    closed = asyncio.Event()
    connection.add_termination_listener(lambda *_: closed.set())
    while not connection.is_closed():
        try:
            async with asyncio.timeout(_CHECK_S):
                await closed.wait()
        except TimeoutError:
            try:
                with database_errors():
                    await connection.execute("SELECT 1", timeout=_CHECK_S)
            except HubError as error:
                raise _Lost from error
    raise _Lost
