"""Gateways' certificates: issued, and cut off.

Promises: a certificate's row stands before anybody is given it. Who may not connect any more (revoked, quarantined,
suspended, retired, drained) is on the list of revocations, and the broker told, before its session is closed, so that
it cannot come back in between; who may again is off the list. The list is a projection of Postgres: made whole each
time, so a crash at any step is mended by the next time, at the latest by `serve`.
"""

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from control_plane.registry import projection
from control_plane.registry.pki import crl_file, events
from control_plane.registry.pki.ca import Authority, read_csr
from control_plane.registry.pki.crl_file import Reload
from control_plane.registry.pki.store import CertificateStore, NoCertificate
from shared.authority import Actor
from shared.errors import HubError, Rejected
from shared.ids import DeviceId

LIFE = timedelta(days=7)
_BACKDATED = timedelta(hours=1)
"""A broker refuses everybody while its clock is before the list's date (measured on 2.0.11)."""
_EVERY_S = 30.0


class Certificates:
    """Issues and revokes. `path`: the list's file; `life`: of what is issued."""

    def __init__(
        self,
        store: CertificateStore,
        authority: Authority,
        path: Path,
        reload: Reload,
        life: timedelta = LIFE,
    ) -> None:
        self._store = store
        self._authority = authority
        self._path = path
        self._reload = reload
        self._life = life
        self._told: list[str] | None = None
        self._turn = asyncio.Lock()

    async def issue(self, gateway_id: DeviceId, csr: str, actor: Actor) -> str:
        """A certificate (PEM) for the key of this request. Raises NoCertificate for a request that is none or a
        gateway that may have none, Transient while Postgres is away.
        """
        key = read_csr(csr)
        if isinstance(key, Rejected):
            raise NoCertificate(key.detail)
        certificate = self._authority.issue_client(gateway_id, key, _now(), self._life)
        await self._store.add(gateway_id, certificate, actor)
        events.CertificateIssued().emit()
        return certificate.pem

    async def bearer(self, certificate_pem: str, csr: str, signature: bytes) -> DeviceId | None:
        """The gateway that shows its good certificate and signed this request with its key (SHA-256, EC or RSA is
        not asked: what we issue to our own agent is EC); None for anybody else.
        """
        try:
            certificate = x509.load_pem_x509_certificate(certificate_pem.encode())
            key = certificate.public_key()
            if not isinstance(key, ec.EllipticCurvePublicKey) or not self._authority.signed(certificate):
                return None
            key.verify(signature, csr.encode(), ec.ECDSA(hashes.SHA256()))
        except (ValueError, TypeError, InvalidSignature):
            return None
        found = await self._store.bearer(format(certificate.serial_number, "x"))
        return found.gateway_id if found is not None and projection.enabled(found.status) else None

    async def revoke(self, gateway_id: DeviceId, why: str, actor: Actor) -> int:
        """End all of a gateway's certificates for good and have the broker refuse them; how many there were. The
        caller closes the session then (`Projector.device`). Raises Transient if the broker could not be told.
        """
        count = await self._store.revoke(gateway_id, why, actor)
        await self.follow()
        return count

    async def follow(self) -> None:
        """Bring the broker's list into line with Postgres. Raises Transient; the next call does it all."""
        async with self._turn:
            listed = await self._store.listed()
            serials = [one.serial for one in listed]
            if serials == self._told and self._path.exists():
                return
            now = _now()
            number = int(now.timestamp() * 1_000)
            text = self._authority.crl(
                listed, number, now - _BACKDATED, self._authority.certificate.not_valid_after_utc
            )
            await asyncio.to_thread(crl_file.write, self._path, text)
            await self._reload.tell()
            self._told = serials
            events.RevocationsListed(len(serials)).emit()

    async def serve(self) -> None:
        """Follow now and then, until cancelled: for what another process changed, or what ends by time alone."""
        while True:
            try:
                await self.follow()
            except HubError as error:
                events.RevocationsNotListed(str(error)).emit()
            await asyncio.sleep(_EVERY_S)


def _now() -> datetime:
    return datetime.now(UTC)
