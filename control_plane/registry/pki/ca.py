"""The small CA: its own certificate, servers' and gateways' certificates, requests judged, revocations listed.

Promises: a key never shows itself; of a request nothing is believed but its public key, whose possession the request
proves; a gateway's certificate names the gateway, may be used by clients only and for its short life; the CA can sign
no further CA and vouch for no server outside the names that it was made for. Times are given, so that one act has one
time. Leaves files to `ca_files`, who gets what to `certificates`.
"""

import ipaddress
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from shared.config import Secret
from shared.errors import Permanent, Reason, Rejected

COMMON_NAME = "IoT control hub CA"
CA_LIFE = timedelta(days=3_650)
SERVER_LIFE = timedelta(days=365)
BACKDATED = timedelta(minutes=5)
"""A broker on another machine may be so far behind and still take a certificate at once."""
CSR_BYTES = 8 * 1024
_RSA_BITS = range(2_048, 4_097)
_CURVES = ("secp256r1", "secp384r1")
_ALL_USES = dict.fromkeys(
    ("digital_signature", "content_commitment", "key_encipherment", "data_encipherment", "key_agreement"), False
) | dict.fromkeys(("key_cert_sign", "crl_sign", "encipher_only", "decipher_only"), False)

PublicKey = ec.EllipticCurvePublicKey | rsa.RSAPublicKey


@dataclass(frozen=True, slots=True)
class Names:
    """For which servers a CA may vouch: DNS names (their subdomains too) and networks; empty: for any."""

    dns: tuple[str, ...] = ("localhost",)
    networks: tuple[str, ...] = ("127.0.0.0/8", "::1/128")


@dataclass(frozen=True, slots=True)
class Pair:
    """A certificate and its key, both PEM."""

    certificate: str
    key: Secret = field(repr=False)


@dataclass(frozen=True, slots=True)
class Certificate:
    """A gateway's certificate and what its row keeps. `serial`: hex; `public_key`: SHA-256 of its DER form."""

    pem: str
    serial: str
    public_key: bytes
    not_before: datetime
    not_after: datetime


@dataclass(frozen=True, slots=True)
class Revoked:
    """One line of the list. `serial`: hex."""

    serial: str
    at: datetime


class Authority:
    """The CA. Make a new one with `create`, read one with `load`."""

    def __init__(self, key: ec.EllipticCurvePrivateKey, certificate: x509.Certificate) -> None:
        self._key = key
        self.certificate = certificate

    @classmethod
    def create(cls, now: datetime, names: Names | None = None, *, common_name: str = COMMON_NAME) -> "Authority":
        """A new P-256 key and its self-signed certificate: no CA below it, only the servers of `names`."""
        return cls._self_signed(ec.generate_private_key(ec.SECP256R1()), now, names, common_name)

    @classmethod
    def certified(cls, key_pem: Secret, now: datetime, names: Names | None = None) -> "Authority":
        """A new certificate for a CA's key. Raises Permanent if it is none."""
        return cls._self_signed(_private_key(key_pem), now, names, COMMON_NAME)

    @classmethod
    def _self_signed(
        cls, key: ec.EllipticCurvePrivateKey, now: datetime, names: Names | None, common_name: str
    ) -> "Authority":
        name = _name(common_name)
        builder = (
            _builder(name, name, key.public_key(), now - BACKDATED, now + CA_LIFE)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_usage("key_cert_sign", "crl_sign"), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        )
        permitted = _general(names or Names())
        if permitted:
            builder = builder.add_extension(x509.NameConstraints(permitted, None), critical=True)
        return cls(key, builder.sign(key, hashes.SHA256()))

    @classmethod
    def load(cls, key_pem: Secret, certificate_pem: str) -> "Authority":
        """The CA of these files' texts. Raises Permanent, which shows neither, if they are none or not a pair."""
        key = _private_key(key_pem)
        try:
            certificate = x509.load_pem_x509_certificate(certificate_pem.encode())
        except ValueError:
            raise Permanent("the CA's certificate is not PEM") from None
        if _spki(key.public_key()) != certificate.public_key().public_bytes(
            serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        ):
            raise Permanent("the CA's key and certificate are no pair", hint="restore both from the same backup")
        return cls(key, certificate)

    def __repr__(self) -> str:
        return f"Authority({self.fingerprint[:16]}…)"

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the certificate's DER form, hex: what an enrolment token carries."""
        return self.certificate.fingerprint(hashes.SHA256()).hex()

    @property
    def pem(self) -> str:
        """The certificate."""
        return _pem(self.certificate)

    @property
    def key_pem(self) -> Secret:
        """The key, unencrypted: for its file alone."""
        return _key_pem(self._key)

    def issue_server(self, names: Sequence[str], now: datetime, life: timedelta = SERVER_LIFE) -> Pair:
        """A new key with a certificate for these DNS names and addresses."""
        key = ec.generate_private_key(ec.SECP256R1())
        builder = (
            self._leaf(names[0], key.public_key(), now - BACKDATED, min(now + life, self._end))
            .add_extension(x509.SubjectAlternativeName([_general_name(name) for name in names]), critical=False)
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        )
        return Pair(_pem(self._sign(builder)), _key_pem(key))

    def issue_client(self, gateway_id: str, key: PublicKey, now: datetime, life: timedelta) -> Certificate:
        """A gateway's certificate: its id as the only name, for clients alone."""
        not_before, not_after = now - BACKDATED, min(now + life, self._end)
        builder = self._leaf(gateway_id, key, not_before, not_after).add_extension(
            x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False
        )
        certificate = self._sign(builder)
        return Certificate(
            _pem(certificate),
            format(certificate.serial_number, "x"),
            key_hash(key),
            certificate.not_valid_before_utc,
            certificate.not_valid_after_utc,
        )

    def signed(self, certificate: x509.Certificate) -> bool:
        """Whether this CA issued it."""
        try:
            certificate.verify_directly_issued_by(self.certificate)
        except (ValueError, TypeError, InvalidSignature):
            return False
        return True

    def crl(self, revoked: Iterable[Revoked], number: int, last_update: datetime, next_update: datetime) -> str:
        """The list of revocations, PEM."""
        builder = (
            x509.CertificateRevocationListBuilder()
            .issuer_name(self.certificate.subject)
            .last_update(last_update)
            .next_update(next_update)
            .add_extension(x509.CRLNumber(number), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False)
        )
        for one in revoked:
            builder = builder.add_revoked_certificate(
                x509.RevokedCertificateBuilder().serial_number(int(one.serial, 16)).revocation_date(one.at).build()
            )
        return builder.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM).decode()

    @property
    def _end(self) -> datetime:
        return self.certificate.not_valid_after_utc

    def _leaf(self, name: str, key: PublicKey, start: datetime, end: datetime) -> x509.CertificateBuilder:
        return (
            _builder(_name(name), self.certificate.subject, key, start, end)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage("digital_signature"), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False)
        )

    def _sign(self, builder: x509.CertificateBuilder) -> x509.Certificate:
        return builder.sign(self._key, hashes.SHA256())


