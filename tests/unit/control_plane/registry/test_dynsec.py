"""The plugin's file, commands and answers. That a broker takes them: tests/stack/registry."""

import base64
import hashlib
import json

import msgspec
import pytest

from control_plane.registry import dynsec
from control_plane.registry.dynsec import SALT_BYTES, BrokerClient, BrokerRecord, document, hash_secret

SALT = bytes(range(SALT_BYTES))


def test_a_hash_is_pbkdf2_sha512_in_the_brokers_form() -> None:
    empty, kind, iterations, salt, key = hash_secret("secret", SALT).split("$")
    assert (empty, kind, iterations) == ("", "7", "101")
    assert base64.b64decode(salt) == SALT
    assert base64.b64decode(key) == hashlib.pbkdf2_hmac("sha512", b"secret", SALT, 101)


def test_a_salt_that_the_broker_would_not_load_is_our_bug() -> None:
    with pytest.raises(AssertionError):
        hash_secret("secret", b"short")


def test_the_document_refuses_by_default_and_sorts() -> None:
    clients = [
        BrokerClient("k:b", hash_secret("s", SALT), client_id="dev", disabled=True),
        BrokerClient("_ingest", hash_secret("s", SALT)),
    ]
    found = document(clients)
    assert set(found["defaultACLAccess"].values()) == {False}
    assert [record["username"] for record in found["clients"]] == ["_ingest", "k:b"]
    service, device = found["clients"]
    assert "clientid" not in service
    assert (device["clientid"], device["disabled"], device["iterations"]) == ("dev", True, 101)
    assert found["roles"] == found["groups"] == []


def test_two_records_of_one_name_are_our_bug() -> None:
    twice = BrokerClient("k:a", hash_secret("s", SALT))
    with pytest.raises(AssertionError):
        document([twice, twice])


def test_a_command_carries_its_correlation_and_hides_its_secret() -> None:
    command = dynsec.create_client("k:a", "s3cret", "dev")
    assert json.loads(command.encode("c1")) == {
        "commands": [
            {
                "command": "createClient",
                "username": "k:a",
                "password": "s3cret",
                "clientid": "dev",
                "correlationData": "c1",
            }
        ]
    }
    assert "s3cret" not in repr(command)


def test_answers() -> None:
    payload = b'{"responses":[{"command":"getClient","error":"Client not found","correlationData":"5"}]}'
    (answer,) = dynsec.decode_answers(payload)
    assert (answer.command, answer.correlation, answer.error) == ("getClient", "5", dynsec.NOT_FOUND)


def test_a_page_of_records() -> None:
    payload = (
        b'{"responses":[{"command":"listClients","data":{"totalCount":3,"clients":['
        b'{"username":"_ingest","roles":[],"groups":[]},'
        b'{"username":"k:a","clientid":"dev1","disabled":true,"roles":[],"groups":[]}]},"correlationData":"4"}]}'
    )
    page = dynsec.decode_page(dynsec.decode_answers(payload)[0])
    assert page.total == 3
    assert page.records == [BrokerRecord("_ingest"), BrokerRecord("k:a", "dev1", True)]


@pytest.mark.parametrize(
    "payload", [b"", b"[]", b"{}", b'{"responses":[1]}', b'{"responses":[{"error":1}]}', b"\xff"]
)
def test_what_no_plugin_writes(payload: bytes) -> None:
    with pytest.raises(msgspec.DecodeError):
        dynsec.decode_answers(payload)


def test_an_answer_without_records_is_no_page() -> None:
    with pytest.raises(msgspec.DecodeError):
        dynsec.decode_page(dynsec.Answer())
