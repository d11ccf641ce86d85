"""The plugin's file and the hashes in it. That a broker loads them: tests/stack/test_mosquitto.py."""

import base64
import hashlib

import pytest

from shared.dynsec_document import SALT_BYTES, BrokerClient, document, hash_secret

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


def test_a_record_without_a_hash_has_no_password_and_no_hash_shows_itself() -> None:
    (record,) = document([BrokerClient("gw", None, client_id="gw")])["clients"]
    assert record == {"username": "gw", "clientid": "gw", "roles": [], "groups": []}
    digest = hash_secret("s", SALT)
    assert digest not in repr(BrokerClient("k:a", digest))
