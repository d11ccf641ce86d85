"""Enrolment at REST: tokens for operators, one door for gateways that have no identity yet.

Leaves what an enrolment means to `enroller`. The door's refusals of a token are all alike.
"""

import hashlib
from datetime import timedelta
from typing import Annotated, Any, NoReturn

from fastapi import APIRouter, Header, Query, Request, Response

from control_plane.registry.access.attempts import Failure
from control_plane.registry.enrolment import csr, documents, events
from control_plane.registry.enrolment.enroller import Enrolled
from control_plane.registry.enrolment.rules import REFUSED, Enrolment, Refusal, Refused, token_problems
from control_plane.registry.enrolment.store import TokenRow
from control_plane.registry.guard import Guard
from control_plane.registry.paging import LONGEST_PAGE, PAGE, after, next_cursor
from control_plane.registry.problem import FieldError, Problem, ProblemRaised
from control_plane.registry.rooms import Rooms
from shared import enrolment_token, ids
from shared.authority import Actor, Operation, Role
from shared.config import Secret
from shared.enrolment_token import EnrolmentToken
from shared.ids import DeviceId

_STATUS = {
    Refusal.TOKEN: 401,
    Refusal.ID_TAKEN: 409,
    Refusal.SERIAL_TAKEN: 409,
    Refusal.STOLEN: 403,
    Refusal.CLOSED: 409,
    Refusal.REPLACED: 409,
}
_ALPHABET = "abcdefghijkmnpqrstuvwxyz23456789"
DOOR = "enrolment"
_NO_TOKEN = Problem(401, REFUSED.detail, REFUSED.why.value)
_CERTIFICATES_UNSUPPORTED = Problem(422, "this hub issues no client certificates", "no-certificates")


def router(rooms: Rooms, guard: Guard) -> APIRouter:
    """The routes."""
    routes = APIRouter()
    _tokens(routes, rooms, guard)
    _door(routes, rooms)
    return routes


def _tokens(routes: APIRouter, rooms: Rooms, guard: Guard) -> None:
    reader = guard.needs(Operation.ENROLMENT_READ)
    writer = guard.needs(Operation.ENROLMENT_WRITE)

    @routes.post("/v1/enrolment-tokens", status_code=201, tags=["enrolment"], summary="Make an enrolment token")
    async def make(
        body: documents.NewToken,
        response: Response,
        actor: Annotated[Actor, writer],
        idempotency_key: Annotated[str | None, Header(min_length=1, max_length=128)] = None,
    ) -> documents.MadeToken:
        """The token is shown this once. With an Idempotency-Key the same request may be sent again: until the token
        was used it gets a new secret, which ends the unseen one.
        """
        ca = rooms.enrolment.addresses.authority()
        lasts = timedelta(seconds=body.expires_s)
        found = await rooms.enrolment.store.gateway(body.replaces) if body.replaces else None
        problems = token_problems(uses=body.uses, lasts=lasts, replaces=found, wants=body.replaces)
        if problems:
            raise ProblemRaised(
                Problem(422, "; ".join(problems), "invalid", [FieldError("", one) for one in problems])
            )
        name = _named(actor.id, idempotency_key) if idempotency_key else ids.new_enrolment_id()
        token = EnrolmentToken(name, Secret(ids.new_secret()), ca.sha256)
        row, fresh = await rooms.enrolment.store.make_token(
            name,
            token.hash,
            type_name=body.type,
            labels=body.labels,
            uses=body.uses,
            lasts=lasts,
            replaces=DeviceId(body.replaces) if body.replaces else None,
            actor=actor,
        )
        if _asked(row) != (body.type, body.labels, body.uses, body.replaces):
            raise ProblemRaised(
                Problem(422, "this Idempotency-Key was sent before with another request", "idempotency-key-reused")
            )
        response.headers["Cache-Control"] = "no-store"
        if not fresh:
            response.status_code = 200
        return documents.MadeToken(**_fields(row), token=token.text if fresh else None)

    @routes.get("/v1/enrolment-tokens", tags=["enrolment"], summary="List enrolment tokens", dependencies=[reader])
    async def list_tokens(
        cursor: Annotated[str | None, Query(max_length=128)] = None,
        limit: Annotated[int, Query(ge=1, le=LONGEST_PAGE)] = PAGE,
    ) -> documents.TokenList:
        """In order of id, used up and expired ones too; without secrets."""
        found = await rooms.enrolment.store.tokens(after=after(cursor), limit=limit + 1)
        page = [documents.TokenView(**_fields(row)) for row in found[:limit]]
        more = len(found) > limit
        return documents.TokenList(tokens=page, next_cursor=next_cursor(page[-1].id if more else "", more))

    @routes.delete(
        "/v1/enrolment-tokens/{token_id}", status_code=204, tags=["enrolment"], summary="Revoke an enrolment token"
    )
    async def revoke(token_id: str, actor: Annotated[Actor, writer]) -> Response:
        """Nobody enrols with it from now on; who did stays enrolled."""
        if len(token_id) > 64 or not await rooms.enrolment.store.revoke_token(token_id, actor):
            raise ProblemRaised(Problem(404, "there is no such enrolment token", "not-found"))
        return Response(status_code=204)