def read_csr(pem: str) -> PublicKey | Rejected:
    """The public key of a request that its maker holds the private one of. What else it asks for is not looked at."""
    if len(pem) > CSR_BYTES:
        return Rejected(Reason.TOO_LARGE, f"a certificate request of more than {CSR_BYTES} bytes")
    try:
        request = x509.load_pem_x509_csr(pem.encode())
        key = request.public_key()
        sound = request.is_signature_valid
    except (ValueError, TypeError, UnsupportedAlgorithm, InvalidSignature):
        return Rejected(Reason.MALFORMED, "no certificate request in PEM that can be read")
    if isinstance(key, ec.EllipticCurvePublicKey) and key.curve.name in _CURVES:
        good_key: PublicKey = key
    elif isinstance(key, rsa.RSAPublicKey) and key.key_size in _RSA_BITS:
        good_key = key
    else:
        return Rejected(Reason.BAD_FIELD, "the key is none of: P-256, P-384, RSA of 2048 to 4096 bits")
    if not sound:
        return Rejected(Reason.BAD_FIELD, "the request is not signed with its own key")
    return good_key


def key_hash(key: PublicKey) -> bytes:
    """SHA-256 of the key's DER form (SubjectPublicKeyInfo)."""
    digest = hashes.Hash(hashes.SHA256())
    digest.update(_spki(key))
    return digest.finalize()


def _private_key(key_pem: Secret) -> ec.EllipticCurvePrivateKey:
    try:
        key = serialization.load_pem_private_key(key_pem.encode(), None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise Permanent("the CA's key is not PEM without a passphrase") from None
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise Permanent("the CA's key is not on an elliptic curve", hint="remove both files for a new CA")
    return key


def _spki(key: PublicKey) -> bytes:
    return key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _builder(
    subject: x509.Name, issuer: x509.Name, key: PublicKey, start: datetime, end: datetime
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(end)
    )


def _usage(*uses: str) -> x509.KeyUsage:
    return x509.KeyUsage(**(_ALL_USES | dict.fromkeys(uses, True)))


def _general(names: Names) -> list[x509.GeneralName]:
    networks = [x509.IPAddress(ipaddress.ip_network(network)) for network in names.networks]
    return [*(x509.DNSName(name) for name in names.dns), *networks]


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _pem(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(serialization.Encoding.PEM).decode()


def _key_pem(key: ec.EllipticCurvePrivateKey) -> Secret:
    encoded = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return Secret(encoded.decode())
