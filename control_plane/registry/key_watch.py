"""When each key was last used: read from the broker's log topic.

Promises: a connect of a device is noted within about a second. The session is persistent, so what happens while this
process is away is told when it is back, for an hour; a killed broker may forget. One process at a time (`leader`).
"""

import asyncio
import random
import time
from datetime import UTC, datetime
from pathlib import Path

import aiomqtt
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from control_plane.registry import connect_log, events
from control_plane.registry.broker import client
from control_plane.registry.credentials.rings import Rings
from shared.backoff import Backoff
from shared.errors import HubError
from shared.ids import KeyId

_SESSION_S = 3_600
_FLUSH_S = 0.5
_MOST_WAITING = 100_000  # keys; more would be a fleet that one broker does not hold
_BACKOFF = Backoff(first_s=0.2, cap_s=5.0)


class KeyWatch:
    """`serve` reads and notes, until cancelled."""

    def __init__(self, rings: Rings, url: str, secret: str, ca_file: Path | None = None) -> None:
        self._rings = rings
        self._url = url
        self._secret = secret
        self._ca_file = ca_file
        self._uses: dict[KeyId, datetime] = {}
        self._fresh = asyncio.Event()

    async def serve(self) -> None:
        """Both halves, each trying again what is away."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._read())
            tasks.create_task(self._note())

    async def _read(self) -> None:
        attempt = 0
        properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]  # of the library
        properties.SessionExpiryInterval = _SESSION_S
        while True:
            started = time.monotonic()
            try:
                async with client(
                    self._url,
                    "_monitor",
                    self._secret,
                    "_monitor-keys",
                    ca_file=self._ca_file,
                    clean_start=False,
                    properties=properties,
                ) as connection:
                    await connection.subscribe(connect_log.TOPIC, qos=1)
                    async for message in connection.messages:
                        if isinstance(message.payload, bytes):
                            self._take(message.payload)
            except aiomqtt.MqttError as error:
                attempt = 0 if time.monotonic() - started > _BACKOFF.cap_s else attempt + 1
                delay_s = _BACKOFF.delay_s(attempt, random.random())  # noqa: S311 - jitter
                events.WatchLost(str(error), round(delay_s, 3)).emit()
                await asyncio.sleep(delay_s)

    def _take(self, line: bytes) -> None:
        key_id = connect_log.used_key(line)
        if key_id is not None and len(self._uses) < _MOST_WAITING:
            self._uses[key_id] = datetime.now(UTC)
            self._fresh.set()

    async def _note(self) -> None:
        while True:
            await self._fresh.wait()
            self._fresh.clear()
            uses, self._uses = self._uses, {}
            try:
                await self._rings.use(uses)
            except HubError:
                self._uses = uses | self._uses  # Postgres is away: the newer use of a key wins
                self._fresh.set()
            # A fleet that comes back at once is one statement each half second, not one each connect.
            await asyncio.sleep(_FLUSH_S)
