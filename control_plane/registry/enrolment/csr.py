"""A gateway's public key, as a certificate signing request: it proves that the sender holds the private half.

Promises: only a request that is signed by its own key, of curve P-256, passes; whatever else is in it is ignored.
"""

import hashlib

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

LONGEST = 4_096
"""Characters; one of ours has some 400."""


def public_key_sha256(pem: str) -> bytes | None:
    """SHA-256 of the public key's DER form (SubjectPublicKeyInfo), or None if this is no such request."""
    if len(pem) > LONGEST:
        return None
    try:
        request = x509.load_pem_x509_csr(pem.encode("ascii", "strict"))
        key = request.public_key()
        if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
            return None
        if not request.is_signature_valid:
            return None
        return hashlib.sha256(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).digest()
    except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm):
        return None
