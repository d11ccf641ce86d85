"""Certificates of the local stack's doors, from the development CA that it makes in the hub's directory.

Promises: the CA is made once; a server's certificate is made anew at a start when it nears its end or comes from
another CA; keys are readable by the server's own user alone. In production the files are given (docs/tls.md).
"""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509

from control_plane.registry.pki.ca import Authority
from control_plane.registry.pki.ca_files import CaFiles, ensure
from deploy.stack import host

NAMES = ("localhost", "127.0.0.1", "::1")
RENEW_BEFORE = timedelta(days=30)
SERVER_CERTIFICATE, SERVER_KEY, CA_CERTIFICATE, CRL = "server.crt", "server.key", "ca.pem", "crl.pem"
API_CERTIFICATE, API_KEY = "api.crt", "api.key"


@dataclass(frozen=True, slots=True)
class Doors:
    """Ports of the hub's broker beside its plain one: for keys over TLS, and for gateways' certificates."""

    keys: int
    certificates: int


def prepare_broker(hub_dir: Path, home: Path, account: host.Account) -> None:
    """All that the broker's TLS listeners read, in its home; the CA first, if it is missing."""
    authority = authority_of(hub_dir)
    _server_pair(authority, home / SERVER_CERTIFICATE, home / SERVER_KEY, account)
    host.write_private(home / CA_CERTIFICATE, authority.pem, account)
    if not (home / CRL).exists():  # else it is the registry's, which writes the revoked into it
        now = _now()
        empty = authority.crl([], 1, now - timedelta(hours=1), authority.certificate.not_valid_after_utc)
        host.write_private(home / CRL, empty, account)


def prepare_api(hub_dir: Path) -> None:
    """The certificate of `hub api`, in the hub's directory."""
    _server_pair(authority_of(hub_dir), hub_dir / API_CERTIFICATE, hub_dir / API_KEY, None)


def authority_of(hub_dir: Path) -> Authority:
    """The development CA, made if missing."""
    hub_dir.mkdir(mode=0o700, exist_ok=True)
    authority, _ = ensure(CaFiles.of(hub_dir), _now())
    return authority


def _server_pair(authority: Authority, certificate: Path, key: Path, account: host.Account | None) -> None:
    if certificate.exists() and key.exists() and _still_good(authority, certificate):
        return
    pair = authority.issue_server(NAMES, _now())
    certificate.unlink(missing_ok=True)  # first: a crash in between leaves no pair that does not fit
    host.write_private(key, str(pair.key), account)
    host.write_private(certificate, pair.certificate, account)


def _still_good(authority: Authority, certificate: Path) -> bool:
    try:
        found = x509.load_pem_x509_certificate(certificate.read_bytes())
    except ValueError:
        return False
    return authority.signed(found) and _now() + RENEW_BEFORE < found.not_valid_after_utc


def _now() -> datetime:
    return datetime.now(UTC).replace(microsecond=0)
