"""The registry's rows: the only module that runs its statements (`queries.sql`, called by name).

Promises: each method is one transaction; what is told to Kafka is written with the change that it tells. Decisions
are `registration`'s. Raises Transient or Permanent (`control_plane.db.connect`).
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from importlib.resources import files
from typing import Any

import asyncpg

from control_plane.db import queries
from control_plane.db.connect import Connection, Pool, acquire, transaction
from control_plane.registry import journal, limits_record, tokens
from control_plane.registry.access.attempts import Failure
from control_plane.registry.device import Device, DeviceType, KeyUse
from control_plane.registry.lifecycle_event import Change
from control_plane.registry.projection_store import ProjectionStore
from control_plane.registry.registration import (
    Claim,
    Create,
    Decision,
    Holder,
    Known,
    Refused,
    Renew,
    Repeat,
    Request,
    decide,
    gateway_refusal,
)
from shared.authority import Actor, Role
from shared.device import Kind, Status
from shared.errors import Transient
from shared.ids import DeviceId, KeyId

_SQL = queries.parse((files(__package__) / "queries.sql").read_text(encoding="utf-8"))
_TRIES = 3
"""A registration that loses a race for an id is decided again, by what the winner wrote."""


@dataclass(frozen=True, slots=True)
class NewKey:
    """A key that is about to exist: its public half and its hash in the broker's format."""

    key_id: KeyId
    hash: str


@dataclass(frozen=True, slots=True)
class Reserved:
    """What `reserve` wrote. `ended`: keys of unfinished registrations whose place was taken."""

    decision: Decision
    ended: tuple[KeyId, ...] = ()


