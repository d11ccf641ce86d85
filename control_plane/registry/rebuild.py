"""All the broker's records anew, by its file and one announced restart.

For a broker that lost records whose secrets nobody knows, and for many keys at once: keys with `why = 'import'` that
are not held yet enter with it and are held afterwards (the import then makes their devices visible).

Promises: the restart is in the audit log and announced before it happens; a crash at any step is mended by doing it
again; meanwhile no command of this process is lost, since none is in flight; what changed while the broker was down
is brought in line before `run` returns. One rebuild at a time over all processes.
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime
from importlib.resources import files
from pathlib import Path

import msgspec

from control_plane.db import queries
from control_plane.db.connect import Pool, acquire, connect, database_errors, transaction
from control_plane.registry import broker_file, dynsec, events, journal
from control_plane.registry.broker import Broker
from control_plane.registry.broker_policy import BrokerPolicy, restart_wanted
from control_plane.registry.broker_restart import BY_HAND, NOT_CONFIGURED, BrokerRestart
from control_plane.registry.store import Store
from shared.authority import Actor, Role
from shared.errors import HubError, Permanent, Transient
from shared.ids import DeviceId

_SQL = queries.parse((files(__package__) / "rebuild.sql").read_text(encoding="utf-8"))
BY_POLICY = Actor("policy:broker", Role.ADMIN)
_LOCK = 0x4855_4203
_LOCK_S = 120.0
"""The longest wait for another rebuild; one at 100,000 records takes seconds."""
_BACK_S = 30.0
_ROUNDS = 3


@dataclass(frozen=True, slots=True)
class Rebuilt:
    """`records` the broker holds now; `arrived` keys of imports that became valid by it; `restarts` it took."""

    records: int
    arrived: int
    restarts: int


class Rebuild:
    """`follow` brings one device's records in line (`Projector.device`). `restart` is None where the hub was not told
    how to restart its broker.
    """

    def __init__(
        self,
        database: Pool,
        database_url: str,
        store: Store,
        broker: Broker,
        restart: BrokerRestart | None,
        service_secrets_file: Path,
        follow: Callable[[DeviceId], Awaitable[bool]],
    ) -> None:
        self._database = database
        self._database_url = database_url
        self._store = store
        self._broker = broker
        self._restart = restart
        self._service_secrets_file = service_secrets_file
        self._follow = follow

    @property
    def possible(self) -> bool:
        """Whether the hub was told how to restart its broker."""
        return self._restart is not None

    async def run(self, reason: str, actor: Actor, *, announce_s: float | None = None) -> Rebuilt:
        """Announce, wait `announce_s` (None: the policy's), write the file, restart, look, hold what arrived.

        Raises Permanent where the hub cannot restart its broker, Transient where it did not come back: the next run
        mends both.
        """
        return await self._locked(reason, actor, announce_s, only_arriving=False)

    async def imported(self, actor: Actor, *, announce_s: float | None = None) -> Rebuilt:
        """The same for an import. If another rebuild has just brought its keys in, nothing is restarted."""
        return await self._locked("import of keys", actor, announce_s, only_arriving=True)

    async def by_policy(self, desired: int, missing: int) -> Rebuilt | None:
        """What the policy says of a broker that lost `missing` of `desired` keys; None if it is to be left alone."""
        if self._restart is None:
            return None
        async with acquire(self._database) as db:
            since_last_s = await db.fetchval(_SQL["last"], BY_POLICY.id)
        policy = await self.policy()
        if not restart_wanted(policy, desired=desired, missing=missing, since_last_s=since_last_s):
            return None
        return await self.run(f"the broker lost {missing} of {desired} keys", BY_POLICY)

    async def policy(self) -> BrokerPolicy:
        """The policy `broker`; its default if none is stored."""
        async with acquire(self._database) as db:
            stored = await db.fetchval(_SQL["policy"])
        try:
            return msgspec.json.decode(stored, type=BrokerPolicy) if stored else BrokerPolicy()
        except msgspec.MsgspecError as error:
            raise Permanent(f"the policy `broker` cannot be read: {error}", hint="set it again") from error

    async def _locked(self, reason: str, actor: Actor, announce_s: float | None, *, only_arriving: bool) -> Rebuilt:
        if self._restart is None:
            raise Permanent(NOT_CONFIGURED, hint=BY_HAND)
        async with self._one_at_a_time():
            async with acquire(self._database) as db:
                arriving = await db.fetchval(_SQL["arriving"])
            if only_arriving and not arriving:
                return Rebuilt(0, 0, 0)
            wait_s = (await self.policy()).announce_s if announce_s is None else announce_s
            async with transaction(self._database) as db:
                await journal.audit(db, actor, "broker.rebuild", "broker", {"reason": reason, "arriving": arriving})
            events.BrokerRestartAnnounced(reason, arriving, wait_s).emit()
            started = time.monotonic()
            try:
                await asyncio.sleep(wait_s)
                rebuilt = await self._rounds(self._restart)
            except HubError as error:
                events.BrokerRebuildFailed(reason, str(error)).emit()
                raise
            finally:
                self._restart.forget_next()
            took_s = time.monotonic() - started
        events.BrokerRebuilt(reason, rebuilt.records, rebuilt.arrived, rebuilt.restarts, round(took_s, 3)).emit()
        return rebuilt

    async def _rounds(self, restart: BrokerRestart) -> Rebuilt:
        """Again if another process gave out a key while the file was on its way: it would be gone."""
        arrived = 0
        for number in range(1, _ROUNDS + 1):
            records, names, read_at, more = await self._once(restart)
            arrived += more
            await self._catch_up(read_at)
            async with acquire(self._database) as db:
                held = {row["key_id"] for row in await db.fetch(_SQL["held_since"], read_at)}
            if held <= names:
                return Rebuilt(records, arrived, number)
        raise Transient("keys were given out at each restart of the broker", hint="try again in a quieter moment")

    async def _once(self, restart: BrokerRestart) -> tuple[int, set[str], datetime, int]:
        services = broker_file.service_clients(self._service_secrets_file)
        async with self._broker.alone():
            connections = self._broker.connections
            read_at, found = await self._store.projection.file()
            clients = [*services, *(record.client for record in found)]
            await asyncio.to_thread(restart.write_next, clients)
            await restart.run()
            try:
                async with asyncio.timeout(_BACK_S):
                    await self._broker.connected_again(connections)
            except TimeoutError:
                raise Transient(f"the broker is not back {_BACK_S:.0f} s after its restart") from None
        there = dynsec.decode_page(await self._broker.command(dynsec.list_clients(1, 0), urgent=True)).total
        if not restart.taken() or there < len(clients):
            raise Permanent(
                f"the broker came back with {there} records, without the file of {len(clients)}",
                hint="its start must put <HUB_BROKER_FILE>.next in place first (docs/broker.md)",
            )
        arriving = [record.client.username for record in found if record.arriving]
        async with transaction(self._database) as db:
            done = await db.execute(_SQL["hold"], arriving)
        return len(clients), {client.username for client in clients}, read_at, int(done.rpartition(" ")[2])

    async def _catch_up(self, read_at: datetime) -> None:
        """What was revoked or ended after the file was read is not let in by it."""
        async with acquire(self._database) as db:
            changed = [DeviceId(row["id"]) for row in await db.fetch(_SQL["changed_since"], read_at)]
        for device_id in changed:
            await self._follow(device_id)

    @contextlib.asynccontextmanager
    async def _one_at_a_time(self) -> AsyncIterator[None]:
        """Over all processes: a lock that ends with its connection, whatever happens to this process."""
        connection = await connect(self._database_url, application="hub broker rebuild")
        try:
            deadline = time.monotonic() + _LOCK_S
            while True:
                with database_errors():
                    if await connection.fetchval("SELECT pg_try_advisory_lock($1)", _LOCK):
                        break
                if time.monotonic() > deadline:
                    raise Transient("another rebuild of the broker is under way", hint="try again")
                await asyncio.sleep(0.2)
            yield
        finally:
            connection.terminate()
