"""The LAN's records from what the hub says. That Mosquitto loads them: tests/stack/test_local_broker_file.py."""

import pytest

from edge_agent.local_broker import LocalDevice, acl_file, records
from shared.dynsec_document import SALT_BYTES, document, hash_secret

HASH = hash_secret("s", b"s" * SALT_BYTES)


def device(name: str = "dev", status: str = "active", *keys: tuple[str, str]) -> LocalDevice:
    return LocalDevice(name, status, keys or ((f"k:{name}", HASH),))


def test_each_key_is_bound_to_its_device_and_the_order_is_the_same() -> None:
    found = records([device("b"), device("a", "provisioned", ("k:z", HASH), ("k:a", HASH))])
    assert [(record.username, record.client_id, record.disabled) for record in found] == [
        ("k:a", "a", False),
        ("k:b", "b", False),
        ("k:z", "a", False),
    ]
    assert records([device("b"), device("a")]) == records([device("a"), device("b")])
    assert document(found)["clients"][0]["password"] in HASH


@pytest.mark.parametrize(
    ("status", "disabled"),
    [
        ("pending", False), ("provisioned", False), ("active", False),
        ("quarantined", True), ("suspended", True), ("retired", True),
    ],
)  # fmt: skip
def test_who_is_barred_is_kept_and_refused(status: str, disabled: bool) -> None:
    assert [record.disabled for record in records([device("dev", status)])] == [disabled]


@pytest.mark.parametrize(
    "bad",
    [
        device("_agent"), device("../x"), device("a/b"), device("dev", "active", ("admin", HASH)),
        device("dev", "active", ("k:a", "plain")), device("dev", "active", ("k:a", "$6$101$x$y")),
        device("dev", "active", ("k:a", HASH + "\n")), device("dev", "active", ("k:a", HASH.replace("101", "0"))),
    ],
)  # fmt: skip
def test_what_is_none_of_ours_locks_nobody_out(bad: LocalDevice) -> None:
    assert [record.username for record in records([bad, device("good")])] == ["k:good"]


def test_a_device_may_do_on_the_lan_what_it_may_at_the_hub_and_nothing_of_gateways() -> None:
    lines = acl_file().splitlines()[1:]
    assert "pattern write devices/%c/telemetry" in lines
    assert "pattern read devices/%c/commands" in lines
    assert [line for line in lines if "gateways" in line or not line.startswith("pattern ")] == []
