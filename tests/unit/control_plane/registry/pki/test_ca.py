"""What the CA signs, what it believes of a request, and that OpenSSL agrees."""

import ipaddress
import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from control_plane.registry.pki.ca import Authority, Names, Pair, Revoked, key_hash, read_csr
from shared.config import Secret
from shared.errors import Permanent, Reason, Rejected

NOW = datetime.now(UTC).replace(microsecond=0)
WEEK = timedelta(days=7)


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority.create(NOW)


def request(key: object, common_name: str = "x", *extensions: x509.ExtensionType) -> str:
    builder = x509.CertificateSigningRequestBuilder().subject_name(
        x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
    )
    for extension in extensions:
        builder = builder.add_extension(extension, critical=True)
    algorithm = None if isinstance(key, ed25519.Ed25519PrivateKey) else hashes.SHA256()
    return builder.sign(key, algorithm).public_bytes(serialization.Encoding.PEM).decode()  # type: ignore[arg-type]


def shake_hands(authority: Authority, server: Pair, name: str, folder: Path) -> None:
    """TLS between OpenSSL and itself in memory. Raises ssl.SSLError."""
    (folder / "server.pem").write_text(server.certificate + server.key)
    serving = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    serving.load_cert_chain(folder / "server.pem")
    ours = ssl.create_default_context(cadata=authority.pem)
    ours.verify_flags |= ssl.VERIFY_X509_STRICT
    up, down = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = ours.wrap_bio(down, up, server_hostname=name)
    listener = serving.wrap_bio(up, down, server_side=True)
    for side in (client, listener, client, listener):
        try:
            side.do_handshake()
        except ssl.SSLWantReadError:
            continue


@pytest.mark.parametrize("name", ["localhost", "127.0.0.1", "::1"])
def test_openssl_believes_a_servers_certificate(authority: Authority, tmp_path: Path, name: str) -> None:
    shake_hands(authority, authority.issue_server(("localhost", "127.0.0.1", "::1"), NOW), name, tmp_path)


@pytest.mark.parametrize("name", ["hub.example.org", "10.1.2.3"])
def test_it_cannot_vouch_for_a_server_outside_its_names(authority: Authority, tmp_path: Path, name: str) -> None:
    with pytest.raises(ssl.SSLCertVerificationError, match="permitted subtree"):
        shake_hands(authority, authority.issue_server((name,), NOW), name, tmp_path)


def test_made_for_other_names_it_can(tmp_path: Path) -> None:
    other = Authority.create(NOW, Names(("example.org",), ()))
    shake_hands(other, other.issue_server(("hub.example.org",), NOW), "hub.example.org", tmp_path)


def test_a_certificate_for_another_name_or_time_is_not_believed(authority: Authority, tmp_path: Path) -> None:
    with pytest.raises(ssl.SSLCertVerificationError, match="IP address mismatch"):
        shake_hands(authority, authority.issue_server(("localhost",), NOW), "127.0.0.1", tmp_path)
    old = authority.issue_server(("localhost",), NOW - timedelta(days=30), timedelta(days=1))
    with pytest.raises(ssl.SSLCertVerificationError, match="expired"):
        shake_hands(authority, old, "localhost", tmp_path)


def test_the_ca_signs_no_ca_and_lives_for_years(authority: Authority) -> None:
    extensions = authority.certificate.extensions
    constraints = extensions.get_extension_for_class(x509.BasicConstraints)
    assert (constraints.critical, constraints.value.ca, constraints.value.path_length) == (True, True, 0)
    permitted = extensions.get_extension_for_class(x509.NameConstraints).value.permitted_subtrees
    assert permitted is not None
    assert x509.DNSName("localhost") in permitted
    assert x509.IPAddress(ipaddress.ip_network("127.0.0.0/8")) in permitted
    assert authority.certificate.not_valid_after_utc > NOW + timedelta(days=3_600)
    assert isinstance(authority.certificate.public_key(), ec.EllipticCurvePublicKey)


def test_a_gateways_certificate_names_it_and_is_for_clients_alone(authority: Authority) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    issued = authority.issue_client("gw-1", key.public_key(), NOW, WEEK)
    found = x509.load_pem_x509_certificate(issued.pem.encode())
    assert found.subject.rfc4514_string() == "CN=gw-1"
    usage = found.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(usage) == [ExtendedKeyUsageOID.CLIENT_AUTH]
    assert found.extensions.get_extension_for_class(x509.BasicConstraints).value.ca is False
    assert found.not_valid_before_utc <= NOW
    assert issued.not_after == found.not_valid_after_utc == NOW + WEEK
    assert issued.public_key == key_hash(key.public_key())
    assert int(issued.serial, 16) == found.serial_number
    assert authority.signed(found)
    assert not Authority.create(NOW).signed(found)


