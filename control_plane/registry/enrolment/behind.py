"""Devices behind a gateway: those that it reports, and what it is told of its own.

Promises: a report is one transaction for each device, and may be sent again.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

from control_plane.db import queries
from control_plane.db.connect import Connection, Pool, acquire, transaction
from control_plane.registry import journal
from control_plane.registry.enrolment.behind_rules import Found, Word, judge
from control_plane.registry.enrolment.policy import EnrolmentPolicy
from control_plane.registry.lifecycle_event import Change
from shared.authority import Actor
from shared.device import Status
from shared.ids import DeviceId

_SQL = queries.parse((files(__package__) / "behind.sql").read_text(encoding="utf-8"))


@dataclass(frozen=True, slots=True)
class Reported:
    """A device as a gateway tells of it."""

    id: DeviceId
    type: str
    serial: str


@dataclass(frozen=True, slots=True)
class Own:
    """A device that a gateway speaks for. `keys`: (key id, hash in the broker's form) of each that lives."""

    id: str
    status: str
    keys: tuple[tuple[str, str], ...]


async def report(
    pool: Pool, policy: EnrolmentPolicy, gateway_id: DeviceId, devices: Sequence[Reported], actor: Actor
) -> dict[str, Word]:
    """Register what may be registered, as pending behind the gateway; what became of each."""
    answer = {}
    for device in devices:
        async with transaction(pool) as db:
            answer[str(device.id)] = await _report(db, policy, gateway_id, device, actor)
    return answer


async def _report(
    db: Connection, policy: EnrolmentPolicy, gateway_id: DeviceId, device: Reported, actor: Actor
) -> Word:
    names = [["id", device.id], ["serial", device.type, device.serial], ["pending-behind", gateway_id]]
    await db.execute(_SQL["take_turn"], [json.dumps(name) for name in names])
    row = await db.fetchrow(_SQL["found"], device.id, gateway_id)
    if row is not None and not row["registered"]:
        return Word.LATER  # somebody registers it just now
    word = judge(
        policy,
        Found(Status(row["status"]), row["mine"]) if row is not None else None,
        serial_taken=await db.fetchval(_SQL["serial_taken"], device.type, device.serial),
        pending=await db.fetchval(_SQL["pending"], gateway_id),
    )
    if word is not None:
        return word
    await db.execute(_SQL["insert_type"], device.type)
    version = await db.fetchval(_SQL["insert_device"], device.id, device.serial, device.type)
    await db.execute(_SQL["insert_ownership"], device.id, gateway_id)
    await journal.tell(db, device.id, version, Change.REGISTERED)
    detail = {"gateway_id": gateway_id, "status": Status.PENDING.value}
    await journal.audit(db, actor, "device.report", device.id, detail, after={"serial": device.serial})
    return Word.PENDING


async def own(pool: Pool, gateway_id: DeviceId) -> list[Own]:
    """The devices that are behind the gateway now, in order of id."""
    async with acquire(pool) as db:
        rows = await db.fetch(_SQL["own"], gateway_id)
    return [Own(row["id"], row["status"], _keys(row["keys"])) for row in rows]


def _keys(text: str) -> tuple[tuple[str, str], ...]:
    found: list[dict[str, Any]] = json.loads(text)
    return tuple((key["key_id"], key["hash"]) for key in found)
