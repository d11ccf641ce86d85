"""What is read about keys; their changes are written by `rings`. Raises Transient or Permanent."""

from dataclasses import dataclass
from datetime import datetime
from importlib.resources import files
from typing import TYPE_CHECKING

from control_plane.db import queries
from control_plane.db.connect import Pool, acquire
from control_plane.registry.credentials.policy import CredentialsPolicy
from shared.device import Kind, Status
from shared.ids import DeviceId, KeyId

if TYPE_CHECKING:
    import asyncpg

_SQL = queries.parse((files(__package__) / "queries.sql").read_text(encoding="utf-8"))


@dataclass(frozen=True, slots=True)
class StoredKey:
    """A key that is valid now. `fresh`: its use was noted within the last minute. `replaced`: of a gateway whose
    place another took.
    """

    device_id: DeviceId
    hash: str
    kind: Kind
    status: Status
    fresh: bool
    replaced: bool = False


@dataclass(frozen=True, slots=True)
class KeyRow:
    """One living key, without its secret. `replaces`: the key that ends once this one was used."""

    key_id: KeyId
    why: str
    created_at: datetime
    last_used_at: datetime | None
    not_before: datetime | None
    not_after: datetime | None
    replaces: KeyId | None


@dataclass(frozen=True, slots=True)
class OverdueKey:
    """A key that is older than the policy says: its device did not replace it, or cannot."""

    key_id: KeyId
    device_id: DeviceId
    kind: str
    created_at: datetime
    last_used_at: datetime | None


@dataclass(frozen=True, slots=True)
class Own:
    """What a device may see of itself."""

    id: DeviceId
    kind: Kind
    status: Status
    gateway_id: DeviceId | None
    keys: tuple[KeyRow, ...]
    devices: tuple[DeviceId, ...]


class Credentials:
    """All statements about keys on one pool."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def presented(self, key_id: KeyId) -> StoredKey | None:
        """The key, if it is valid now; whether its device may connect is the caller's to judge."""
        async with acquire(self._pool) as db:
            row = await db.fetchrow(_SQL["presented"], key_id)
        if row is None:
            return None
        device_id, kind, status = DeviceId(row["device_id"]), Kind(row["kind"]), Status(row["status"])
        return StoredKey(device_id, row["api_key_hash"], kind, status, row["fresh"], row["replaced"])

    async def own(self, device_id: DeviceId, *, most_devices: int) -> Own | None:
        """The device, its living keys and the first of the devices behind it; None if it is gone."""
        async with acquire(self._pool) as db:
            row = await db.fetchrow(_SQL["self"], device_id)
            keys = await db.fetch(_SQL["keys"], device_id)
            devices = await db.fetch(_SQL["own_devices"], device_id, most_devices)
        if row is None:
            return None
        return Own(
            device_id,
            Kind(row["kind"]),
            Status(row["status"]),
            row["gateway_id"],
            tuple(_key(key) for key in keys),
            tuple(DeviceId(device["device_id"]) for device in devices),
        )

    async def keys(self, device_id: DeviceId) -> tuple[KeyRow, ...] | None:
        """A device's living keys, oldest first; None: there is no such device."""
        async with acquire(self._pool) as db:
            row = await db.fetchrow(_SQL["self"], device_id)
            keys = await db.fetch(_SQL["keys"], device_id)
        return tuple(_key(key) for key in keys) if row else None

    async def overdue(self, policy: CredentialsPolicy, limit: int) -> list[OverdueKey]:
        """Keys older than the policy says, without an end, oldest first."""
        if policy.max_age_days == 0:
            return []
        async with acquire(self._pool) as db:
            rows = await db.fetch(_SQL["overdue"], policy.max_age_days * 86_400, list(policy.statuses), limit)
        return [OverdueKey(**row) for row in rows]

    async def overdue_count(self, policy: CredentialsPolicy) -> int:
        """How many those are in all."""
        if policy.max_age_days == 0:
            return 0
        async with acquire(self._pool) as db:
            return int(await db.fetchval(_SQL["overdue_count"], policy.max_age_days * 86_400, list(policy.statuses)))


def _key(row: "asyncpg.Record") -> KeyRow:
    return KeyRow(**row)
