"""Changes of a device's keys, written in one transaction with the audit log and the words for Kafka.

What changes is `rotation`'s to decide. The device's row is held first and its keys after it, as everywhere; what the
broker must be told is returned, for after the commit, and the reconciler mends a crash in between. Raises Transient
or Permanent.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from importlib.resources import files

import msgspec

from control_plane.db import queries
from control_plane.db.connect import Connection, Pool, acquire, transaction
from control_plane.registry import journal, moves
from control_plane.registry.credentials import rotation
from control_plane.registry.credentials.policy import CredentialsPolicy
from control_plane.registry.credentials.rotation import (
    Cut,
    Due,
    Event,
    Held,
    Key,
    KeyRefusal,
    KeyRefused,
    Reserve,
    Ring,
    Used,
    Why,
)
from control_plane.registry.life import Illegal, Move
from control_plane.registry.lifecycle_event import Change
from shared.authority import Actor, Role
from shared.device import Status
from shared.errors import Permanent
from shared.ids import DeviceId, KeyId

_SQL = queries.parse((files(__package__) / "queries.sql").read_text(encoding="utf-8"))
FIRST_USE = Actor("policy:first-use", Role.VIEWER)
NOT_AFTER = Actor("policy:not-after", Role.VIEWER)
_AT_ONCE = 50
"""Devices in one transaction, where many follow from one batch of uses."""


@dataclass(frozen=True, slots=True)
class Ask:
    """A rotation, as it was asked for: the same Idempotency-Key must mean the same."""

    device_id: DeviceId
    why: Why
    claimant: str
    idempotency_key: str | None = None
    replaces: KeyId | None = None
    overlap: timedelta | None = None
    not_before: datetime | None = None
    not_after: datetime | None = None

    def fingerprint(self) -> bytes:
        """SHA-256 of what is asked; not of the key that asks, which a repeat may do with another."""
        overlap = None if self.overlap is None else self.overlap.total_seconds()
        fields = ["rotate", self.device_id, self.why, overlap, str(self.not_before), str(self.not_after)]
        return hashlib.sha256(json.dumps(fields).encode()).digest()


@dataclass(frozen=True, slots=True)
class Reserved:
    """A key is written and the broker may be told. `renews`: the one that the same request was shown before."""

    renews: KeyId | None = None


@dataclass(frozen=True, slots=True)
class Repeated:
    """The key that this request was given is in use."""

    key_id: KeyId


@dataclass(frozen=True, slots=True)
class Done:
    """The change is committed. `ended`: the broker must delete these. `connects`: the device may connect now."""

    ended: tuple[KeyId, ...] = ()
    ending: Mapping[KeyId, datetime] = field(default_factory=dict)
    connects: bool = True


class Rings:
    """All changes of keys on one pool."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def policy(self) -> CredentialsPolicy:
        """The policy as it is now."""
        async with acquire(self._pool) as db:
            return await _policy(db)

    async def reserve(self, ask: Ask, key_id: KeyId, key_hash: str) -> Reserved | Repeated | KeyRefused | None:
        """Write a key of which nobody is told yet. None: there is no such device."""
        async with transaction(self._pool) as db:
            status = await db.fetchval(_SQL["hold_device"], ask.device_id)
            if status is None:
                return None
            if status == Status.RETIRED:
                return KeyRefused(KeyRefusal.DEVICE_RETIRED, "the device is retired, which is final")
            renews = None
            if ask.idempotency_key is not None:
                claimed = await _claimed(db, ask, ask.idempotency_key)
                if isinstance(claimed, Repeated | KeyRefused):
                    return claimed
                renews = claimed.renews
            ring = await _ring(db, ask.device_id)
            event = Reserve(key_id, ask.why, ask.replaces, ask.not_before, ask.not_after)
            spared = Ring(tuple(key for key in ring.keys if key.id != renews or key.used))
            after = rotation.step(spared, event)
            if isinstance(after, KeyRefused):
                return after
            await db.execute(
                _SQL["insert_key"],
                *(key_id, ask.device_id, key_hash, ask.not_before, ask.not_after, ask.why.value, ask.replaces),
            )
            return Reserved(renews)

    async def held(self, ask: Ask, key_id: KeyId, actor: Actor, renews: KeyId | None) -> Done | KeyRefused:
        """The broker holds the key: make it valid, and end or time the others as its rotation says."""
        async with transaction(self._pool) as db:
            status = await db.fetchval(_SQL["hold_device"], ask.device_id)
            if status is None or status == Status.RETIRED:
                return KeyRefused(KeyRefusal.DEVICE_RETIRED, "the device was retired at this moment")
            overlap = ask.overlap if ask.overlap is not None else (await _policy(db)).overlap
            event = Held(key_id, datetime.now(UTC), overlap, renews)
            done = await _write(db, ask.device_id, event)
            if isinstance(done, KeyRefused):
                return done
            if ask.idempotency_key is not None:
                await db.execute(_SQL["set_claim"], ask.claimant, ask.idempotency_key, key_id)
            await journal.changed(db, ask.device_id, Change.ROTATED)
            detail = {"key": key_id, "why": ask.why, "ended": done.ended, "ending": list(done.ending)}
            await journal.audit(db, actor, "device.key.rotate", ask.device_id, detail)
            connects = status in (Status.PROVISIONED, Status.ACTIVE) and ask.not_before is None
            return Done(done.ended, done.ending, connects)

    async def drop(self, device_id: DeviceId, key_id: KeyId) -> None:
        """Undo `reserve`."""
        async with transaction(self._pool) as db:
            await db.execute(_SQL["hold_device"], device_id)
            await db.execute(_SQL["drop_reserved"], key_id)

    async def cut(self, device_id: DeviceId, key_id: KeyId, actor: Actor, *, force: bool) -> Done | KeyRefused | None:
        """End one key now. None: there is no such device."""
        async with transaction(self._pool) as db:
            if await db.fetchval(_SQL["hold_device"], device_id) is None:
                return None
            done = await _write(db, device_id, Cut(key_id, force))
            if isinstance(done, Done):
                await journal.audit(db, actor, "device.key.end", device_id, {"key": key_id, "force": force})
            return done

    async def revoke(self, device_id: DeviceId, reason: str, actor: Actor) -> Status | Illegal | None:
        """The device was stolen: retired for good, its keys ended. None: there is no such device."""
        async with transaction(self._pool) as db:
            return await moves.move(db, actor, device_id, Move.REVOKE, {"reason": reason})

    async def use(self, uses: Mapping[KeyId, datetime]) -> None:
        """Keys were used, at the broker or at REST: note when, then do what follows from a first use. What a crash
        leaves undone follows from the next use, or from `follow_all`.
        """
        async with acquire(self._pool) as db:
            await db.execute(_SQL["use_keys"], list(uses), list(uses.values()))
        while await self._follow(list(uses)):
            pass

    async def follow_all(self) -> None:
        """What follows from uses that were noted and not followed up."""
        while await self._follow(None):
            pass

    async def _follow(self, keys: Sequence[KeyId] | None) -> bool:
        async with acquire(self._pool) as db:
            rows = await db.fetch(_SQL["to_follow"], keys, _AT_ONCE)
        if not rows:
            return False
        async with transaction(self._pool) as db:
            grace = (await _policy(db)).grace
            held = await db.fetch(_SQL["hold_devices"], [row["device_id"] for row in rows])
            there = {row["id"] for row in held}
            for row in rows:
                if row["device_id"] in there:
                    await _used(db, DeviceId(row["device_id"]), row["keys"], grace)
        return len(rows) == _AT_ONCE

    async def end_due(self, most: int) -> list[KeyId]:
        """End keys whose time has come, of so many devices at most; the keys for the broker to delete."""
        async with acquire(self._pool) as db:
            due = await db.fetch(_SQL["due"], most)
        ended: list[KeyId] = []
        for row in due:
            async with transaction(self._pool) as db:
                if await db.fetchval(_SQL["hold_device"], row["device_id"]) is None:
                    continue
                # Postgres' clock decides, which wrote most ends and chose what is due.
                now = await db.fetchval("SELECT now()")
                done = await _write(db, DeviceId(row["device_id"]), Due(now))
                assert isinstance(done, Done), "time is not refused"
                if done.ended:
                    await journal.audit(db, NOT_AFTER, "device.key.end", row["device_id"], {"keys": done.ended})
                    ended += done.ended
        return ended

    async def begun(self, most: int) -> list[DeviceId]:
        """Devices with a key whose not_before has come and of which the broker was not told yet."""
        async with acquire(self._pool) as db:
            return [DeviceId(row["device_id"]) for row in await db.fetch(_SQL["begun"], most)]

    async def has_begun(self, device_id: DeviceId) -> None:
        """The broker was told."""
        async with acquire(self._pool) as db:
            await db.execute(_SQL["set_begun"], device_id)

    async def next_change_s(self) -> float | None:
        """Seconds until the next not_after or not_before; None: there is none."""
        async with acquire(self._pool) as db:
            found: float | None = await db.fetchval(_SQL["next_change_s"])
        return found


