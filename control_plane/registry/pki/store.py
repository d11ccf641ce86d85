"""The certificates' rows: the only module that runs their statements (`queries.sql`, called by name)."""

from dataclasses import dataclass
from importlib.resources import files

from control_plane.db import queries
from control_plane.db.connect import Connection, Pool, acquire, transaction
from control_plane.registry import journal, projection
from control_plane.registry.pki.ca import Certificate, Revoked
from shared.authority import Actor
from shared.device import Kind, Status
from shared.errors import Permanent
from shared.ids import DeviceId

_SQL = queries.parse((files(__package__) / "queries.sql").read_text(encoding="utf-8"))


class NoCertificate(Permanent):
    """This device may have none now; the words say why."""


@dataclass(frozen=True, slots=True)
class Bearer:
    """Whose certificate it is. `public_key`: SHA-256 of its DER form."""

    gateway_id: DeviceId
    public_key: bytes
    status: Status


class CertificateStore:
    """Rows of certificates. Every method raises Transient while Postgres is away."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def add(self, gateway_id: DeviceId, certificate: Certificate, actor: Actor) -> None:
        """Keep what was issued, before anybody is given it. Raises NoCertificate for who may have none."""
        async with transaction(self._pool) as db:
            row = await db.fetchrow(_SQL["gateway"], gateway_id)
            if row is None or Kind(row["kind"]) is not Kind.GATEWAY:
                raise NoCertificate("only gateways have certificates")
            if row["revoked"] or row["drained"] or not projection.enabled(Status(row["status"])):
                raise NoCertificate("this gateway may not connect now")
            await db.execute(
                _SQL["insert"],
                certificate.serial,
                gateway_id,
                certificate.public_key,
                certificate.not_before,
                certificate.not_after,
            )
            detail = {"serial": certificate.serial, "not_after": certificate.not_after.isoformat()}
            await journal.audit(db, actor, "certificate.issue", gateway_id, detail)

    async def revoke(self, gateway_id: DeviceId, why: str, actor: Actor) -> int:
        """End all certificates of a gateway for good; how many were good until now."""
        async with transaction(self._pool) as db:
            return await self.revoke_in(db, gateway_id, why, actor)

    async def revoke_in(self, db: Connection, gateway_id: DeviceId, why: str, actor: Actor) -> int:
        """The same in the caller's transaction."""
        serials = [row["serial"] for row in await db.fetch(_SQL["revoke"], gateway_id, why)]
        if serials:
            await journal.audit(db, actor, "certificate.revoke", gateway_id, {"serials": serials, "why": why})
        return len(serials)

    async def listed(self) -> list[Revoked]:
        """What the list of revocations must hold now, in order of serial."""
        async with acquire(self._pool) as db:
            return [Revoked(row["serial"], row["at"]) for row in await db.fetch(_SQL["listed"])]

    async def bearer(self, serial: str) -> Bearer | None:
        """The gateway whose good certificate this is."""
        async with acquire(self._pool) as db:
            row = await db.fetchrow(_SQL["bearer"], serial)
        return None if row is None else Bearer(DeviceId(row["gateway_id"]), row["public_key"], Status(row["status"]))
