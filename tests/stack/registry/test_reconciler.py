"""Broker equals Postgres again, whatever made them differ."""

import asyncio

import pytest

from control_plane.registry import dynsec, projection
from control_plane.registry.broker import BrokerRefused
from control_plane.registry.registrar import Registered
from control_plane.registry.registration import Request
from deploy.stack.mosquitto import Mosquitto
from shared.authority import Actor, Role
from shared.device import Kind
from shared.ids import DeviceId
from tests.stack.registry.conftest import NOT_AUTHORIZED, Parts, connect_code, until_async

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
    assert (repair.commands, repair.desired, repair.actual) == (0, 1, 1)


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
    repair = await parts.reconciler.run()
    assert (repair.commands, repair.desired, repair.actual) == (0, 7, 7)


async def test_with_a_wrong_database_no_key_is_deleted(parts: Parts, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(projection, "MOST_UNKNOWN", 2)
    keys = [await add(parts, f"dev{number}") for number in range(3)]
    await parts.database.execute("DELETE FROM devices")
    repair = await parts.reconciler.run()
    assert (repair.delete, repair.withheld) == ((), 3)
    assert await connect_code(parts.port, "dev0", keys[0]) == 0


async def test_a_command_that_the_broker_refuses_says_its_words(parts: Parts) -> None:
    with pytest.raises(BrokerRefused, match=dynsec.NOT_FOUND) as caught:
        await parts.broker.command(dynsec.disable_client("k:nobody"))
    assert caught.value.words == dynsec.NOT_FOUND


async def test_pages_of_keys_and_of_records_in_step(parts: Parts, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("control_plane.registry.reconciler._PAGE", 3)
    monkeypatch.setattr("control_plane.registry.reconciler._KEYS", 2)
    names = sorted([(await add(parts, f"dev{number}")).partition(".")[0] for number in range(9)])
    await parts.broker.command(dynsec.delete_client(names[4]))
    await parts.broker.command(dynsec.create_client("k:0", "s", "x"))
    await parts.broker.command(dynsec.create_client("k:zz", "s", "x"))
    await parts.database.execute("UPDATE devices SET status = 'suspended' WHERE id = 'dev8'")
    repair = await parts.reconciler.run()
    assert (repair.delete, repair.missing, len(repair.disable)) == (("k:0", "k:zz"), (names[4],), 1)
    assert (repair.desired, repair.actual) == (9, 8)


async def test_a_list_that_moves_meanwhile_passes_nothing_over(parts: Parts, monkeypatch: pytest.MonkeyPatch) -> None:
    """Records before the page that is read next go away, so that all others move up."""
    monkeypatch.setattr("control_plane.registry.reconciler._PAGE", 4)
    names = sorted([(await add(parts, f"dev{number}")).partition(".")[0] for number in range(12)])
    real = parts.broker.command
    lists = 0

    async def moving(command: dynsec.Command, **more: bool) -> dynsec.Answer:
        nonlocal lists
        if command.name == "listClients":
            lists += 1
            if lists == 3:
                for name in names[:4]:
                    await parts.database.execute("DELETE FROM device_credentials WHERE key_id = $1", name)
                    await real(dynsec.delete_client(name))
        return await real(command, **more)

    monkeypatch.setattr(parts.broker, "command", moving)
    repair = await parts.reconciler.run()
    assert (repair.missing_count, repair.commands) == (0, 0)
    assert lists > 4


async def test_a_broker_killed_mid_list_is_compared_anew_when_it_is_back(
    parts: Parts, broker_server: Mosquitto, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("control_plane.registry.reconciler._PAGE", 3)
    monkeypatch.setattr("control_plane.registry.reconciler._RETRY_S", 0.2)
    key = await add(parts, "dev")
    for number in range(9):
        await add(parts, f"dev{number}")
    parts.broker._deadline_s = 1
    parts.broker._on_connect = parts.reconciler.wake
    real, lists = parts.broker.command, 0

    async def killing(command: dynsec.Command, **more: bool) -> dynsec.Answer:
        nonlocal lists
        lists += command.name == "listClients"
        if lists == 3 and command.name == "listClients":
            await asyncio.to_thread(broker_server.kill)
        return await real(command, **more)

    monkeypatch.setattr(parts.broker, "command", killing)
    # Saved, and never commanded: the broker dies between the two.
    await parts.database.execute("UPDATE device_credentials SET ended_at = now() WHERE device_id = 'dev'")
    serving = asyncio.create_task(parts.reconciler.serve())
    try:
        await until_async(lambda: lists >= 3 and not parts.broker.connected, "the broker died mid-list")
        await asyncio.to_thread(broker_server.start)
        name = key.partition(".")[0]

        async def gone() -> bool:
            return parts.broker.connected and name not in await parts.broker_names()

        await until_async(gone, "the ended key is gone")
    finally:
        serving.cancel()
    assert await connect_code(parts.port, "dev", key) == NOT_AUTHORIZED


async def test_keys_that_ended_long_ago_are_not_read_and_still_not_unknown(parts: Parts) -> None:
    await add(parts, "dev")
    await parts.database.execute(
        "INSERT INTO device_credentials (key_id, device_id, api_key_hash, held_at, ended_at)"
        " SELECT 'k:old' || n, 'dev', '$7$x', now(), now() - interval '2 days' FROM generate_series(1, 3000) AS n"
    )
    await parts.broker.command(dynsec.create_client("k:old77", "s", "dev"))
    assert [name for name, _ in await parts.store.projection.between("", None, 10)] == sorted(
        name for name in await parts.broker_names() if name != "k:old77"
    )
    repair = await parts.reconciler.run()
    assert (repair.delete, repair.withheld, repair.desired) == (("k:old77",), 0, 1)


async def test_a_certificates_gateway_can_be_closed(parts: Parts) -> None:
    await add(parts, "gw")
    await parts.database.execute(
        "INSERT INTO gateway_certificates (serial, gateway_id, public_key, not_before, not_after)"
        " VALUES ('1', 'gw', decode(repeat('00', 32), 'hex'), now(), now() + interval '1 day')"
    )
    assert (await parts.reconciler.run()).create == ("gw",)
    assert (await parts.reconciler.run()).commands == 0
    await parts.broker.command(dynsec.delete_client("gw"))
    await parts.database.execute("UPDATE gateway_certificates SET revoked_at = now()")
    assert await parts.projector.device(DeviceId("gw"))
    answer = await parts.broker.command(dynsec.get_client("gw"))
    assert b'"disabled":true' in bytes(answer.data).replace(b" ", b"").replace(b"\t", b"").replace(b"\n", b"")
