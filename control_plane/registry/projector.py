"""One device's keys at the broker, now: after its status or its keys changed, and before the answer is given.

Promises: what may no longer connect is disabled or deleted first, ahead of everything else that waits for the broker,
which closes its session. What cannot be done now (the broker is away) is owed: done first of all when it is back, by
this process, and by the reconciler if this process ends before.
"""

import asyncio
from collections.abc import Awaitable, Callable

from control_plane.registry import dynsec, events
from control_plane.registry.broker import Broker, BrokerRefused
from control_plane.registry.dynsec import Command
from control_plane.registry.projection import Key, KeyState
from control_plane.registry.store import Store
from shared.errors import HubError, Transient
from shared.ids import DeviceId

_MOST_OWED = 10_000
"""Devices; what is beyond is the reconciler's."""
_RETRY_S = 0.5


class Projector:
    """`wake_reconciler` is called when the broker could not be told."""

    def __init__(
        self,
        store: Store,
        broker: Broker,
        wake_reconciler: Callable[[], None],
        list_revoked: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        """`list_revoked` has the broker refuse the certificates of who may not connect, before sessions are closed:
        whoever came by one would be back at once.
        """
        self._list_revoked = list_revoked
        self._store = store
        self._broker = broker
        self._wake_reconciler = wake_reconciler
        self._owed: dict[DeviceId, None] = {}
        self._owing = asyncio.Event()

    @property
    def owed(self) -> int:
        """How many devices' records wait for the broker to be back."""
        return len(self._owed)

    async def device(self, device_id: DeviceId) -> bool:
        """Bring the broker's records of this device into line with Postgres; False if the broker is away."""
        try:
            await self._follow(device_id)
        except Transient:
            if len(self._owed) < _MOST_OWED:
                self._owed[device_id] = None
                self._owing.set()
            events.BrokerOwed(len(self._owed)).emit()
            self._wake_reconciler()
            return False
        return True

    async def serve(self) -> None:
        """Do what is owed, as soon as the broker takes commands again, until cancelled."""
        while True:
            await self._owing.wait()
            device_id = next(iter(self._owed))
            try:
                await self._follow(device_id)
            except BrokerRefused as error:
                events.ReconcileFailed(str(error)).emit()
            except HubError:
                await asyncio.sleep(_RETRY_S)
                continue
            del self._owed[device_id]
            if not self._owed:
                self._owing.clear()

    async def _follow(self, device_id: DeviceId) -> None:
        keys = await self._store.projection.of_device(device_id)
        unlisted: Transient | None = None
        if self._list_revoked is not None and any(key.state is KeyState.DOOR for key in keys.values()):
            try:
                await self._list_revoked()
            except Transient as error:
                unlisted = error  # its keys can be ended all the same
        # Who is to be cut off goes first: a device may have several keys, one of them a thief's.
        for name, key in sorted(keys.items(), key=lambda item: not _cut_off(item[1])):
            if key.state is not KeyState.PENDING:
                await self._record(name, key)
        if unlisted is not None:
            raise unlisted

    async def _record(self, name: str, key: Key) -> None:
        cut_off = _cut_off(key)
        found = await self._do(_wanted(name, key), urgent=cut_off)
        if not found and key.state is KeyState.DOOR:  # by it a certificate's session is closed, so it must be there
            await self._do(dynsec.create_door(name), urgent=cut_off)
            if cut_off:
                await self._do(dynsec.disable_client(name), urgent=True)

    async def _do(self, command: Command, *, urgent: bool) -> bool:
        """False: there is no such record. It cannot be used then; the reconciler counts it."""
        try:
            await self._broker.command(command, urgent=urgent)
        except BrokerRefused as error:
            if error.words not in (dynsec.NOT_FOUND, dynsec.ALREADY_EXISTS):
                raise
            return False
        return True


def _cut_off(key: Key) -> bool:
    return not key.enabled or key.state is KeyState.ENDED


def _wanted(name: str, key: Key) -> Command:
    if key.state is KeyState.ENDED:
        return dynsec.delete_client(name)
    return dynsec.enable_client(name) if key.enabled else dynsec.disable_client(name)
