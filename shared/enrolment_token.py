"""The text of an enrolment token: `<id>.<secret>.<SHA-256 of the hub's CA certificate, hex>`. PURE.

The id (`e-` and 12 characters) names it and is no secret. The last part is what the gateway pins: it believes a hub
only if the CA that it shows has this hash, and shows the secret to nobody before.
"""

import hashlib
import re
from dataclasses import dataclass, field

from shared.config import Secret

PATTERN = r"^e-[a-z0-9]{12}\.[A-Za-z0-9_-]{43}\.[0-9a-f]{64}$"
LONGEST = 2 + 12 + 1 + 43 + 1 + 64
_FORM = re.compile(PATTERN + r"\Z")


@dataclass(frozen=True, slots=True)
class EnrolmentToken:
    """A token, taken apart. `ca_sha256`: hexadecimal, of the certificate's DER form."""

    id: str
    secret: Secret = field(repr=False)
    ca_sha256: str

    @property
    def text(self) -> Secret:
        """As an operator copies it."""
        return Secret(f"{self.id}.{self.secret}.{self.ca_sha256}")

    @property
    def hash(self) -> bytes:
        """What the hub keeps: SHA-256 is enough for 256 random bits."""
        return hashlib.sha256(self.secret.encode()).digest()


def parse(text: str) -> EnrolmentToken | None:
    """The token, or None for what is shaped like none."""
    if len(text) > LONGEST or _FORM.match(text) is None:
        return None
    name, secret, ca_sha256 = text.split(".")
    return EnrolmentToken(name, Secret(secret), ca_sha256)
