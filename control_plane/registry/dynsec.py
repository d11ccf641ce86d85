"""The file and the commands of Mosquitto's dynamic-security plugin, which authenticates and does nothing else. PURE.

Promises: hashes in the broker's own format, and a document that Mosquitto 2.0.11 and later load. There are no roles
and no groups, and every default is to refuse: what a client may do stands in the broker's acl_file, by client id.
Leaves salts (randomness), files and connections to the shells.
"""

import base64
import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec

SALT_BYTES = 12
"""2.0 loads no other length."""
ITERATIONS = 101
"""Few on purpose: the secret has 256 random bits, and each connect costs the broker's only thread this much."""
_HASH_BYTES = 64


@dataclass(frozen=True, slots=True)
class BrokerClient:
    """One record: who may connect with this secret.

    `client_id` binds the record to that MQTT client id; without it any client id may be used, which is for our own
    services alone.
    """

    username: str
    password_hash: str
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
    empty, kind, iterations, salt, key = client.password_hash.split("$")
    assert (empty, kind) == ("", "7"), "a hash of hash_secret"
    record: dict[str, Any] = {"username": client.username}
    if client.client_id is not None:
        record["clientid"] = client.client_id
    if client.disabled:
        record["disabled"] = True
    # 2.1 writes `encoded_password` instead of these three, and reads both; 2.0 reads only these.
    record |= {"password": key, "salt": salt, "iterations": int(iterations), "roles": [], "groups": []}
    return record


COMMAND_TOPIC = "$CONTROL/dynamic-security/v1"
RESPONSE_TOPIC = f"{COMMAND_TOPIC}/response"

ALREADY_EXISTS = "Client already exists"
NOT_FOUND = "Client not found"
"""What the plugin says; 2.0 and 2.1 use the same words."""


@dataclass(frozen=True, slots=True)
class Command:
    """One command to the running plugin. `repr` does not show a password."""

    name: str
    arguments: Mapping[str, Any] = field(repr=False)

    def encode(self, correlation: str) -> bytes:
        """The payload for COMMAND_TOPIC: one command a message, because 2.0 saves its file for each."""
        body = {"command": self.name, **self.arguments, "correlationData": correlation}
        return json.dumps({"commands": [body]}).encode()


class Answer(msgspec.Struct, frozen=True, rename={"correlation": "correlationData"}):
    """What the plugin said to one command: `error` is None if it was done."""

    command: str | None = None
    correlation: str | None = None
    error: str | None = None
    data: msgspec.Raw = msgspec.Raw(b"{}")


class _Answers(msgspec.Struct, frozen=True):
    responses: list[Answer]


class BrokerRecord(msgspec.Struct, frozen=True, rename={"client_id": "clientid"}):
    """A record as the running broker shows it."""

    username: str
    client_id: str | None = None
    disabled: bool = False


class RecordPage(msgspec.Struct, frozen=True, rename={"total": "totalCount", "records": "clients"}):
    """The data of the answer to `list_clients`. `total`: how many records there are in all."""

    total: int
    records: list[BrokerRecord]


def create_client(username: str, secret: str, client_id: str) -> Command:
    """A record by its plaintext: the only way into a running broker (it ignores hashes and answers success)."""
    return Command("createClient", {"username": username, "password": secret, "clientid": client_id})


def delete_client(username: str) -> Command:
    """End a record; its live session is closed."""
    return Command("deleteClient", {"username": username})


def disable_client(username: str) -> Command:
    """Keep the record and refuse its use; its live session is closed."""
    return Command("disableClient", {"username": username})


def enable_client(username: str) -> Command:
    """Undo `disable_client`."""
    return Command("enableClient", {"username": username})


def get_client(username: str) -> Command:
    """One record, without its hash."""
    return Command("getClient", {"username": username})


def list_clients(count: int, offset: int) -> Command:
    """A page of records, ordered by user name."""
    return Command("listClients", {"verbose": True, "count": count, "offset": offset})


def decode_answers(payload: bytes) -> list[Answer]:
    """What a message on RESPONSE_TOPIC says; raises msgspec.DecodeError for one that the plugin does not write."""
    return _ANSWERS.decode(payload).responses


def decode_page(answer: Answer) -> RecordPage:
    """The records in an answer to `list_clients`; raises as `decode_answers`."""
    return _PAGE.decode(answer.data)


_ANSWERS = msgspec.json.Decoder(_Answers)
_PAGE = msgspec.json.Decoder(RecordPage)
