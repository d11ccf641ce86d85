"""Enrolment: save, let the broker take the key, make all of it true at once, answer.

Promises: an answer with a key is given only after the broker holds it; a use of the token is spent in the same
transaction that makes the key valid, never before. A crash or a lost server at any step leaves nothing that stands
in the way of asking again with the same key pair, and a lost answer costs no further use (see `rules`).
"""

import asyncio
import random
import secrets as random_bytes
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta

from control_plane.registry import dynsec
from control_plane.registry.broker import Broker, BrokerRefused
from control_plane.registry.enrolment import events
from control_plane.registry.enrolment.addresses import Addresses
from control_plane.registry.enrolment.rules import Create, Enrolment, Refused, Renew
from control_plane.registry.enrolment.store import EnrolmentStore, Reserved
from control_plane.registry.projector import Projector
from control_plane.registry.registrar import Registrar
from control_plane.registry.store import NewKey
from shared import ids
from shared.authority import Actor, Role
from shared.config import Secret
from shared.errors import HubError, Transient
from shared.ids import DeviceId, KeyId

_TRIES = 4
_PAUSE_S = 0.2
_DRAIN_CHECK_S = 60.0
DRAINED = Actor("policy:drain", Role.ADMIN)
"""In whose name the audit log says that a drain ended."""


@dataclass(frozen=True, slots=True)
class Enrolled:
    """A gateway with its fresh key, `<key id>.<secret>`, and the devices that it speaks for."""

    gateway_id: DeviceId
    api_key: Secret
    devices: tuple[str, ...]
    taken_over: int


class Enroller:
    """Enrols gateways; `reconcile` is called when the broker may hold too much."""

    def __init__(
        self,
        store: EnrolmentStore,
        broker: Broker,
        registrar: Registrar,
        pseudonym: Callable[[str], str],
        reconcile: Callable[[], None],
    ) -> None:
        self._store = store
        self._broker = broker
        self._registrar = registrar
        self._pseudonym = pseudonym
        self._reconcile = reconcile

    async def enrol(self, request: Enrolment, source: str | None) -> Enrolled | Refused:
        """The gateway with its key, or why not. Raises Transient if Postgres or the broker is away or ingest was
        never there: nothing is enrolled then, and the same request may be sent again.
        """
        missing = await self._registrar.audience_missing()
        if missing:
            raise Transient(missing, hint="is `hub ingest` running? see `hub status`")
        actor = Actor(request.token_id, Role.OPERATOR, source=source)
        for tried in range(_TRIES):
            if tried:
                await asyncio.sleep(random.uniform(_PAUSE_S / 4, _PAUSE_S) * tried)  # noqa: S311 - no secret
            found = await self._try(request, actor)
            if found is not None:
                return found
        raise Transient("another enrolment of this hardware took its place", hint="try again")

    async def _try(self, request: Enrolment, actor: Actor) -> Enrolled | Refused | None:
        """None: another request of the same hardware took the place while the broker was told."""
        key_id, secret = ids.new_key_id(), ids.new_secret()
        key = NewKey(key_id, dynsec.hash_secret(secret, random_bytes.token_bytes(dynsec.SALT_BYTES)))
        reserved = await self._store.reserve(request, key, fresh_id=ids.new_device_id())
        decision = reserved.decision
        if isinstance(decision, Refused):
            return _refused(decision, reserved)
        assert reserved.token is not None
        if reserved.ended:
            self._reconcile()
        made = decision.device_id if isinstance(decision, Create) else None
        await self._project(key_id, secret, decision.device_id, made)
        finished = await self._store.finish(key_id, request, decision, reserved.token, actor)
        if finished is None or isinstance(finished, Refused):
            await self._store.abandon(key_id, made)
            self._reconcile()
            return _refused(finished, reserved) if finished is not None else None
        for old in finished.ended:
            await self._end(old)
        how = "new" if made else "again" if isinstance(decision, Renew) and decision.costs else "repeat"
        events.GatewayEnrolled(self._pseudonym(decision.device_id), how, finished.taken_over).emit()
        devices = tuple(await self._store.owned(decision.device_id))
        return Enrolled(decision.device_id, Secret(f"{key_id}.{secret}"), devices, finished.taken_over)

    async def _project(self, key_id: KeyId, secret: str, device_id: DeviceId, made: DeviceId | None) -> None:
        try:
            await self._broker.command(dynsec.create_client(key_id, secret, device_id))
        except HubError as error:
            events.EnrolmentFailed(str(error)).emit()
            # The command may have been done all the same: the reconciler removes a key that Postgres does not know.
            await self._store.abandon(key_id, made)
            self._reconcile()
            raise

    async def _end(self, key_id: KeyId) -> None:
        try:
            await self._broker.command(dynsec.delete_client(key_id))
        except BrokerRefused as error:
            if error.words != dynsec.NOT_FOUND:
                raise
        except Transient:
            self._reconcile()


Issue = Callable[[DeviceId, str, Actor], Awaitable[str]]
"""Makes a gateway's client certificate (PEM, with what stands above it) of its signing request."""


@dataclass(frozen=True, slots=True)
class Desk:
    """What enrolment's routes work with. `issue` is None where no certificates are issued."""

    store: EnrolmentStore
    enroller: Enroller
    addresses: Addresses
    issue: Issue | None = None


class DrainWatch:
    """Retires replaced gateways when their time to drain is over; one process at a time does this (`leader`)."""

    def __init__(
        self,
        store: EnrolmentStore,
        projector: Projector,
        pseudonym: Callable[[str], str],
        every: timedelta = timedelta(seconds=_DRAIN_CHECK_S),
    ) -> None:
        self._store = store
        self._projector = projector
        self._pseudonym = pseudonym
        self._every_s = every.total_seconds()

    async def serve(self) -> None:
        """Until cancelled."""
        while True:
            try:
                await self.run()
            except HubError as error:
                events.DrainWatchFailed(str(error)).emit()
            await asyncio.sleep(self._every_s)

    async def run(self) -> None:
        """Once. Raises Transient or Permanent."""
        for gateway_id in await self._store.end_drains(DRAINED):
            await self._projector.device(gateway_id)
            events.DrainEnded(self._pseudonym(gateway_id)).emit()


def _refused(refused: Refused, reserved: Reserved) -> Refused:
    events.EnrolmentRefused(refused.why.value, reserved.token.id if reserved.token else "").emit()
    return refused
