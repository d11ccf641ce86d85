"""What each change leaves behind, in the change's own transaction: a line in the audit log, and words for Kafka.

The caller holds the device's row, so one device's records are numbered in the order of their versions.
"""

import hashlib
import json
from collections.abc import Mapping
from importlib.resources import files
from typing import Any

from control_plane.db import queries
from control_plane.db.connect import Connection
from control_plane.registry import lifecycle_event
from control_plane.registry.lifecycle_event import Change
from shared.authority import Actor
from shared.device import decode_view, encode_view
from shared.topics import Kafka

_SQL = queries.parse((files(__package__) / "journal.sql").read_text(encoding="utf-8"))


async def changed(db: Connection, device_id: str, change: Change) -> int:
    """The device's row was changed: give it the next version and tell Kafka. The version."""
    version = await db.fetchval(_SQL["bump"], device_id)
    assert isinstance(version, int), "the caller holds the row"
    await tell(db, device_id, version, change)
    return version


async def tell(db: Connection, device_id: str, version: int, change: Change) -> None:
    """Into the outbox: the device's whole view for the compacted topic, and what happened for the lifecycle topic."""
    view = decode_view((await db.fetchval(_SQL["view"], device_id)).encode())
    registry_id = f"{device_id}:{version}"
    await _outbox(db, Kafka.REGISTRY, device_id, encode_view(view), registry_id, lifecycle_event.VIEW_TYPE)
    event = lifecycle_event.encode(view, change)
    await _outbox(db, Kafka.LIFECYCLE, device_id, event, f"{registry_id}:{change}", lifecycle_event.TYPE)


async def audit(
    db: Connection,
    actor: Actor,
    action: str,
    target: str,
    detail: Mapping[str, object] | None = None,
    *,
    before: Mapping[str, Any] | None = None,
    after: Mapping[str, Any] | None = None,
) -> None:
    """Who did what to whom. `detail` is kept for ever, so it names ids, counts and reasons only; personal values
    (serial, labels, location) go into `before` and `after`, which `hub device forget` erases: their SHA-256 stays.
    No secret, no key, no hash of one goes into either.
    """
    values = None
    if before is not None or after is not None:
        values = json.dumps({"before": before, "after": after}, sort_keys=True, default=str)
    audit_id = await db.fetchval(
        _SQL["insert_audit"],
        actor.id,
        actor.source,
        action,
        target,
        json.dumps(dict(detail or {}), default=str),
        hashlib.sha256(values.encode()).digest() if values is not None else None,
    )
    if values is not None:
        await db.execute(_SQL["insert_audit_detail"], audit_id, values)


async def _outbox(db: Connection, topic: Kafka, key: str, value: bytes, ce_id: str, ce_type: str) -> None:
    await db.execute(_SQL["insert_outbox"], topic.value, key, value, ce_id, ce_type)
