"""The CA's files: key (mode 0600) and certificate, made once, read ever after.

Promises: a file appears whole and durable or not at all, and one that exists is never replaced; a crash between the
two is mended by the next call, with the same key; several callers at once end with the same CA.
"""

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from control_plane.db.secret_files import create_once
from control_plane.registry.pki.ca import Authority, Names
from shared.config import read_secret
from shared.errors import Permanent

KEY_FILE, CERTIFICATE_FILE = "ca.key", "ca.pem"


@dataclass(frozen=True, slots=True)
class CaFiles:
    """Where the CA is."""

    key: Path
    certificate: Path

    @classmethod
    def of(cls, data_dir: Path) -> "CaFiles":
        """In the hub's own directory."""
        return cls(data_dir / KEY_FILE, data_dir / CERTIFICATE_FILE)


def ensure(files: CaFiles, now: datetime, names: Names | None = None) -> tuple[Authority, bool]:
    """The CA, made if its files are missing; True if it was. Raises Permanent or ConfigError.

    A certificate without its key is never replaced: that is a CA whose key is kept elsewhere.
    """
    if files.certificate.exists() and not files.key.exists():
        raise Permanent(f"{files.certificate} stands without {files.key}", hint="restore the key, or move both away")
    made = create_once(files.key, str(Authority.create(now, names).key_pem))
    key = read_secret(files.key)
    if not files.certificate.exists():
        made = create_once(files.certificate, Authority.certified(key, now, names).pem) or made
        files.certificate.chmod(0o644)  # it is public: those who pin it read it
    return load(files), made


def load(files: CaFiles) -> Authority:
    """The CA of these files. Raises ConfigError or Permanent, which never show the key."""
    key = read_secret(files.key)
    try:
        certificate = files.certificate.read_text(encoding="ascii")
    except OSError as error:
        raise Permanent(f"{files.certificate} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise Permanent(f"{files.certificate} is not PEM") from None
    return Authority.load(key, certificate)