def _door(routes: APIRouter, rooms: Rooms) -> None:
    @routes.get("/v1/ca", tags=["enrolment"], summary="The hub's CA certificate", response_class=Response)
    async def authority() -> Response:
        """PEM, for everybody: believe it only if its SHA-256 is the one in your enrolment token."""
        return Response(rooms.enrolment.addresses.authority().pem, media_type="application/x-pem-file")

    @routes.post("/v1/enroll", tags=["enrolment"], summary="Enrol a gateway")
    async def enroll(
        body: documents.EnrolmentRequest, request: Request, response: Response
    ) -> documents.EnrolledGateway:
        """Needs no other token than the enrolment token. Answers when the broker holds the key. The same request
        with the same key pair may be sent again: it costs no further use and answers with a fresh key.
        """
        token = enrolment_token.parse(body.token)
        source = request.client.host if request.client else None

        async def look() -> Enrolled | Refused | Failure:
            if token is None:
                events.EnrolmentRefused(Refusal.TOKEN.value, "").emit()
                return Failure.MALFORMED
            wanted = _wanted(body, token)
            rooms.enrolment.addresses.authority()  # before anything is spent
            found = await rooms.enrolment.enroller.enrol(wanted, source)
            return Failure.WRONG if isinstance(found, Refused) and found.why is Refusal.TOKEN else found

        if body.certificate and rooms.enrolment.issue is None:
            raise ProblemRaised(_CERTIFICATES_UNSUPPORTED)
        found: Enrolled | Refused = await rooms.logins.attempt(
            DOOR, source, token.id if token else None, look, _NO_TOKEN
        )
        if isinstance(found, Refused):
            _refuse(found)
        assert token is not None
        certificate = await _certificate(rooms, found, body, token.id)
        response.headers["Cache-Control"] = "no-store"
        addresses = rooms.enrolment.addresses
        return documents.EnrolledGateway(
            gateway_id=found.gateway_id,
            api_key=found.api_key,
            mqtt_url=addresses.mqtt_url,
            mqtt_mtls_url=addresses.mqtt_mtls_url,
            api_url=addresses.api_url,
            ca_pem=addresses.authority().pem,
            pseudonyms={name: rooms.pseudonym(name) for name in (found.gateway_id, *found.devices)},
            certificate_pem=certificate,
        )


async def _certificate(rooms: Rooms, found: Enrolled, body: documents.EnrolmentRequest, token_id: str) -> str | None:
    if not body.certificate or rooms.enrolment.issue is None:
        return None
    return await rooms.enrolment.issue(found.gateway_id, body.csr, Actor(token_id, Role.OPERATOR))


def _wanted(body: documents.EnrolmentRequest, token: EnrolmentToken) -> Enrolment:
    public_key = csr.public_key_sha256(body.csr)
    if public_key is None:
        detail = "is not a signing request (PEM) with a key of curve P-256, signed by that key"
        raise ProblemRaised(Problem(422, f"/csr: {detail}", "invalid", [FieldError("/csr", detail)]))
    return Enrolment(
        token_id=token.id,
        token_hash=token.hash,
        serial=body.hardware.serial,
        hardware_id=body.hardware.hardware_id,
        public_key=public_key,
        name=DeviceId(body.name) if body.name else None,
        version=body.agent_version,
    )


def _refuse(refused: Refused) -> NoReturn:
    raise ProblemRaised(Problem(_STATUS[refused.why], refused.detail, refused.why.value))


def _named(actor: str, key: str) -> str:
    """A token's id from the Idempotency-Key: the repeat finds the first."""
    digest = hashlib.sha256(f"{actor}\0{key}".encode()).digest()
    return "e-" + "".join(_ALPHABET[byte % len(_ALPHABET)] for byte in digest[:12])


def _asked(row: TokenRow) -> tuple[str, dict[str, str], int, str | None]:
    token = row.token
    return token.type, dict(token.labels), token.uses, token.replaces


def _fields(row: TokenRow) -> dict[str, Any]:
    token = row.token
    return {
        "id": token.id,
        "type": token.type,
        "labels": dict(token.labels),
        "uses": token.uses,
        "used": token.used,
        "replaces": token.replaces,
        "created_by": row.created_by,
        "created_at": row.created_at,
        "expires_at": token.expires_at,
        "revoked_at": row.revoked_at,
    }
