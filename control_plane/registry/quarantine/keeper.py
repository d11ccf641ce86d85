"""Quarantine: who is cut off, why, on what evidence, until when.

Promises: a quarantine and its end are rows, audit lines and events before anything is done about them; then the
device's session at the broker is closed, ahead of all else that waits there. A crash in between is mended by the
reconciler. Of a device behind a gateway the normaliser diverts the records by its status, and the gateway is nudged
to ask which devices it may no longer take from (`nudger`). Ends that are due are made by one process (`leader`),
which waits for the next one and for word of a new one.
"""

import asyncio
import json
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from importlib.resources import files

from control_plane.db import queries
from control_plane.db.connect import Pool, acquire, connect, database_errors, transaction
from control_plane.registry import moves
from control_plane.registry.life import Illegal, Move
from control_plane.registry.projector import Projector
from control_plane.registry.quarantine import events
from shared.authority import Actor, Role
from shared.device import Status
from shared.errors import HubError
from shared.ids import DeviceId

CHANNEL = "registry_quarantine"
EXPIRY = Actor("policy:expiry", Role.ADMIN)
"""Who releases when the time is over."""
BY_POLICY = "policy:"
_LONGEST_WAIT_S = 60.0
"""A wake-up that was lost delays an end by so much at most."""
_RETRY_S = 2.0

SQL = queries.parse((files(__package__) / "queries.sql").read_text(encoding="utf-8"))


@dataclass(frozen=True, slots=True)
class Entered:
    """A quarantine as it was written. `until` None: until somebody releases it."""

    id: int
    at: datetime
    until: datetime | None


class Quarantine:
    """`pseudonym`: of a device id, for events."""

    def __init__(
        self,
        database: Pool,
        database_url: str,
        projector: Projector,
        pseudonym: Callable[[str], str],
    ) -> None:
        self._database = database
        self._database_url = database_url
        self._projector = projector
        self.pseudonym = pseudonym

    async def enter(
        self,
        device_id: DeviceId,
        by: Actor,
        reason: str,
        evidence: Mapping[str, object] | None = None,
        for_s: float | None = None,
    ) -> Entered | Illegal | None:
        """Cut the device off, for `for_s` seconds or until released. Why not, or None if there is no such device.

        `reason` and `evidence` are kept for ever: no payload and no personal data. Raises Transient.
        """
        found = dict(evidence or {})
        async with transaction(self._database) as db:
            done = await moves.move(db, by, device_id, Move.QUARANTINE, {"reason": reason, "evidence": found})
            if not isinstance(done, Status):
                return done
            await db.execute(SQL["supersede"], device_id)
            row = await db.fetchrow(SQL["insert"], device_id, by.id, reason, json.dumps(found, default=str), for_s)
            await db.execute(SQL["wake"])
        assert row is not None
        closed = await self._projector.device(device_id)
        events.DeviceQuarantined(self.pseudonym(device_id), _by(by), closed).emit()
        return Entered(row["id"], row["at"], row["until"])

    async def release(self, device_id: DeviceId, by: Actor, reason: str | None = None) -> Status | Illegal | None:
        """Let the device speak again: its status now, why not, or None for an unknown one. Raises Transient."""
        async with transaction(self._database) as db:
            done = await moves.move(db, by, device_id, Move.RELEASE, {"reason": reason} if reason else None)
            if not isinstance(done, Status):
                return done
            await db.execute(SQL["close"], device_id, by.id)
            await db.execute(SQL["wake"])
        await self._projector.device(device_id)
        events.DeviceReleased(self.pseudonym(device_id), "expiry" if by is EXPIRY else "operator").emit()
        return done

    async def serve(self) -> None:
        """Release whose time is over, until cancelled."""
        while True:
            try:
                await self._watch()
            except HubError as error:
                events.QuarantineWatchFailed(str(error)).emit()
            await asyncio.sleep(_RETRY_S)

    async def _watch(self) -> None:
        """With one listening connection; ends only by an exception or with that connection."""
        connection = await connect(self._database_url, application="hub registry quarantine")
        try:
            woken = asyncio.Event()
            connection.add_termination_listener(lambda *_: woken.set())
            with database_errors():
                await connection.add_listener(CHANNEL, lambda *_: woken.set())
            while not connection.is_closed():
                woken.clear()
                wait_s = await self.run()
                with suppress(TimeoutError):
                    async with asyncio.timeout(wait_s):
                        await woken.wait()
        finally:
            connection.terminate()

    async def run(self) -> float:
        """Release all that are due now; the seconds until the next one is, or until one should look again."""
        while True:
            async with acquire(self._database) as db:
                due = [DeviceId(row["device_id"]) for row in await db.fetch(SQL["due"])]
            for device_id in due:
                if not isinstance(await self.release(device_id, EXPIRY, "its time is over"), Status):
                    async with transaction(self._database) as db:  # it was retired or resumed in the meantime
                        await db.execute(SQL["supersede"], device_id)
            if not due:
                break
        async with acquire(self._database) as db:
            next_s = await db.fetchval(SQL["next_due_s"])
            events.QUARANTINED.set(await db.fetchval(SQL["quarantined"]))
        return _LONGEST_WAIT_S if next_s is None else max(0.0, min(next_s, _LONGEST_WAIT_S))


def _by(actor: Actor) -> str:
    return actor.id.removeprefix(BY_POLICY) if actor.id.startswith(BY_POLICY) else "operator"