class Store:
    """All statements of the registry on one pool."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self.projection = ProjectionStore(pool)
        """What the broker should hold."""

    async def token(self, token_id: str) -> tokens.Stored | None:
        """The token's record, also of one that ended."""
        async with acquire(self._pool) as db:
            row = await db.fetchrow(_SQL["token"], token_id)
        if row is None:
            return None
        ended = Failure(row["ended"]) if row["ended"] else None
        role = Role[row["role"].upper()]
        return tokens.Stored(token_id, role, row["token_hash"], frozenset(row["scopes"]), ended)

    async def reserve(
        self, request: Request, key: NewKey, *, fresh_id: DeviceId, actor: str, idempotency_key: str | None
    ) -> Reserved:
        """Decide, and write what was decided: an unfinished device with its key, or a further key. Nothing of it
        is visible until `finish`.
        """
        for _ in range(_TRIES):
            try:
                async with transaction(self._pool) as db:
                    return await _reserve(db, request, key, fresh_id, actor, idempotency_key)
            except asyncpg.UniqueViolationError:
                continue
        raise Transient("others register the same device at this moment", hint="try again")

    async def finish(self, key_id: KeyId, actor: Actor) -> tuple[KeyId, ...] | None:
        """The broker holds the key: make it valid, make its device visible, and tell Kafka of it.

        The keys that ended with it; None if the registration lost its place to a later one.
        """
        async with transaction(self._pool) as db:
            await db.execute(_SQL["lock_device_of_key"], key_id)
            device_id = await db.fetchval(_SQL["hold_credential"], key_id)
            if device_id is None:
                return None
            version = await db.fetchval(_SQL["finish_device"], device_id)
            if version is not None:
                await journal.tell(db, device_id, version, Change.REGISTERED)
                await journal.audit(db, actor, "device.register", device_id)
                return ()
            rows = await db.fetch(_SQL["end_unseen"], device_id, key_id)
            await journal.audit(db, actor, "device.key.reissue", device_id)
            return tuple(KeyId(row["key_id"]) for row in rows)

    async def abandon(self, key_id: KeyId, device_id: DeviceId | None) -> None:
        """Undo `reserve`: the broker did not take the key. `device_id`: the device that was made with it."""
        async with transaction(self._pool) as db:
            await db.execute(_SQL["lock_device_of_key"], key_id)
            gone = await db.fetchval(_SQL["drop_credential"] + " RETURNING key_id", key_id)
            if gone is not None and device_id is not None:
                await db.execute(_SQL["drop_unfinished"], device_id)

    async def device(self, device_id: DeviceId) -> Device | None:
        """One registered device with its keys."""
        async with acquire(self._pool) as db:
            row = await db.fetchrow(_SQL["device"], device_id)
            keys = await db.fetch(_SQL["keys"], device_id) if row else []
        uses = tuple(KeyUse(key["key_id"], key["created_at"], key["last_used_at"]) for key in keys)
        return device_of(row, uses) if row else None

    async def assign(self, device_id: DeviceId, gateway_id: DeviceId | None, actor: Actor) -> Refused | bool:
        """Put the device behind `gateway_id` from now on (None: directly attached); False if there is no such device.

        Doing it again changes nothing.
        """
        async with transaction(self._pool) as db:
            row = await db.fetchrow(_SQL["registered_kind_for_change"], device_id)
            if row is None:
                return False
            gateway_kind = await _registered_kind(db, gateway_id)
            refused = gateway_refusal(Kind(row["kind"]), gateway_id, gateway_kind)
            if refused is not None:
                return refused
            if await db.fetchval(_SQL["owner"], device_id) == gateway_id:
                return True
            await db.execute(_SQL["end_ownership"], device_id)
            if gateway_id is not None:
                await db.execute(_SQL["insert_ownership"], device_id, gateway_id)
            await journal.changed(db, device_id, Change.ASSIGNED)
            await journal.audit(db, actor, "device.assign", device_id, {"gateway_id": gateway_id})
            return True

    async def type(self, name: str) -> DeviceType | None:
        """One type."""
        async with acquire(self._pool) as db:
            row = await db.fetchrow(_SQL["type"], name)
        return _type(row) if row else None

    async def types(self, *, after: str, limit: int) -> list[DeviceType]:
        """Types in order of name, from the first one after `after`."""
        async with acquire(self._pool) as db:
            return [_type(row) for row in await db.fetch(_SQL["types"], after, limit)]

    async def put_type(
        self, name: str, metrics: Mapping[str, Any], limits: Mapping[str, float] | None, actor: Actor
    ) -> DeviceType:
        """Make the type, or replace all that was said of it."""
        async with transaction(self._pool) as db:
            said = json.dumps(limits) if limits else None
            row = await db.fetchrow(_SQL["put_type"], name, json.dumps(metrics), said)
            await limits_record.tell(db)
            await journal.audit(db, actor, "type.put", name, {"metrics": metrics, "limits": limits})
        assert row is not None
        return _type(row)

    async def sweep(self, *, unfinished: timedelta, claims: timedelta) -> None:
        """Delete registrations that nobody will finish, and Idempotency-Keys that are too old to be meant."""
        async with transaction(self._pool) as db:
            await db.execute(_SQL["sweep_devices"], unfinished)
            await db.execute(_SQL["sweep_credentials"], unfinished)
            await db.execute(_SQL["sweep_claims"], claims)

    async def call_reconciler(self) -> None:
        """Have whoever leads compare the broker's records."""
        async with acquire(self._pool) as db:
            await db.execute(_SQL["call_reconciler"])

    async def ingest_subscribed(self) -> bool:
        """Whether ingest has had its subscriptions at the broker: its session then waits there for it."""
        async with acquire(self._pool) as db:
            return bool(await db.fetchval(_SQL["ingest_subscribed"]))

    async def outbox_depth(self) -> tuple[int, float]:
        """How many records wait for Kafka, and the oldest one's age in seconds."""
        async with acquire(self._pool) as db:
            row = await db.fetchrow(_SQL["outbox_depth"])
        assert row is not None
        return row["waiting"], row["oldest_s"]

    async def outbox_head(self, limit: int) -> Sequence[asyncpg.Record]:
        """The oldest waiting records, in order."""
        async with acquire(self._pool) as db:
            return await db.fetch(_SQL["outbox_head"], limit)

    async def outbox_done(self, numbers: Sequence[int]) -> None:
        """Kafka has these."""
        async with acquire(self._pool) as db:
            await db.execute(_SQL["outbox_done"], numbers)


