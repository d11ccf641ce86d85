"""Commands to Mosquitto's dynamic-security plugin, and its answers. PURE.

The plugin's file and the hashes in it: `shared.dynsec_document`.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec

from shared.dynsec_document import SALT_BYTES, hash_secret

__all__ = [
    "ALREADY_EXISTS",
    "COMMAND_TOPIC",
    "NOT_FOUND",
    "RESPONSE_TOPIC",
    "SALT_BYTES",
    "Answer",
    "BrokerRecord",
    "Command",
    "RecordPage",
    "create_client",
    "create_door",
    "decode_answers",
    "decode_page",
    "delete_client",
    "disable_client",
    "enable_client",
    "get_client",
    "hash_secret",
    "list_clients",
]

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


def create_door(username: str) -> Command:
    """A record without a secret, by which nobody can connect: by it a session that came by certificate is closed."""
    return Command("createClient", {"username": username, "clientid": username})


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