def test_no_certificate_outlives_the_ca(authority: Authority) -> None:
    key = ec.generate_private_key(ec.SECP256R1()).public_key()
    late = authority.issue_client("gw-1", key, NOW, timedelta(days=10_000))
    assert late.not_after == authority.certificate.not_valid_after_utc


@pytest.mark.parametrize(
    "key",
    [
        ec.generate_private_key(ec.SECP256R1()),
        ec.generate_private_key(ec.SECP384R1()),
        rsa.generate_private_key(65_537, 2_048),
    ],
    ids=["P-256", "P-384", "RSA-2048"],
)
def test_of_a_request_only_the_key_is_taken(authority: Authority, key: ec.EllipticCurvePrivateKey) -> None:
    asked = request(
        key,
        "gw-of-somebody-else",
        x509.BasicConstraints(ca=True, path_length=None),
        x509.SubjectAlternativeName([x509.DNSName("localhost")]),
    )
    public = read_csr(asked)
    assert not isinstance(public, Rejected)
    found = x509.load_pem_x509_certificate(authority.issue_client("gw-1", public, NOW, WEEK).pem.encode())
    assert found.subject.rfc4514_string() == "CN=gw-1"
    assert found.extensions.get_extension_for_class(x509.BasicConstraints).value.ca is False
    with pytest.raises(x509.ExtensionNotFound):
        found.extensions.get_extension_for_class(x509.SubjectAlternativeName)


@pytest.mark.parametrize(
    ("asked", "reason"),
    [
        ("", Reason.MALFORMED),
        ("-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END CERTIFICATE REQUEST-----\n", Reason.MALFORMED),
        ("x" * 9_000, Reason.TOO_LARGE),
        (request(rsa.generate_private_key(65_537, 1_024)), Reason.BAD_FIELD),
        (request(ec.generate_private_key(ec.SECP256K1())), Reason.BAD_FIELD),
        (request(ed25519.Ed25519PrivateKey.generate()), Reason.BAD_FIELD),
    ],
    ids=["empty", "garbage", "large", "RSA-1024", "secp256k1", "ed25519"],
)
def test_requests_that_are_refused(asked: str, reason: Reason) -> None:
    found = read_csr(asked)
    assert isinstance(found, Rejected)
    assert found.reason is reason


def test_a_request_signed_with_another_key_is_refused() -> None:
    """Whoever copies a public key has not the private one: the signature is broken by changing one byte of it."""
    der = x509.load_pem_x509_csr(request(ec.generate_private_key(ec.SECP256R1())).encode())
    raw = bytearray(der.public_bytes(serialization.Encoding.DER))
    raw[-1] ^= 1
    forged = ssl.DER_cert_to_PEM_cert(bytes(raw)).replace("CERTIFICATE", "CERTIFICATE REQUEST")
    found = read_csr(forged)
    assert isinstance(found, Rejected)


def test_the_list_names_what_was_revoked(authority: Authority) -> None:
    text = authority.crl([Revoked("1f", NOW)], 7, NOW - timedelta(hours=1), NOW + WEEK)
    crl = x509.load_pem_x509_crl(text.encode())
    assert crl.is_signature_valid(authority.certificate.public_key())  # type: ignore[arg-type]
    assert [entry.serial_number for entry in crl] == [0x1F]
    assert crl.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number == 7


def test_it_comes_back_from_its_files_and_only_as_a_pair(authority: Authority) -> None:
    again = Authority.load(authority.key_pem, authority.pem)
    assert again.fingerprint == authority.fingerprint
    with pytest.raises(Permanent, match="no pair"):
        Authority.load(Authority.create(NOW).key_pem, authority.pem)
    with pytest.raises(Permanent, match="not PEM"):
        Authority.load(Secret("x"), authority.pem)


def test_its_key_never_shows(authority: Authority) -> None:
    inner = str(authority.key_pem).splitlines()[1]
    pair = authority.issue_server(("localhost",), NOW)
    assert inner not in repr(authority)
    assert str(pair.key).splitlines()[1] not in repr(pair)
    with pytest.raises(Permanent) as broken:
        Authority.load(Secret(f"broken {authority.key_pem}"[:150]), authority.pem)
    assert inner not in str(broken.value)
