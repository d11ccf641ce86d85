"""A new key for a device that has one: save, let the broker take it, make it valid, answer.

Promises: a key is shown only after the broker holds it and Postgres says so; a crash or a lost server at any step
leaves the keys that were there working, and a reserved key that is swept. Keys that end are deleted at the broker
ahead of everything else; where that cannot be done now the reconciler does it, and the answer says so (`closed`).
"""

import secrets as random_bytes
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from control_plane.registry import dynsec
from control_plane.registry.broker import Broker, BrokerRefused
from control_plane.registry.credentials import events
from control_plane.registry.credentials.rings import Ask, Done, Repeated, Rings
from control_plane.registry.credentials.rotation import KeyRefusal, KeyRefused
from control_plane.registry.life import Illegal
from control_plane.registry.pki.certificates import Certificates
from control_plane.registry.projector import Projector
from control_plane.registry.store import Store
from shared import ids
from shared.authority import Actor
from shared.config import Secret
from shared.errors import HubError, Transient
from shared.ids import DeviceId, KeyId


@dataclass(frozen=True, slots=True)
class Issued:
    """A new key. `api_key`: `<key id>.<secret>`, shown this once, or None if it was shown and used before. `closed`:
    the broker has deleted all that ended; False: it is being tried. `ending`: the others' ends.
    """

    key_id: KeyId
    api_key: Secret | None
    closed: bool = True
    ending: Mapping[KeyId, datetime] | None = None


class Rotator:
    """Makes, ends and revokes keys. `reconcile` has broker and Postgres compared soon, by this process."""

    def __init__(
        self,
        rings: Rings,
        store: Store,
        broker: Broker,
        projector: Projector,
        pseudonym: Callable[[str], str],
        reconcile: Callable[[], None],
        certificates: Certificates | None = None,
    ) -> None:
        self._certificates = certificates
        self._rings = rings
        self._store = store
        self._broker = broker
        self._projector = projector
        self._pseudonym = pseudonym
        self._wake = reconcile

    async def rotate(self, ask: Ask, actor: Actor) -> Issued | KeyRefused | None:
        """The new key, or why not; None: there is no such device. Raises Transient if Postgres or the broker is away:
        the old keys are untouched then, and the same request may be sent again.
        """
        key_id, secret = ids.new_key_id(), ids.new_secret()
        key_hash = dynsec.hash_secret(secret, random_bytes.token_bytes(dynsec.SALT_BYTES))
        reserved = await self._rings.reserve(ask, key_id, key_hash)
        if isinstance(reserved, Repeated):
            return Issued(reserved.key_id, None)
        if reserved is None or isinstance(reserved, KeyRefused):
            return reserved
        name = self._pseudonym(ask.device_id)
        try:
            await self._broker.command(dynsec.create_client(key_id, secret, ask.device_id))
        except HubError as error:
            events.RotationFailed(name, ask.why, str(error)).emit()
            await self._forget(ask.device_id, key_id)
            raise
        done = await self._rings.held(ask, key_id, actor, reserved.renews)
        if isinstance(done, KeyRefused):
            await self._forget(ask.device_id, key_id)
            if done.why is KeyRefusal.KEY_OVERTAKEN:
                raise Transient(done.detail)
            return done
        # Nobody knows its secret yet, so what may not connect is disabled in time.
        disabled = done.connects or await self._projector.device(ask.device_id)
        closed = await self.delete(done.ended) and disabled
        events.KeyRotated(name, ask.why, len(done.ended)).emit()
        return Issued(key_id, Secret(f"{key_id}.{secret}"), closed, done.ending)

    async def cut(self, device_id: DeviceId, key_id: KeyId, actor: Actor, *, force: bool) -> bool | KeyRefused | None:
        """End one key now; whether the broker has closed it."""
        done = await self._rings.cut(device_id, key_id, actor, force=force)
        if not isinstance(done, Done):
            return done
        events.KeysEnded(1, "cut").emit()
        return await self.delete(done.ended)

    async def revoke(self, device_id: DeviceId, reason: str, actor: Actor) -> bool | Illegal | None:
        """The device was stolen: it is retired for good and its keys end now; whether the broker has closed them."""
        found = await self._rings.revoke(device_id, reason, actor)
        if found is None or isinstance(found, Illegal):
            return found
        closed = await self._end_certificates(device_id, reason, actor)  # before its session is closed, or it is back
        closed = await self._projector.device(device_id) and closed
        if not closed:
            await self._call_reconciler()
        events.DeviceRevoked(self._pseudonym(device_id), closed).emit()
        return closed

    async def _end_certificates(self, device_id: DeviceId, reason: str, actor: Actor) -> bool:
        if self._certificates is None:
            return True
        try:
            await self._certificates.revoke(device_id, reason, actor)
        except Transient:
            return False  # the list is written by who follows it, now and then
        return True

    async def delete(self, keys: Sequence[KeyId]) -> bool:
        """Have the broker delete these, which closes their sessions; False: it is away, the reconciler does it."""
        try:
            for key_id in keys:
                try:
                    await self._broker.command(dynsec.delete_client(key_id), urgent=True)
                except BrokerRefused as error:
                    if error.words != dynsec.NOT_FOUND:
                        raise
        except HubError:
            await self._call_reconciler()
            return False
        return True

    async def _forget(self, device_id: DeviceId, key_id: KeyId) -> None:
        # The broker may have taken it all the same: the reconciler removes a key that Postgres does not know.
        await self._rings.drop(device_id, key_id)
        await self._call_reconciler()

    async def _call_reconciler(self) -> None:
        self._wake()
        try:
            await self._store.call_reconciler()
        except HubError as error:
            events.ReconcilerUncalled(str(error)).emit()
