"""The child makes a request that the hub takes, and its key goes nowhere."""

import base64
import datetime as dt
from pathlib import Path

import msgspec
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from control_plane.registry.pki.ca import Authority, key_hash, read_csr
from edge_agent import certificate_child
from edge_agent.certificate_child import Asked, Told, look
from shared.errors import Permanent, Rejected

NOW = dt.datetime.now(dt.UTC).replace(microsecond=0)


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Path, Path]:
    key = ec.generate_private_key(ec.SECP256R1())
    issued = Authority.create(NOW).issue_client("gw-1", key.public_key(), NOW, dt.timedelta(days=7))
    certificate, key_file = tmp_path / "identity.pem", tmp_path / "identity.key"
    certificate.write_text(issued.pem)
    key_file.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return certificate, key_file


async def test_it_tells_the_times_and_asks_for_the_same_key(pair: tuple[Path, Path]) -> None:
    told = await look(*pair)
    assert told.not_after == (NOW + dt.timedelta(days=7)).timestamp()
    certificate = x509.load_pem_x509_certificate(told.certificate.encode())
    key = certificate.public_key()
    assert isinstance(key, ec.EllipticCurvePublicKey)
    asked = read_csr(told.csr)
    assert not isinstance(asked, Rejected)
    assert key_hash(asked) == key_hash(key)
    key.verify(base64.b64decode(told.signature), told.csr.encode(), ec.ECDSA(hashes.SHA256()))


def test_the_key_leaves_it_nowhere(pair: tuple[Path, Path]) -> None:
    said = certificate_child.main(msgspec.json.encode(Asked(str(pair[0]), str(pair[1]))))
    assert msgspec.json.decode(said, type=Told).csr
    assert pair[1].read_text().splitlines()[1].encode() not in said
    assert b"PRIVATE" not in said


async def test_files_that_are_not_good_are_said(pair: tuple[Path, Path], tmp_path: Path) -> None:
    with pytest.raises(Permanent, match="cannot be read"):
        await look(tmp_path / "none", pair[1])
    pair[1].write_text("x")
    with pytest.raises(Permanent, match="not PEM"):
        await look(*pair)
