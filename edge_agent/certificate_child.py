"""What of a renewal needs `cryptography`, in a short-lived child, so that the resident agent does not carry it.

`python -m edge_agent.certificate_child` reads `{"certificate": PATH, "key": PATH}` from stdin and writes as JSON: the
certificate's times, a signing request for the same key, and the request's signature by that key. The key itself is
read from its file and leaves the child nowhere.
"""

import asyncio
import base64
import sys
from pathlib import Path

import msgspec

from shared.errors import Permanent, Transient

DEADLINE_S = 30.0
_ROOM = Path(__file__).parents[1]


class Asked(msgspec.Struct, frozen=True):
    """Paths of the certificate and its key (PEM)."""

    certificate: str
    key: str


class Told(msgspec.Struct, frozen=True):
    """Times are epoch seconds; `signature`: of `csr`, ECDSA over SHA-256, base64. `trouble`: why there is nothing."""

    not_before: float = 0.0
    not_after: float = 0.0
    certificate: str = ""
    csr: str = ""
    signature: str = ""
    trouble: str = ""


async def look(certificate: Path, key: Path) -> Told:
    """Ask the child. Raises Permanent for files that are not good, Transient if there is no answer."""
    try:
        child = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "edge_agent.certificate_child"),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            cwd=_ROOM,
        )
    except OSError as error:
        raise Transient(f"no process to look at the certificate: {error.strerror}") from error
    try:
        async with asyncio.timeout(DEADLINE_S):
            said, _ = await child.communicate(msgspec.json.encode(Asked(str(certificate), str(key))))
        told = msgspec.json.decode(said, type=Told)
    except (TimeoutError, msgspec.DecodeError):
        raise Transient("the look at the certificate ended without an answer") from None
    finally:
        if child.returncode is None:
            child.kill()
            await child.wait()
    if told.trouble:
        raise Permanent(told.trouble)
    return told


def main(stdin: bytes) -> bytes:
    """The child: what is to be written to stdout."""
    return msgspec.json.encode(_look(msgspec.json.decode(stdin, type=Asked)))


def _look(asked: Asked) -> Told:
    from cryptography import x509  # noqa: PLC0415 - the child's alone
    from cryptography.hazmat.primitives import hashes, serialization  # noqa: PLC0415
    from cryptography.hazmat.primitives.asymmetric import ec  # noqa: PLC0415
    from cryptography.x509.oid import NameOID  # noqa: PLC0415

    try:
        pem = Path(asked.certificate).read_text(encoding="ascii")
        certificate = x509.load_pem_x509_certificate(pem.encode())
        key = serialization.load_pem_private_key(Path(asked.key).read_bytes(), None)
    except OSError as error:
        return Told(trouble=f"{error.filename} cannot be read: {error.strerror}")
    except (ValueError, TypeError):
        return Told(trouble="the certificate or its key is not PEM")
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        return Told(trouble="the certificate's key is not on an elliptic curve")
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "gateway")])
    request = x509.CertificateSigningRequestBuilder().subject_name(name).sign(key, hashes.SHA256())
    csr = request.public_bytes(serialization.Encoding.PEM).decode()
    return Told(
        certificate.not_valid_before_utc.timestamp(),
        certificate.not_valid_after_utc.timestamp(),
        certificate.public_bytes(serialization.Encoding.PEM).decode(),
        csr,
        base64.b64encode(key.sign(csr.encode(), ec.ECDSA(hashes.SHA256()))).decode(),
    )


if __name__ == "__main__":
    sys.stdout.buffer.write(main(sys.stdin.buffer.read()))
