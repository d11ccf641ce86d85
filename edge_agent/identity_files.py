"""What an enrolled gateway keeps in its data directory, and in which order it is written.

    identity.key   its key pair (EC P-256, PEM), made before anything is asked, kept for good
    ca.pem         the hub's CA, once it was found to be the token's
    identity.pem   its client certificate, where one was asked for
    key            <key id>.<secret>
    agent.toml     where the hub is and what the gateway is called: written last, so what it names is there

Promises: each file appears whole, durable and, but for ca.pem and agent.toml, readable by its owner alone. What stood
in agent.toml and is not ours stays in it.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import NameOID

from edge_agent.durable_file import write
from shared.errors import Permanent

KEY_PAIR, CA, CERTIFICATE, KEY, CONFIG = "identity.key", "ca.pem", "identity.pem", "key", "agent.toml"


def key_pair(directory: Path) -> ec.EllipticCurvePrivateKey:
    """The gateway's own, made and durable if it has none yet. Raises Permanent for a file that is none."""
    path = directory / KEY_PAIR
    try:
        if not path.exists():
            made = ec.generate_private_key(ec.SECP256R1())
            write(path, made.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        key = load_pem_private_key(path.read_bytes(), None)
    except OSError as error:
        raise Permanent(f"{path} cannot be read: {error.strerror}", hint="check its owner") from error
    except (ValueError, TypeError) as error:
        raise Permanent(f"{path} is no private key", hint="remove it: a new one is made") from error
    if not isinstance(key, ec.EllipticCurvePrivateKey) or not isinstance(key.curve, ec.SECP256R1):
        raise Permanent(f"{path} is no key of curve P-256", hint="remove it: a new one is made")
    return key


def signing_request(key: ec.EllipticCurvePrivateKey) -> str:
    """PEM. The hub gives the name, so this one names nobody."""
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "gateway")])
    request = x509.CertificateSigningRequestBuilder().subject_name(name).sign(key, hashes.SHA256())
    return request.public_bytes(Encoding.PEM).decode()


def save(
    directory: Path, *, ca_pem: str, api_key: str, certificate_pem: str | None, config: Mapping[str, Any]
) -> None:
    """Everything, in the order that a crash may cut anywhere. `config`: our part of agent.toml."""
    write(directory / CA, ca_pem.encode(), 0o644)
    if certificate_pem is not None:
        write(directory / CERTIFICATE, certificate_pem.encode())
    for stale in (".new", ".asked"):  # of a rotation that was under way (edge_agent.key_files): its keys are no more
        (directory / (KEY + stale)).unlink(missing_ok=True)
    write(directory / KEY, (api_key + "\n").encode())
    write(directory / CONFIG, toml(config).encode(), 0o644)


def toml(table: Mapping[str, Any]) -> str:
    """A flat table of text, numbers, switches and lists of text, which is all that agent.toml holds."""
    lines = ["# Written by `edge-agent enroll`; lines of your own stay when it is run again."]
    # JSON's text, numbers, switches and lists of text are TOML's, but for DEL, which no setting of ours allows.
    lines += [f"{name} = {json.dumps(value, ensure_ascii=False)}" for name, value in table.items()]
    return "\n".join(lines) + "\n"