async def _claimed(db: Connection, ask: Ask, idempotency_key: str) -> Reserved | Repeated | KeyRefused:
    """What this request was answered before; makes its claim the first time."""
    asked = ask.claimant, idempotency_key
    await db.execute(_SQL["insert_claim"], *asked, ask.fingerprint(), ask.device_id)
    row = await db.fetchrow(_SQL["claim"], *asked)
    assert row is not None
    if row["request_sha256"] != ask.fingerprint():
        detail = "this Idempotency-Key was sent before with another request"
        return KeyRefused(KeyRefusal.IDEMPOTENCY_KEY_REUSED, detail)
    return Repeated(KeyId(row["key_id"])) if row["used"] else Reserved(row["key_id"])


async def _write(db: Connection, device_id: DeviceId, event: Event) -> Done | KeyRefused:
    """Decide by the device's ring, and write what changed."""
    before = await _ring(db, device_id)
    after = rotation.step(before, event)
    if isinstance(after, KeyRefused):
        return after
    for key in after.keys:
        old = before.find(key.id)
        assert old is not None, "keys are written by `reserve` alone"
        if key.held and not old.held:
            await db.execute(_SQL["set_held"], key.id, key.why in (Why.ROTATION, Why.SELF))
        if key.not_after != old.not_after:
            await db.execute(_SQL["set_end"], key.id, key.not_after)
        if key.ended is not None:
            await db.execute(_SQL["set_ended"], key.id, key.ended)
    timed = {key.id: key.not_after for key in after.keys if key.not_after is not None and key.ended is None}
    return Done(tuple(effect.id for effect in rotation.demand(after)), timed)


