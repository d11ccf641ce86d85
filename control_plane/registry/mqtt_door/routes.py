"""`/internal/mqtt/auth` and `/internal/mqtt/acl`: a broker asks the registry whom to let in and what they may do.

For brokers with HTTP authentication (EMQX and its kind), where one Mosquitto is outgrown. Closed unless the service
secrets hold one for `_broker`, which the broker sends as `Authorization: Bearer SECRET`. Every question of such a
broker gets 200 with `allow` or `deny`: such brokers take other answers for "ask the next one".
"""

import hmac
from datetime import UTC, datetime
from typing import Annotated

import msgspec
from fastapi import APIRouter, Header, Request, Response

from control_plane.registry import events, projection
from control_plane.registry.credentials import presented
from control_plane.registry.guard import UNAUTHENTICATED, Guard
from control_plane.registry.mqtt_door.secrets import DoorSecrets
from control_plane.registry.problem import ProblemRaised
from control_plane.registry.rooms import Rooms
from shared.broker_access import SERVICE_MARK, may
from shared.ids import KeyId

_ALLOW, _DENY = b'{"result":"allow","is_superuser":false}', b'{"result":"deny"}'


class _Auth(msgspec.Struct, frozen=True):
    username: str
    password: str
    clientid: str


class _Acl(msgspec.Struct, frozen=True):
    username: str
    clientid: str
    topic: str
    action: str


_AUTH = msgspec.json.Decoder(_Auth)
_ACL = msgspec.json.Decoder(_Acl)


def router(rooms: Rooms, guard: Guard) -> APIRouter:
    """The two routes; no token opens them."""
    del guard
    routes = APIRouter(include_in_schema=False)

    @routes.post("/internal/mqtt/auth")
    async def auth(
        request: Request, authorization: Annotated[str | None, Header(include_in_schema=False)] = None
    ) -> Response:
        _refuse_strangers(rooms.door_secrets, authorization)
        try:
            asked = _AUTH.decode(await request.body())
        except (msgspec.MsgspecError, UnicodeDecodeError):
            return _answer("auth", allowed=False)
        return _answer("auth", allowed=await _known(rooms, asked))

    @routes.post("/internal/mqtt/acl")
    async def acl(
        request: Request, authorization: Annotated[str | None, Header(include_in_schema=False)] = None
    ) -> Response:
        _refuse_strangers(rooms.door_secrets, authorization)
        try:
            asked = _ACL.decode(await request.body())
        except (msgspec.MsgspecError, UnicodeDecodeError):
            return _answer("acl", allowed=False)
        return _answer("acl", allowed=may(asked.username, asked.clientid, asked.action, asked.topic))

    return routes


def _refuse_strangers(secrets: DoorSecrets, authorization: str | None) -> None:
    scheme, _, shown = (authorization or "").partition(" ")
    good = hmac.compare_digest(shown.strip().encode(), (secrets.broker or "").encode())
    if secrets.broker is None or scheme.lower() != "bearer" or not good:
        raise ProblemRaised(UNAUTHENTICATED)


async def _known(rooms: Rooms, asked: _Auth) -> bool:
    """The same work for a key that does not exist, one that ended, and a wrong secret."""
    if asked.username.startswith(SERVICE_MARK):
        secret = rooms.door_secrets.services.get(asked.username)
        good = hmac.compare_digest(asked.password.encode(), (secret or "").encode())
        return good and secret is not None and asked.clientid.startswith(SERVICE_MARK)
    key_id = KeyId(asked.username)
    stored = None if "\0" in key_id else await rooms.credentials.presented(key_id)
    good = presented.matches(asked.password, stored.hash if stored else None)
    if stored is None or not good or asked.clientid != stored.device_id or not projection.enabled(stored.status):
        return False
    if not stored.fresh:
        await rooms.rings.use({key_id: datetime.now(UTC)})
    return True


def _answer(door: str, *, allowed: bool) -> Response:
    events.BrokerAsked(door, "allow" if allowed else "deny").emit()
    return Response(
        _ALLOW if allowed else _DENY, media_type="application/json", headers={"Cache-Control": "no-store"}
    )
