"""Certificates as `hub api` is configured to issue them, or not at all where this machine has no CA's key."""

from dataclasses import dataclass
from pathlib import Path

from control_plane.db.connect import Pool
from control_plane.registry.pki.ca_files import CERTIFICATE_FILE, KEY_FILE, CaFiles, load
from control_plane.registry.pki.certificates import Certificates
from control_plane.registry.pki.crl_file import Reload
from control_plane.registry.pki.store import CertificateStore

CRL_FILE = "crl.pem"


@dataclass(frozen=True, slots=True)
class CaSettings:
    """What is configured; each file that is None has its place in `data_dir`."""

    data_dir: Path
    key_file: Path | None
    certificate_file: Path | None
    crl_file: Path | None
    pid_file: Path | None
    reload_command: str | None


def open_certificates(settings: CaSettings, database: Pool) -> Certificates | None:
    """None if there is no key: then nobody asked for certificates. Raises ConfigError or Permanent for a key that
    cannot be used.
    """
    key = settings.key_file or settings.data_dir / KEY_FILE
    if settings.key_file is None and not key.exists():
        return None
    authority = load(CaFiles(key, settings.certificate_file or settings.data_dir / CERTIFICATE_FILE))
    path = settings.crl_file or settings.data_dir / CRL_FILE
    reload = Reload(settings.pid_file, settings.reload_command)
    return Certificates(CertificateStore(database), authority, path, reload)
