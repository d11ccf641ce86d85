"""The file of Mosquitto's dynamic-security plugin, which authenticates and does nothing else. PURE.

Promises: hashes in the broker's own format, and a document that Mosquitto 2.0.11 and later load. There are no roles
and no groups, and every default is to refuse: what a client may do stands in the broker's acl_file, by client id.
The hub's broker and a gateway's local one have the same shape. Leaves salts (randomness) and files to the shells.
"""

import base64
import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

SALT_BYTES = 12
"""2.0 loads no other length."""
ITERATIONS = 101
"""Few on purpose: the secret has 256 random bits, and each connect costs the broker's only thread this much."""
_HASH_BYTES = 64


@dataclass(frozen=True, slots=True)
class BrokerClient:
    """One record: who may connect with this secret.

    `client_id` binds the record to that MQTT client id; without it any client id may be used, which is for our own
    services alone. Without a hash nobody can connect by it: it lets a session that came by certificate be closed.
    """

    username: str
    password_hash: str | None = field(repr=False)
    client_id: str | None = None
    disabled: bool = False


def hash_secret(secret: str, salt: bytes, iterations: int = ITERATIONS) -> str:
    """`$7$<iterations>$<salt>$<hash>`: PBKDF2 with SHA-512, 64 bytes; salt and hash in base64."""
    assert len(salt) == SALT_BYTES, f"a salt has {SALT_BYTES} bytes"
    assert iterations > 0
    key = hashlib.pbkdf2_hmac("sha512", secret.encode(), salt, iterations, _HASH_BYTES)
    return f"$7${iterations}${base64.b64encode(salt).decode()}${base64.b64encode(key).decode()}"


def document(clients: Iterable[BrokerClient]) -> dict[str, Any]:
    """The plugin's JSON document with exactly these clients, sorted by user name; user names must be distinct."""
    records = [_record(client) for client in sorted(clients, key=lambda client: client.username)]
    assert len({record["username"] for record in records}) == len(records), "one record per user name"
    refused = ("publishClientSend", "publishClientReceive", "subscribe", "unsubscribe")
    return {
        "defaultACLAccess": dict.fromkeys(refused, False),
        "clients": records,
        "groups": [],
        "roles": [],
    }


def _record(client: BrokerClient) -> dict[str, Any]:
    record: dict[str, Any] = {"username": client.username}
    if client.client_id is not None:
        record["clientid"] = client.client_id
    if client.disabled:
        record["disabled"] = True
    if client.password_hash is not None:
        empty, kind, iterations, salt, key = client.password_hash.split("$")
        assert (empty, kind) == ("", "7"), "a hash of hash_secret"
        # 2.1 writes `encoded_password` instead of these three, and reads both; 2.0 reads only these.
        record |= {"password": key, "salt": salt, "iterations": int(iterations)}
    return record | {"roles": [], "groups": []}
