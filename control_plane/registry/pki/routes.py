"""Gateways' certificates by REST: a gateway's own door, by its key or its present certificate, and revocation."""

import base64
import binascii
from datetime import UTC, datetime
from typing import Annotated

from cryptography import x509
from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, Field

from control_plane.registry.access.attempts import Failure
from control_plane.registry.credentials.self_guard import UNKNOWN_KEY, SelfActor, SelfGuard
from control_plane.registry.guard import Guard
from control_plane.registry.pki.certificates import Certificates
from control_plane.registry.pki.store import NoCertificate
from control_plane.registry.problem import Problem, ProblemRaised
from control_plane.registry.rooms import Rooms
from shared.authority import Actor, Operation, Role
from shared.errors import Rejected
from shared.ids import DeviceId, parse_device_id

_DOOR = "certificates"
_NONE = Problem(422, "this hub issues no client certificates", "no-certificates")


class SigningRequest(BaseModel):
    """What a gateway sends, by its key."""

    csr: Annotated[str, Field(max_length=8_192)] = Field(
        description="A certificate signing request (PEM; P-256, P-384, or RSA of 2048 to 4096 bits). Only its public"
        " key is taken: the hub gives the name.",
        examples=["-----BEGIN CERTIFICATE REQUEST-----\n…\n-----END CERTIFICATE REQUEST-----\n"],
    )


class Renewal(SigningRequest):
    """What a gateway sends, by the certificate that it has."""

    certificate: Annotated[str, Field(max_length=8_192)] = Field(description="The present certificate (PEM).")
    signature: Annotated[str, Field(max_length=1_024)] = Field(
        description="Of `csr` as it stands here, by the present certificate's key: ECDSA over SHA-256, base64."
    )


class IssuedCertificate(BaseModel):
    """A short-lived certificate; `subject` is the gateway's id."""

    certificate_pem: str
    subject: str
    not_before: datetime
    not_after: datetime


class Revocation(BaseModel):
    """How many certificates were good until now, and whether the broker refuses them already."""

    revoked: int
    broker_told: bool


def router(rooms: Rooms, guard: Guard) -> APIRouter:
    """The routes."""
    routes = APIRouter(tags=["self"])
    device = SelfGuard(rooms).device(replaced=True)  # by it a gateway drains, for longer than a certificate lasts
    revoker = guard.needs(Operation.CREDENTIALS_REVOKE)

    @routes.post("/v1/self/certificates", status_code=201, summary="Get a client certificate, by the gateway's key")
    async def issue(body: SigningRequest, response: Response, who: Annotated[SelfActor, device]) -> IssuedCertificate:
        """For gateways: a certificate for the broker's door for certificates, good for some days."""
        response.headers["Cache-Control"] = "no-store"
        return await _issue(_certificates(rooms), who.device_id, body.csr, who.actor)

    @routes.post("/v1/self/certificates:renew", status_code=201, summary="Renew it, by the certificate itself")
    async def renew(body: Renewal, request: Request, response: Response) -> IssuedCertificate:
        """The signature proves that the sender holds the present certificate's key. Sent again by somebody else it
        gets a certificate for a key that they do not have.
        """
        certificates = _certificates(rooms)
        source = request.client.host if request.client else None

        async def look() -> DeviceId | Failure:
            try:
                signature = base64.b64decode(body.signature, validate=True)
            except (binascii.Error, ValueError):
                return Failure.MALFORMED
            return await certificates.bearer(body.certificate, body.csr, signature) or Failure.WRONG

        gateway_id = await rooms.logins.attempt(_DOOR, source, None, look, UNKNOWN_KEY)
        response.headers["Cache-Control"] = "no-store"
        actor = Actor(gateway_id, Role.VIEWER, frozenset(), source)
        return await _issue(certificates, gateway_id, body.csr, actor)

    @routes.post(
        "/v1/devices/{device_id}/certificates:revoke", tags=["credentials"], summary="Revoke a gateway's certificates"
    )
    async def revoke(device_id: str, actor: Annotated[Actor, revoker]) -> Revocation:
        """All that it has, for good: the broker refuses them and closes the session. Its keys stay; a new certificate
        can be had by them.
        """
        gateway_id = parse_device_id(device_id)
        if isinstance(gateway_id, Rejected) or await rooms.store.device(gateway_id) is None:
            raise ProblemRaised(Problem(404, "there is no such device", "not-found"))
        count = await _certificates(rooms).revoke(gateway_id, "revoked", actor)
        return Revocation(revoked=count, broker_told=await rooms.projector.device(gateway_id))

    return routes


def _certificates(rooms: Rooms) -> Certificates:
    if rooms.certificates is None:
        raise ProblemRaised(_NONE)
    return rooms.certificates


async def _issue(certificates: Certificates, gateway_id: DeviceId, csr: str, actor: Actor) -> IssuedCertificate:
    try:
        pem = await certificates.issue(gateway_id, csr, actor)
    except NoCertificate as error:
        raise ProblemRaised(Problem(422, str(error), "no-certificate")) from error
    found = x509.load_pem_x509_certificate(pem.encode())
    return IssuedCertificate(
        certificate_pem=pem,
        subject=gateway_id,
        not_before=found.not_valid_before_utc.astimezone(UTC),
        not_after=found.not_valid_after_utc.astimezone(UTC),
    )
