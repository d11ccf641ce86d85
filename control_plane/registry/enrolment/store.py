"""Enrolment's rows: the only module that runs its statements (`queries.sql`, called by name).

Promises: each method is one transaction; nothing of an enrolment is visible, and no use is spent, before `finish`,
which does all of it at once: the key, the use, who owns the devices, the audit log and the words for Kafka.
"""

import json
from dataclasses import dataclass
from datetime import datetime, timedelta
from importlib.resources import files
from typing import Any

from control_plane.db import queries
from control_plane.db.connect import Connection, Pool, acquire, transaction
from control_plane.registry import journal, moves
from control_plane.registry.enrolment.rules import (
    DRAIN,
    OVERLAP,
    REFUSED,
    Create,
    Decision,
    Enrolment,
    Gateway,
    Known,
    Refused,
    Renew,
    StoredToken,
    decide,
)
from control_plane.registry.life import Illegal, Move
from control_plane.registry.lifecycle_event import Change
from control_plane.registry.registration import Holder
from control_plane.registry.store import NewKey
from shared.authority import Actor
from shared.device import Kind, Status
from shared.ids import DeviceId, KeyId

_SQL = queries.parse((files(__package__) / "queries.sql").read_text(encoding="utf-8"))
_DRAINED_AT_ONCE = 50


@dataclass(frozen=True, slots=True)
class Reserved:
    """What `reserve` wrote. `ended`: keys of unfinished registrations whose place was taken."""

    decision: Decision
    token: StoredToken | None
    ended: tuple[KeyId, ...] = ()


@dataclass(frozen=True, slots=True)
class Finished:
    """What `finish` did. `ended`: keys that the broker must forget; `taken_over`: how many devices changed owner."""

    ended: tuple[KeyId, ...]
    taken_over: int = 0


@dataclass(frozen=True, slots=True)
class TokenRow:
    """A token as it is shown."""

    token: StoredToken
    created_by: str
    created_at: datetime
    revoked_at: datetime | None