async def _used(db: Connection, device_id: DeviceId, keys: Iterable[str], grace: timedelta) -> None:
    now = datetime.now(UTC)
    for key_id in keys:
        await _write(db, device_id, Used(KeyId(key_id), now, grace))
    if await db.fetchval(_SQL["hold_device"], device_id) == Status.PROVISIONED:
        await moves.move(db, FIRST_USE, device_id, Move.USE)


async def _ring(db: Connection, device_id: DeviceId) -> Ring:
    rows = await db.fetch(_SQL["ring"], device_id)
    return Ring(
        tuple(
            Key(
                id=KeyId(row["key_id"]),
                why=row["why"],
                held=row["held"],
                used=row["used"],
                not_before=row["not_before"],
                not_after=row["not_after"],
                replaces=row["replaces"],
            )
            for row in rows
        )
    )


async def _policy(db: Connection) -> CredentialsPolicy:
    value = await db.fetchval(_SQL["policy"], CredentialsPolicy.NAME)
    if value is None:
        return CredentialsPolicy()
    try:
        return msgspec.json.decode(value, type=CredentialsPolicy)
    except msgspec.MsgspecError as error:
        raise Permanent(
            f"the policy {CredentialsPolicy.NAME} cannot be read: {error}", hint="put it again"
        ) from error
