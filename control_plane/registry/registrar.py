"""Registration: save, let the broker take the key, answer.

Promises: an answer with a key is given only after the broker holds it and the device is on its way to Kafka, and not
before ingest has had its session at the broker, which keeps for it what devices send from then on; a crash or a
lost server at any step leaves nothing that stands in the way of asking again (see `registration`).
"""

import asyncio
import random
import secrets as random_bytes
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

from control_plane.registry import dynsec, events
from control_plane.registry.broker import Broker, BrokerRefused
from control_plane.registry.device import Device
from control_plane.registry.registration import Create, Refused, Repeat, Request
from control_plane.registry.store import NewKey, Store
from shared import ids
from shared.authority import Actor
from shared.config import Secret
from shared.errors import HubError, Transient
from shared.ids import DeviceId, KeyId
from shared.pseudonym import pseudonym

TURN_S = 10.0
"""The longest wait for registrations of the same device that came before."""
_TRIES = 3
_PAUSE_S = 0.2
"""Before a registration that lost its place to another process asks again: by then that one is done, mostly."""
NO_AUDIENCE = "ingest has not subscribed at the broker yet, so nobody would hear the device"


@dataclass(frozen=True, slots=True)
class Registered:
    """A device; `api_key` is `<key id>.<secret>`, shown this once, or None if it was shown and used before."""

    device: Device
    api_key: Secret | None


class Registrar:
    """Registers devices by `store` and `broker`; `wake_reconciler` is called when the broker may hold too much, and
    the process that leads, if it is another, is called by the database.
    """

    def __init__(
        self, store: Store, broker: Broker, pseudonym_key: bytes, wake_reconciler: Callable[[], None]
    ) -> None:
        self._store = store
        self._broker = broker
        self._pseudonym_key = pseudonym_key
        self._wake_reconciler = wake_reconciler
        self._ingest_seen = False
        self._turns = _Turns()

    async def audience_missing(self) -> str:
        """Why nobody would hear a device, or "". Once somebody listened it is never asked again.

        Raises Transient if Postgres is away.
        """
        self._ingest_seen = self._ingest_seen or await self._store.ingest_subscribed()
        return "" if self._ingest_seen else NO_AUDIENCE

    async def register(self, request: Request, actor: Actor, idempotency_key: str | None) -> Registered | Refused:
        """The device with its key, or why not. Raises Transient if Postgres or the broker is away or ingest was never
        there: nothing is registered then, and the same request may be sent again.

        Registrations of one device wait for each other, or repeats that are sent at once would take each other's
        place while the broker is told.
        """
        missing = await self.audience_missing()
        if missing:
            raise Transient(missing, hint="is `hub ingest` running? see `hub status`")
        async with self._turns.turn((request.type, request.serial)):
            for tried in range(_TRIES):
                if tried:
                    await asyncio.sleep(random.uniform(_PAUSE_S / 4, _PAUSE_S))  # noqa: S311 - no secret
                found = await self._try(request, actor, idempotency_key)
                if found is not None:
                    return found
        raise Transient("another registration of this device took its place", hint="try again")

    async def _try(self, request: Request, actor: Actor, idempotency_key: str | None) -> Registered | Refused | None:
        """None: another process took the place while the broker was told."""
        key_id, secret = ids.new_key_id(), ids.new_secret()
        key = NewKey(key_id, dynsec.hash_secret(secret, random_bytes.token_bytes(dynsec.SALT_BYTES)))
        reserved = await self._store.reserve(
            request, key, fresh_id=ids.new_device_id(), actor=actor.id, idempotency_key=idempotency_key
        )
        decision = reserved.decision
        if isinstance(decision, Refused):
            events.RegistrationRefused(decision.why).emit()
            return decision
        if isinstance(decision, Repeat):
            return Registered(await self._device(decision.device_id), None)
        if reserved.ended:
            await self._reconcile()
        made = decision.device_id if isinstance(decision, Create) else None
        await self._project(key_id, secret, decision.device_id, made)
        ended = await self._store.finish(key_id, actor)
        if ended is None:
            await self._reconcile()
            return None
        for old in ended:
            await self._end(old)
        device = await self._device(decision.device_id)
        events.DeviceRegistered(self._pseudonym(device.id), device.kind, made is None).emit()
        return Registered(device, Secret(f"{key_id}.{secret}"))

    async def _project(self, key_id: KeyId, secret: str, device_id: DeviceId, made: DeviceId | None) -> None:
        connections = self._broker.connections
        try:
            await self._broker.command(dynsec.create_client(key_id, secret, device_id))
            if connections and self._broker.connections != connections:
                # It may have come back with a file that was written before.
                raise Transient("the broker was restarted at this moment", hint="try again")
        except HubError as error:
            events.RegistrationFailed(self._pseudonym(device_id), str(error)).emit()
            # The command may have been done all the same: the reconciler removes a key that Postgres does not know.
            await self._store.abandon(key_id, made)
            await self._reconcile()
            raise

    async def _end(self, key_id: KeyId) -> None:
        try:
            await self._broker.command(dynsec.delete_client(key_id))
        except BrokerRefused as error:
            if error.words != dynsec.NOT_FOUND:
                raise
        except Transient:
            await self._reconcile()

    async def _reconcile(self) -> None:
        self._wake_reconciler()
        try:
            await self._store.call_reconciler()
        except HubError as error:
            events.ReconcilerNotCalled(str(error)).emit()

    async def _device(self, device_id: DeviceId) -> Device:
        device = await self._store.device(device_id)
        if device is None:
            raise Transient("the device was removed at this moment", hint="try again")
        return device

    def _pseudonym(self, device_id: str) -> str:
        return pseudonym(self._pseudonym_key, device_id)


class _Turns:
    """One at a time for each name, in the order of arrival; a name is forgotten when nobody wants it."""

    def __init__(self) -> None:
        self._locks: dict[tuple[str, str], tuple[asyncio.Lock, int]] = {}

    @asynccontextmanager
    async def turn(self, name: tuple[str, str]) -> AsyncIterator[None]:
        """Raises Transient if those before take longer than TURN_S."""
        lock, wanted = self._locks.get(name, (asyncio.Lock(), 0))
        self._locks[name] = lock, wanted + 1
        try:
            try:
                async with asyncio.timeout(TURN_S):
                    await lock.acquire()
            except TimeoutError:
                raise Transient(
                    "earlier registrations of this device are still under way", hint="try again"
                ) from None
            try:
                yield
            finally:
                lock.release()
        finally:
            wanted = self._locks[name][1] - 1
            if wanted:
                self._locks[name] = lock, wanted
            else:
                del self._locks[name]
