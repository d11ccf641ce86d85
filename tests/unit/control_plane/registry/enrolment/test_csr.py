import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from control_plane.registry.enrolment.csr import LONGEST, public_key_sha256

P256 = ec.generate_private_key(ec.SECP256R1())
KIND = "CERTIFICATE REQUEST"
NAME = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "gateway")])


def pem(key, algorithm=hashes.SHA256()) -> str:  # noqa: B008
    request = x509.CertificateSigningRequestBuilder().subject_name(NAME).sign(key, algorithm)
    return request.public_bytes(Encoding.PEM).decode()


def test_one_key_has_one_hash_whatever_the_signature() -> None:
    first = public_key_sha256(pem(P256))
    assert first is not None
    assert len(first) == 32
    assert first == public_key_sha256(pem(P256))
    assert first != public_key_sha256(pem(ec.generate_private_key(ec.SECP256R1())))


def test_a_signature_by_another_key_proves_nothing() -> None:
    der = bytearray(x509.load_pem_x509_csr(pem(P256).encode()).public_bytes(Encoding.DER))
    der[-1] ^= 1
    forged = x509.load_der_x509_csr(bytes(der)).public_bytes(Encoding.PEM).decode()
    assert public_key_sha256(forged) is None


@pytest.mark.parametrize(
    "text",
    [
        "",
        "x",
        "é",
        "-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END CERTIFICATE REQUEST-----",
        "A" * (LONGEST + 1),
    ],
    ids=range(5),
)
def test_what_is_no_request(text: str) -> None:
    assert public_key_sha256(text) is None


def test_other_kinds_of_keys_are_refused() -> None:
    assert public_key_sha256(pem(ec.generate_private_key(ec.SECP384R1()))) is None
    assert public_key_sha256(pem(ed25519.Ed25519PrivateKey.generate(), None)) is None