class EnrolmentStore:
    """All of enrolment's statements on one pool."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    # Tokens.

    async def make_token(
        self,
        token_id: str,
        token_hash: bytes,
        *,
        type_name: str,
        labels: dict[str, str],
        uses: int,
        lasts: timedelta,
        replaces: DeviceId | None,
        actor: Actor,
    ) -> tuple[TokenRow, bool]:
        """The token, and whether its secret is `token_hash`'s: not so if one of this id was used before.

        One of this id that was never used gets the new secret: the answer that showed the first was lost.
        """
        async with transaction(self._pool) as db:
            await db.execute(_SQL["take_turn"], [json.dumps(["enrolment-token", token_id])])
            found = await db.fetchrow(_SQL["token"], token_id)
            asked = (type_name, json.dumps(labels), uses, replaces)
            if found is None:
                row = await db.fetchrow(_SQL["insert_token"], token_id, token_hash, *asked, actor.id, lasts)
                detail = {"uses": uses, "lasts_s": lasts.total_seconds(), "type": type_name, "replaces": replaces}
                await journal.audit(db, actor, "enrolment-token.create", token_id, detail)
            else:
                row = await db.fetchrow(_SQL["renew_token"], token_id, token_hash, lasts, *asked)
                if row is None:
                    return _token_row(found), False
                await journal.audit(db, actor, "enrolment-token.reissue", token_id)
        assert row is not None
        return _token_row(row), True

    async def token(self, token_id: str) -> TokenRow | None:
        """One token."""
        async with acquire(self._pool) as db:
            row = await db.fetchrow(_SQL["token"], token_id)
        return _token_row(row) if row else None

    async def tokens(self, *, after: str, limit: int) -> list[TokenRow]:
        """Tokens in order of id, from the first one after `after`."""
        async with acquire(self._pool) as db:
            return [_token_row(row) for row in await db.fetch(_SQL["tokens"], after, limit)]

    async def revoke_token(self, token_id: str, actor: Actor) -> bool:
        """No further enrolment by it; False if there is none. Doing it again changes nothing."""
        async with transaction(self._pool) as db:
            if await db.fetchval(_SQL["revoke_token"], token_id) is None:
                return False
            await journal.audit(db, actor, "enrolment-token.revoke", token_id)
            return True

    async def gateway(self, gateway_id: str) -> Gateway | None:
        """One registered device as the rules see it."""
        async with acquire(self._pool) as db:
            return _gateway(await db.fetchrow(_SQL["gateway"], gateway_id))

    # Enrolments.

    async def reserve(self, request: Enrolment, key: NewKey, *, fresh_id: DeviceId) -> Reserved:
        """Decide, and write what was decided: an unfinished gateway with its key, or a further key."""
        async with transaction(self._pool) as db:
            row = await db.fetchrow(_SQL["token"], request.token_id)
            token = _token(row) if row else None
            await db.execute(_SQL["take_turn"], _contended(request, token))
            known = await _known(db, request, token)
            decision = decide(request, known, fresh_id, await db.fetchval(_SQL["now"]))
            ended: list[KeyId] = []
            if isinstance(decision, Create):
                assert token is not None
                for device_id in decision.ends:
                    ended += [KeyId(row["key_id"]) for row in await db.fetch(_SQL["drop_unfinished"], device_id)]
                labels = json.dumps(dict(token.labels))
                await db.execute(_SQL["insert_type"], token.type)
                values = (request.serial, token.type, labels, request.hardware_id)
                await db.execute(_SQL["insert_gateway"], decision.device_id, *values)
            if not isinstance(decision, Refused):
                await db.execute(_SQL["insert_credential"], key.key_id, decision.device_id, key.hash)
            return Reserved(decision, token, tuple(ended))

    async def finish(
        self, key_id: KeyId, request: Enrolment, decision: Create | Renew, token: StoredToken, actor: Actor
    ) -> Finished | Refused | None:
        """The broker holds the key: all of the enrolment becomes true, or nothing.

        None if it lost its place to a later request; Refused if the token was used up or revoked meanwhile.
        """
        gateway_id, takes_over = decision.device_id, decision.takes_over
        try:
            async with transaction(self._pool) as db:
                await db.execute(_SQL["lock_token"], token.id)
                await db.execute(_SQL["lock_devices"], gateway_id, takes_over)
                if await db.fetchval(_SQL["hold_credential"], key_id) is None:
                    return None
                costs = isinstance(decision, Create) or decision.costs
                if costs:
                    _must(await db.fetchval(_SQL["spend"], token.id))
                await _settle(db, key_id, request, decision, token, actor)
                rows = await db.fetch(_SQL["end_unseen"], gateway_id, key_id)
                await db.execute(_SQL["end_later"], gateway_id, key_id, OVERLAP)
                taken = await _take_over(db, actor, takes_over, gateway_id) if takes_over is not None else 0
                return Finished(tuple(KeyId(row["key_id"]) for row in rows), taken)
        except _Undone:
            return REFUSED

    async def abandon(self, key_id: KeyId, device_id: DeviceId | None) -> None:
        """Undo `reserve`: the broker did not take the key. `device_id`: the gateway that was made with it."""
        async with transaction(self._pool) as db:
            if device_id is not None:
                await db.execute(_SQL["lock_devices"], device_id, None)
            gone = await db.fetchval(_SQL["drop_credential"], key_id)
            if gone is not None and device_id is not None:
                await db.execute(_SQL["drop_unfinished"], device_id)

    async def owned(self, gateway_id: DeviceId) -> list[str]:
        """The devices that are behind the gateway now."""
        async with acquire(self._pool) as db:
            return [row["device_id"] for row in await db.fetch(_SQL["owned_ids"], gateway_id)]

    async def end_drains(self, actor: Actor) -> list[DeviceId]:
        """Retire the replaced gateways whose time to drain is over; which."""
        async with acquire(self._pool) as db:
            ids = [DeviceId(row["id"]) for row in await db.fetch(_SQL["drained"], _DRAINED_AT_ONCE)]
        done = []
        for gateway_id in ids:
            async with transaction(self._pool) as db:
                moved = await moves.move(db, actor, gateway_id, Move.RETIRE, {"why": "its time to drain is over"})
            if not isinstance(moved, Illegal | None):
                done.append(gateway_id)
        return done


class _Undone(Exception):  # noqa: N818 - rolls the transaction back, and goes no further
    pass


def _must(found: Any) -> Any:
    """What a statement returned; without a row the whole enrolment is undone."""
    if found is None:
        raise _Undone
    return found


def _contended(request: Enrolment, token: StoredToken | None) -> list[str]:
    """Names of all that another enrolment or registration may want too (as `registry.store` writes them)."""
    names = [["hardware", request.hardware_id]]
    if token is not None:
        names.append(["serial", token.type, request.serial])
    if request.name is not None:
        names.append(["id", request.name])
    return [json.dumps(name) for name in names]


async def _known(db: Connection, request: Enrolment, token: StoredToken | None) -> Known:
    if token is None:
        return Known(None)
    hardware = request.hardware_id
    latest = await db.fetchrow(_SQL["latest_of_hardware"], hardware)
    by_id = await db.fetchrow(_SQL["holder_of_id"], request.name) if request.name else None
    by_serial = await db.fetchrow(_SQL["holder_of_serial"], token.type, request.serial)
    replaces = await db.fetchrow(_SQL["gateway"], token.replaces) if token.replaces else None
    unfinished = await db.fetch(_SQL["unfinished"], hardware, token.type, request.serial, request.name)
    return Known(
        token,
        earlier_key=await db.fetchval(_SQL["earlier_key"], token.id, hardware),
        hardware=_gateway(await db.fetchrow(_SQL["hardware"], hardware)),
        stolen=DeviceId(latest["id"]) if latest is not None and latest["revoked"] else None,
        same_id=_holder(by_id),
        same_serial=_holder(by_serial),
        replaces=_gateway(replaces),
        unfinished=tuple(DeviceId(row["id"]) for row in unfinished),
    )


async def _settle(
    db: Connection, key_id: KeyId, request: Enrolment, decision: Create | Renew, token: StoredToken, actor: Actor
) -> None:
    """The gateway's row, what is remembered of the enrolment, and what is told."""
    gateway_id = decision.device_id
    detail: dict[str, object] = {"token": token.id, "key_id": key_id, "agent_version": request.version}
    if isinstance(decision, Create):
        version = await db.fetchval(_SQL["finish_gateway"], gateway_id)
        assert version is not None, "its credential was held a moment ago"
        await journal.tell(db, gateway_id, version, Change.ENROLLED)
        detail["how"] = "new"
    else:
        hardware = request.hardware_id if decision.adopts else None
        # Suspended, retired or replaced in between: no key for it.
        _must(await db.fetchval(_SQL["renew_gateway"], gateway_id, json.dumps(dict(token.labels)), hardware))
        await journal.changed(db, gateway_id, Change.ENROLLED)
        detail["how"] = "again" if decision.costs else "repeat"
    await db.execute(_SQL["remember"], token.id, request.hardware_id, request.public_key, gateway_id)
    await journal.audit(db, actor, "gateway.enrol", gateway_id, detail, after={"serial": request.serial})


