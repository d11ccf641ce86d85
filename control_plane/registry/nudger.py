"""Gateways are told to ask the hub at once when something changed for their devices or for their own keys.

Promises: what is told of is committed, whichever process or command changed it: triggers of the database name the
gateway in a notification. Best effort: a nudge carries no authority, and who missed one asks by itself, later.
One process does it (`leader`); many changes in a short time are one nudge for each gateway.
"""

import asyncio
from collections.abc import Awaitable, Callable

from control_plane.db.connect import connect, database_errors
from control_plane.registry import events
from shared.errors import HubError, Transient
from shared.ids import DeviceId

CHANNEL = "registry_nudge"
_GATHER_S = 0.1
_RETRY_S = 2.0


class Nudger:
    """`nudge` publishes one (`Broker.nudge`). `serve` runs in one process at a time."""

    def __init__(self, database_url: str, nudge: Callable[[DeviceId], Awaitable[None]]) -> None:
        self._database_url = database_url
        self._nudge = nudge

    async def serve(self) -> None:
        """Until cancelled; whatever is away is tried again."""
        while True:
            try:
                await self._listen()
            except HubError as error:
                events.NudgesStopped(str(error)).emit()
            await asyncio.sleep(_RETRY_S)

    async def _listen(self) -> None:
        """With one connection; ends only by an exception."""
        heard: dict[DeviceId, None] = {}
        woken = asyncio.Event()

        def note(_connection: object, _pid: int, _channel: str, gateway: object) -> None:
            heard[DeviceId(str(gateway))] = None
            woken.set()

        connection = await connect(self._database_url, application="hub registry nudges")
        try:
            connection.add_termination_listener(lambda *_: woken.set())
            with database_errors():
                await connection.add_listener(CHANNEL, note)
            while True:
                await woken.wait()
                if connection.is_closed():
                    raise Transient("the connection to Postgres was lost")
                await asyncio.sleep(_GATHER_S)  # a change of many devices of one gateway is one question
                woken.clear()
                gateways = list(heard)
                heard.clear()
                for gateway in gateways:
                    await self._nudge(gateway)
                events.GatewaysNudged(len(gateways)).emit()
        finally:
            connection.terminate()
