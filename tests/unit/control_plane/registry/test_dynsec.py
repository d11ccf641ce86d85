"""The plugin's commands and answers. That a broker takes them: tests/stack/registry."""

import json

import msgspec
import pytest

from control_plane.registry import dynsec
from control_plane.registry.dynsec import BrokerRecord


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
