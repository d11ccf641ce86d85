"""The hub before it is trusted: fetch its CA from anybody, believe it by its hash, then speak to nobody else.

Promises: nothing secret is sent over a connection whose server was not verified by the pinned CA and by its name.
"""

import hashlib
import http.client
import json
import ssl
import time
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from shared.errors import Permanent, Transient

TIMEOUT_S = 30.0
MOST_BYTES = 4 * 1024 * 1024
_CA_BYTES = 64 * 1024
_SENSIBLE_S = 1_700_000_000  # November 2023: a clock before it was never set
_NOT_YET_VALID, _EXPIRED = 9, 10  # X509_V_ERR_CERT_NOT_YET_VALID, X509_V_ERR_CERT_HAS_EXPIRED
_END = "-----END CERTIFICATE-----"


class Untrusted(Permanent):
    """It is not the hub that the token names."""


class ClockWrong(Permanent):
    """By this gateway's clock no certificate is valid."""


@dataclass(frozen=True, slots=True)
class Door:
    """The hub's REST API by its address, https://host:port. Raises Permanent if it is none."""

    url: str

    def __post_init__(self) -> None:
        try:
            parts = urlsplit(self.url)
            sound = parts.scheme == "https" and parts.hostname and parts.port != 0 and "@" not in parts.netloc
        except ValueError:
            sound = False
        if not sound:
            raise Permanent("the hub's address is not https://host:port", hint="enrolment goes over https only")

    def pinned_ca(self, sha256: str) -> str:
        """The CA certificate (PEM) of this hash, fetched over a connection that is not trusted yet.

        Raises Untrusted if the hub shows another, Transient if it does not answer.
        """
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        status, said = self._exchange(context, "GET", "/v1/ca", None, _CA_BYTES)
        if status != http.client.OK:
            raise Transient(f"the hub answered {status} when asked for its CA", hint="see the hub's log")
        for part in said.decode("ascii", "replace").split(_END)[:-1]:
            pem = part[max(0, part.find("-----BEGIN CERTIFICATE-----")) :] + _END + "\n"
            try:
                der = ssl.PEM_cert_to_DER_cert(pem)
            except ValueError:
                continue
            if hashlib.sha256(der).hexdigest() == sha256:
                return pem
        raise Untrusted(
            "this is not the hub that made the token: its CA has another SHA-256",
            hint="check the address, or make a token at this hub",
        )

    def post(self, path: str, body: dict[str, Any], ca_pem: str) -> tuple[int, dict[str, Any]]:
        """Status and JSON answer over TLS that `ca_pem` verifies. Raises Untrusted, ClockWrong or Transient."""
        context = ssl.create_default_context(cadata=ca_pem)
        status, said = self._exchange(context, "POST", path, json.dumps(body).encode(), MOST_BYTES)
        try:
            found = json.loads(said)
        except ValueError:
            found = {}
        return status, found if isinstance(found, dict) else {}

    def _exchange(
        self, context: ssl.SSLContext, method: str, path: str, body: bytes | None, most: int
    ) -> tuple[int, bytes]:
        parts = urlsplit(self.url)
        assert parts.hostname is not None
        connection = http.client.HTTPSConnection(parts.hostname, parts.port, timeout=TIMEOUT_S, context=context)
        try:
            connection.request(method, path, body, {"Content-Type": "application/json"} if body else {})
            answer = connection.getresponse()
            said = answer.read(most + 1)
        except ssl.SSLCertVerificationError as error:
            raise _unverified(error) from error
        except (OSError, http.client.HTTPException, ssl.SSLError) as error:
            raise Transient(
                f"the hub does not answer at {self.url} ({getattr(error, 'strerror', None) or type(error).__name__})",
                hint="check the address and the network",
            ) from error
        finally:
            connection.close()
        if len(said) > most:
            raise Permanent("the hub's answer is larger than any of ours")
        return answer.status, said


def _unverified(error: ssl.SSLCertVerificationError) -> Permanent:
    now_s = time.time()
    if error.verify_code in (_NOT_YET_VALID, _EXPIRED):
        today = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(now_s))
        why = "was never set" if now_s < _SENSIBLE_S else f"says {today}"
        return ClockWrong(
            f"the hub's certificate is not valid at this gateway's time; its clock {why}",
            hint="set the clock (timedatectl, chrony), then enrol again",
        )
    return Untrusted(
        f"the hub's certificate is not trusted: {error.verify_message}", hint="is the address the hub's own name?"
    )