async def _take_over(db: Connection, actor: Actor, old: DeviceId, new: DeviceId) -> int:
    """The devices of `old` are behind `new` from now on; `old` may drain unless it is retired. How many."""
    device_ids = [row["device_id"] for row in await db.fetch(_SQL["devices_of"], old)]
    for device_id in device_ids:
        await db.execute(_SQL["end_ownership"], device_id)
        await db.execute(_SQL["insert_ownership"], device_id, new)
        await journal.changed(db, device_id, Change.ASSIGNED)
        await journal.audit(db, actor, "device.assign", device_id, {"gateway_id": new, "taken_over_from": old})
    row = _must(await db.fetchrow(_SQL["mark_replaced"], old, new, DRAIN))  # or somebody else replaced it in between
    await journal.changed(db, old, Change.REPLACED)
    detail = {"replaced_by": new, "devices": len(device_ids), "drains_until": row["drains_until"]}
    await journal.audit(db, actor, "gateway.replace", old, detail)
    return len(device_ids)


def _token(row: Any) -> StoredToken:
    return StoredToken(
        id=row["id"],
        hash=row["token_hash"],
        type=row["type"],
        uses=row["uses"],
        used=row["used"],
        expires_at=row["expires_at"],
        revoked=row["revoked_at"] is not None,
        replaces=DeviceId(row["replaces"]) if row["replaces"] else None,
        labels=json.loads(row["labels"]),
    )


def _token_row(row: Any) -> TokenRow:
    return TokenRow(_token(row), row["created_by"], row["created_at"], row["revoked_at"])


def _holder(row: Any) -> Holder | None:
    return Holder(DeviceId(row["id"]), row["registered"]) if row else None


def _gateway(row: Any) -> Gateway | None:
    if row is None:
        return None
    return Gateway(
        id=DeviceId(row["id"]),
        kind=Kind(row["kind"]),
        status=Status(row["status"]),
        type=row["type"],
        serial=row["serial"],
        hardware_id=row["hardware_id"],
        replaced=row["replaced"],
        revoked=row["revoked"],
    )