async def _reserve(
    db: Connection, request: Request, key: NewKey, fresh_id: DeviceId, actor: str, idempotency_key: str | None
) -> Reserved:
    await db.execute(_SQL["take_turn"], _contended(request, actor, idempotency_key))
    await db.execute(_SQL["lock_devices"], request.id, request.type, request.serial, actor, idempotency_key)
    known = await _known(db, request, actor, idempotency_key)
    decision = decide(request, known, fresh_id)
    if isinstance(decision, Refused | Repeat):
        return Reserved(decision)
    if isinstance(decision, Renew):
        await db.execute(_SQL["insert_credential"], key.key_id, decision.device_id, key.hash)
        return Reserved(decision)
    ended: list[KeyId] = []
    for device_id in decision.replaces:
        ended += [KeyId(row["key_id"]) for row in await db.fetch(_SQL["drop_unfinished"], device_id)]
    await _insert(db, request, key, decision, actor, idempotency_key)
    return Reserved(decision, tuple(ended))


def _contended(request: Request, actor: str, idempotency_key: str | None) -> list[str]:
    """Names of all that another registration may want too. Only who holds them reads and writes: rows cannot be
    waited for before they exist.
    """
    names = [["serial", request.type, request.serial]]
    if request.id is not None:
        names.append(["id", request.id])
    if idempotency_key is not None:
        names.append(["key", actor, idempotency_key])
    return [json.dumps(name) for name in names]


async def _known(db: Connection, request: Request, actor: str, idempotency_key: str | None) -> Known:
    claim = None
    if idempotency_key is not None:
        row = await db.fetchrow(_SQL["claim"], actor, idempotency_key)
        if row is not None:
            claim = Claim(row["request_sha256"], DeviceId(row["device_id"]), row["registered"], row["key_used"])
    by_id = await db.fetchrow(_SQL["holder_of_id"], request.id) if request.id else None
    by_serial = await db.fetchrow(_SQL["holder_of_serial"], request.type, request.serial)
    return Known(claim, _holder(by_id), _holder(by_serial), await _registered_kind(db, request.gateway_id))


async def _insert(
    db: Connection, request: Request, key: NewKey, decision: Create, actor: str, idempotency_key: str | None
) -> None:
    device_id = decision.device_id
    labels = json.dumps(dict(request.labels))
    await db.execute(_SQL["insert_type"], request.type)
    location = json.dumps(dict(request.location)) if request.location else None
    await db.execute(
        _SQL["insert_device"], device_id, request.serial, request.type, request.kind.value, labels, location
    )
    await db.execute(_SQL["insert_credential"], key.key_id, device_id, key.hash)
    if request.gateway_id is not None:
        await db.execute(_SQL["insert_ownership"], device_id, request.gateway_id)
    if idempotency_key is not None:
        await db.execute(_SQL["insert_claim"], actor, idempotency_key, request.fingerprint(), device_id)


async def _registered_kind(db: Connection, device_id: DeviceId | None) -> Kind | None:
    kind = await db.fetchval(_SQL["registered_kind"], device_id) if device_id else None
    return Kind(kind) if kind else None


def _holder(row: asyncpg.Record | None) -> Holder | None:
    return Holder(DeviceId(row["id"]), row["registered"]) if row else None


def device_of(row: asyncpg.Record, keys: tuple[KeyUse, ...] = ()) -> Device:
    """A row of devices with its `gateway_id`."""
    return Device(
        id=row["id"],
        serial=row["serial"],
        type=row["type"],
        kind=Kind(row["kind"]),
        status=Status(row["status"]),
        gateway_id=row["gateway_id"],
        labels=json.loads(row["labels"]),
        version=row["version"],
        created_at=row["created_at"],
        updated_at=row["updated_at"],
        keys=keys,
        location=json.loads(row["location"]) if row["location"] else None,
        limits=json.loads(row["limits"]) if row["limits"] else None,
    )


def _type(row: asyncpg.Record) -> DeviceType:
    limits = json.loads(row["limits"]) if row["limits"] else None
    return DeviceType(row["name"], json.loads(row["metrics"]), limits, row["version"], row["updated_at"])
