"""Where a gateway finds the hub, and the CA that it must see there.

Promises: what is read from a CA file is one certificate that `cryptography` can read, or Transient.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from shared.errors import Transient


@dataclass(frozen=True, slots=True)
class Authority:
    """The hub's CA certificate. `pem`: it, and whatever stands below it in the file."""

    pem: str
    sha256: str


@dataclass(frozen=True, slots=True)
class Addresses:
    """What an enrolled gateway is told. `ca_file`: PEM, the CA first."""

    mqtt_url: str
    api_url: str
    ca_file: Path
    mqtt_mtls_url: str | None = None

    def authority(self) -> Authority:
        """The CA as it is now. Raises Transient if there is none: nobody can be enrolled then."""
        try:
            pem = self.ca_file.read_text(encoding="ascii")
            first = x509.load_pem_x509_certificates(pem.encode())[0]
        except (OSError, ValueError) as error:
            raise Transient(
                "the hub's CA certificate cannot be read", hint="set HUB_CA_FILE, or let `hub migrate` make one"
            ) from error
        return Authority(pem, hashlib.sha256(first.public_bytes(Encoding.DER)).hexdigest())
