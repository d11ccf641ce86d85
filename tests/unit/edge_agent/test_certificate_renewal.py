"""Renewal against a small hub of ours: which door is asked, and that a crash at any step leaves a pair that fits."""

import asyncio
import datetime as dt
import os
import ssl
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from control_plane.registry.pki.ca import Authority, PublicKey, read_csr
from edge_agent import certificate_renewal
from edge_agent.certificate_renewal import Identity, Renewal
from edge_agent.hub_call import Answer, Call, Hub
from shared.clock import SystemClock
from shared.config import Secret
from shared.errors import HubError, Permanent, Rejected, Transient

NOW = dt.datetime.now(dt.UTC).replace(microsecond=0)
WEEK = dt.timedelta(days=7)
BY_CERTIFICATE, BY_KEY = "/v1/self/certificates:renew", "/v1/self/certificates"


class World:
    """A gateway's files, and a hub that issues for whatever is asked unless `refusing` has the path."""

    def __init__(self, folder: Path, issued: dt.datetime) -> None:
        self.authority = Authority.create(NOW - dt.timedelta(days=100))
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.identity = Identity(folder / "identity.pem", folder / "identity.key", lambda: Secret("k:1.secret"))
        self.identity.key.write_bytes(
            self.key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
        self.identity.certificate.write_text(
            self.authority.issue_client("gw", self.key.public_key(), issued, WEEK).pem
        )
        self.asked: list[str] = []
        self.refusing: dict[str, int] = {}
        self.renewed = asyncio.Event()
        self.issue_for: PublicKey | None = None

    async def ask(self, hub: Hub, call: Call) -> Answer:
        assert hub.url == "https://hub"
        self.asked.append(call.path)
        if call.path in self.refusing:
            if not self.refusing[call.path]:
                raise Transient("the hub does not answer")
            return Answer(self.refusing[call.path])
        assert call.body is not None
        key = self.issue_for or read_csr(str(call.body["csr"]))
        assert not isinstance(key, Rejected)
        self.renewed.set()
        return Answer(201, {"certificate_pem": self.authority.issue_client("gw", key, NOW, WEEK).pem})

    def renewal(self) -> Renewal:
        return Renewal(self.identity, Hub("https://hub"), SystemClock(), ask=self.ask)

    async def renew(self) -> None:
        renewal = self.renewal()
        await renewal.renew(await renewal._look(self.identity.certificate, self.identity.key))

    def names(self) -> list[str]:
        return sorted(path.name for path in self.identity.key.parent.iterdir())

    def fits(self) -> x509.Certificate:
        """The certificate, which OpenSSL takes with the key."""
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_cert_chain(self.identity.certificate, self.identity.key)
        return x509.load_pem_x509_certificate(self.identity.certificate.read_bytes())


async def test_a_good_one_is_renewed_by_itself(tmp_path: Path) -> None:
    world = World(tmp_path, NOW - dt.timedelta(days=5))
    await world.renew()
    assert world.asked == [BY_CERTIFICATE]
    assert world.fits().not_valid_after_utc == NOW + WEEK
    assert world.identity.certificate.stat().st_mode & 0o777 == 0o600


async def test_one_that_ended_or_was_revoked_is_replaced_by_the_key(tmp_path: Path) -> None:
    world = World(tmp_path, NOW - dt.timedelta(days=50))
    await world.renew()
    assert world.asked == [BY_KEY]
    revoked = World(tmp_path, NOW - dt.timedelta(days=5))
    revoked.refusing[BY_CERTIFICATE] = 401
    await revoked.renew()
    assert revoked.asked == [BY_CERTIFICATE, BY_KEY]
    assert revoked.fits().not_valid_after_utc == NOW + WEEK


@pytest.mark.parametrize("status", [0, 401, 422, 503])
async def test_a_hub_that_refuses_changes_nothing(tmp_path: Path, status: int) -> None:
    world = World(tmp_path, NOW - dt.timedelta(days=5))
    before = world.identity.certificate.read_text()
    world.refusing = {BY_CERTIFICATE: status, BY_KEY: status}
    with pytest.raises(HubError):
        await world.renew()
    assert world.identity.certificate.read_text() == before


async def test_an_answer_for_another_key_is_not_taken(tmp_path: Path) -> None:
    world = World(tmp_path, NOW - dt.timedelta(days=5))
    before = world.identity.certificate.read_text()
    world.issue_for = ec.generate_private_key(ec.SECP256R1()).public_key()
    with pytest.raises(Permanent, match="no pair"):
        await world.renew()
    assert world.identity.certificate.read_text() == before


class _CrashError(BaseException):
    pass


@pytest.mark.parametrize("step", ["fsync", "check_pair", "rename", "fsync of the directory"])
async def test_a_crash_at_any_step_leaves_a_pair_that_fits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    world = World(tmp_path, NOW - dt.timedelta(days=5))
    syncs = 0

    def crash(*_: Any) -> None:
        raise _CrashError

    def fsync(_: int) -> None:
        nonlocal syncs
        syncs += 1
        if (step == "fsync" and syncs == 1) or (step == "fsync of the directory" and syncs == 2):
            raise _CrashError

    with monkeypatch.context() as broken:
        broken.setattr(os, "fsync", fsync)
        if step == "check_pair":
            broken.setattr(certificate_renewal, "check_pair", crash)
        if step == "rename":
            broken.setattr(Path, "rename", crash)
        with pytest.raises(_CrashError):
            await world.renew()
    world.fits()
    await world.renew()  # the next start
    assert world.fits().not_valid_after_utc == NOW + WEEK
    assert world.names() == ["identity.key", "identity.pem"]


async def test_it_renews_what_is_due_and_then_rests(tmp_path: Path) -> None:
    world = World(tmp_path, NOW - dt.timedelta(days=6))
    stopping = asyncio.Event()
    serving = asyncio.create_task(world.renewal().serve(stopping))
    async with asyncio.timeout(30):
        await world.renewed.wait()
        while world.fits().not_valid_after_utc != NOW + WEEK:
            await asyncio.sleep(0.01)
    stopping.set()
    async with asyncio.timeout(30):
        await serving
    assert world.asked == [BY_CERTIFICATE]


async def test_a_failure_is_said_and_tried_again(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    world = World(tmp_path, NOW - dt.timedelta(days=6))
    world.refusing = {BY_CERTIFICATE: 503}
    stopping = asyncio.Event()
    serving = asyncio.create_task(world.renewal().serve(stopping))
    async with asyncio.timeout(30):
        while not any(record.message == "renewal_failed" for record in caplog.records):
            await asyncio.sleep(0.01)
    stopping.set()
    await serving
    assert "secret" not in caplog.text
