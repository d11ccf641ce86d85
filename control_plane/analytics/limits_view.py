"""The limits of all device types, kept up to date from Postgres by a thread of its own.

Promises: `limits_of` never waits; `wait` returns when they were read once; while Postgres is away, what is known
stays in use. A change is seen within REFRESH_S.
"""

import asyncio
import contextlib
import json
import threading
from collections.abc import Mapping

from control_plane.analytics.detector import Limits, limits_of_type
from control_plane.analytics.detector_events import LimitsAway, LimitsLoaded
from control_plane.db import connect
from shared.errors import HubError, Transient

REFRESH_S = 10.0
_AGAIN_S = 1.0
_CLOSE_S = 10.0
_TYPES = "SELECT name, metrics FROM device_types"


class LimitsView:
    """Read with `limits_of`; `start` first, `close` last."""

    def __init__(self, database_url: str) -> None:
        self._database_url = database_url
        self._limits: Mapping[str, Limits] = {}
        self._loaded = threading.Event()
        self._failure: BaseException | None = None
        self._loop = asyncio.new_event_loop()
        self._stopping = asyncio.Event()
        self._thread = threading.Thread(target=self._run, name="limits-view", daemon=True)

    def start(self) -> None:
        """Begin to read."""
        self._thread.start()

    def wait(self) -> None:
        """Until the limits were read once. Raises what ended the thread. A signal handler may raise in here."""
        while not self._loaded.wait(0.1):
            self.check()

    def check(self) -> None:
        """Raises if the thread ended: what it knew grows old."""
        if self._failure is not None:
            if isinstance(self._failure, HubError):
                raise self._failure
            raise Transient(f"the view of the limits ended: {self._failure!r}") from self._failure

    def missing(self) -> list[str]:
        """For readiness."""
        if self._failure is not None:
            return ["the view of the device types' limits ended"]
        return [] if self._loaded.is_set() else ["does not know the device types' limits yet"]

    def close(self) -> None:
        """End the thread; waits 10 s at most."""
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._stopping.set)
            self._thread.join(_CLOSE_S)

    def limits_of(self, device_type: str) -> Limits:
        """The type's limits as far as they are known here."""
        return self._limits.get(device_type, {})

    def _run(self) -> None:
        try:
            with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
                runner.run(self._serve())
        except BaseException as error:  # noqa: BLE001 - told by `check` in the thread that can act on it
            self._failure = error

    async def _serve(self) -> None:
        pool = await connect.pool(self._database_url, size=1, application="hub detector")
        away = False
        try:
            while not self._stopping.is_set():
                try:
                    async with connect.acquire(pool) as connection:
                        rows = await connection.fetch(_TYPES)
                    found = {row["name"]: limits_of_type(json.loads(row["metrics"])) for row in rows}
                    self._limits = {name: limits for name, limits in found.items() if limits}
                    if away or not self._loaded.is_set():
                        LimitsLoaded(len(self._limits)).emit()
                    away = False
                    self._loaded.set()
                except Transient as error:
                    if not away:
                        LimitsAway(str(error)).emit()
                    away = True
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._stopping.wait(), _AGAIN_S if away else REFRESH_S)
        finally:
            pool.terminate()
