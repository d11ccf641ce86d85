"""Broker equals Postgres again, whatever made them differ."""

import pytest

from control_plane.registry import dynsec, projection
from control_plane.registry.broker import BrokerRefused
from control_plane.registry.registrar import Registered
from control_plane.registry.registration import Request
from shared.authority import Actor, Role
from shared.device import Kind
from shared.ids import DeviceId
from tests.stack.registry.conftest import NOT_AUTHORIZED, Parts, connect_code

ACTOR = Actor("actor", Role.OPERATOR)


async def add(parts: Parts, name: str) -> str:
    """A registered device's key."""
    found = await parts.registrar.register(Request(f"SN-{name}", "t", Kind.DEVICE, DeviceId(name)), ACTOR, None)
    assert isinstance(found, Registered)
    assert found.api_key is not None
    return found.api_key


async def test_unknown_keys_go_and_records_of_others_stay(parts: Parts) -> None:
    key = await add(parts, "dev")
    await parts.broker.command(dynsec.create_client("k:stranger", "s", "dev"))
    await parts.broker.command(dynsec.create_client("operator", "s", "operator"))
    repair = await parts.reconciler.run()
    assert repair.delete == ("k:stranger",)
    assert await parts.broker_names() == {key.partition(".")[0]}
    assert await connect_code(parts.port, "operator", "operator.s") == 0
    assert await connect_code(parts.port, "dev", key) == 0


async def test_a_status_closes_and_opens_the_door(parts: Parts) -> None:
    key = await add(parts, "dev")
    await parts.database.execute("UPDATE devices SET status = 'suspended'")
    assert len((await parts.reconciler.run()).disable) == 1
    assert await connect_code(parts.port, "dev", key) == NOT_AUTHORIZED
    await parts.database.execute("UPDATE devices SET status = 'active'")
    assert len((await parts.reconciler.run()).enable) == 1
    assert await connect_code(parts.port, "dev", key) == 0
    repair = await parts.reconciler.run()
    assert repair == projection.Repair()


async def test_a_key_bound_to_another_device_is_removed_and_missed(parts: Parts) -> None:
    name = (await add(parts, "dev")).partition(".")[0]
    await parts.broker.command(dynsec.delete_client(name))
    await parts.broker.command(dynsec.create_client(name, "s", "another"))
    repair = await parts.reconciler.run()
    assert (repair.delete, repair.missing) == ((name,), (name,))
    assert parts.reconciler.missing == 1
    assert await connect_code(parts.port, "another", f"{name}.s") == NOT_AUTHORIZED


async def test_a_list_in_many_pages(parts: Parts, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("control_plane.registry.reconciler._PAGE", 2)
    names = {(await add(parts, f"dev{number}")).partition(".")[0] for number in range(7)}
    assert await parts.broker_names() == names
    assert await parts.reconciler.run() == projection.Repair()


async def test_with_a_wrong_database_no_key_is_deleted(parts: Parts, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(projection, "MOST_UNKNOWN", 2)
    keys = [await add(parts, f"dev{number}") for number in range(3)]
    await parts.database.execute("DELETE FROM devices")
    repair = await parts.reconciler.run()
    assert (repair.delete, len(repair.withheld)) == ((), 3)
    assert await connect_code(parts.port, "dev0", keys[0]) == 0


async def test_a_command_that_the_broker_refuses_says_its_words(parts: Parts) -> None:
    with pytest.raises(BrokerRefused, match=dynsec.NOT_FOUND) as caught:
        await parts.broker.command(dynsec.disable_client("k:nobody"))
    assert caught.value.words == dynsec.NOT_FOUND
