"""The broker's records anew by file and one announced restart, whatever is killed in between."""

import asyncio
import json
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from control_plane.registry import dynsec, rebuild
from control_plane.registry.broker_restart import BrokerRestart
from control_plane.registry.dynsec import SALT_BYTES, hash_secret
from control_plane.registry.rebuild import BY_POLICY, Rebuilt
from control_plane.registry.registration import Request
from deploy.stack.mosquitto import Mosquitto
from shared.authority import Actor, Role
from shared.device import Kind
from shared.errors import HubError, Permanent, Transient
from shared.ids import DeviceId
from tests.stack.registry.conftest import NOT_AUTHORIZED, Parts, connect_code, until_async
from tests.stack.registry.test_reconciler import add

ACTOR = Actor("actor", Role.ADMIN)


async def import_key(parts: Parts, name: str) -> str:
    """As an import leaves it: a device with a key that the broker does not hold yet. The key."""
    await parts.database.execute("INSERT INTO device_types (name) VALUES ('t') ON CONFLICT DO NOTHING")
    digest = hash_secret("s", b"s" * SALT_BYTES)
    await parts.database.execute(
        "INSERT INTO devices (id, serial, type, kind, status) VALUES ($1, $1, 't', 'device', 'provisioned')", name
    )
    await parts.database.execute(
        "INSERT INTO device_credentials (key_id, device_id, api_key_hash, why) VALUES ($1, $2, $3, 'import')",
        f"k:{name}", name, digest,
    )  # fmt: skip
    return f"k:{name}.s"


async def lose(parts: Parts, server: Mosquitto) -> None:
    """The broker comes back with nothing but our services."""
    await asyncio.to_thread(server.stop)
    await asyncio.to_thread(server.write_clients, [])
    await asyncio.to_thread(server.start)
    await until_async(lambda: parts.broker.connected, "the broker is back")


async def audits(parts: Parts) -> list[Any]:
    rows = await parts.database.fetch("SELECT actor, detail FROM audit_log WHERE action = 'broker.rebuild'")
    return [(row["actor"], json.loads(row["detail"])["reason"]) for row in rows]


async def test_an_empty_broker_is_known_and_rebuilt_by_the_policy_once(
    parts: Parts, broker_server: Mosquitto
) -> None:
    keys = {name: await add(parts, name) for name in ("a", "b", "c")}
    await parts.database.execute("UPDATE devices SET status = 'suspended' WHERE id = 'c'")
    await parts.database.execute("INSERT INTO policies (name, value) VALUES ('broker', '{\"announce_s\": 0.1}')")
    await lose(parts, broker_server)
    assert await connect_code(parts.port, "a", keys["a"]) == NOT_AUTHORIZED
    repair = await parts.reconciler.run()
    assert (repair.desired, repair.actual, repair.missing_count) == (3, 0, 3)
    assert await parts.reconciler._rebuilt(repair)
    assert [await connect_code(parts.port, name, key) for name, key in keys.items()] == [0, 0, NOT_AUTHORIZED]
    assert (await parts.reconciler.run()).missing_count == 0
    assert parts.reconciler.missing == 0
    await lose(parts, broker_server)
    assert not await parts.reconciler._rebuilt(await parts.reconciler.run())  # at most once an hour
    assert await audits(parts) == [(BY_POLICY.id, "the broker lost 3 of 3 keys")]


async def test_one_lost_key_is_left_to_people_unless_the_policy_says_otherwise(parts: Parts) -> None:
    for name in ("a", "b", "c"):
        key = await add(parts, name)
    await parts.broker.command(dynsec.delete_client(key.partition(".")[0]))
    repair = await parts.reconciler.run()
    assert repair.missing == (key.partition(".")[0],)
    assert not await parts.reconciler._rebuilt(repair)
    document = '{"announce_s": 0, "restart": "when_missing"}'
    await parts.database.execute("INSERT INTO policies (name, value) VALUES ('broker', $1)", document)
    assert await parts.reconciler._rebuilt(repair)
    assert await connect_code(parts.port, "c", key) == 0


async def test_keys_of_an_import_enter_with_one_restart(parts: Parts) -> None:
    old = await add(parts, "old")
    keys = {f"dev{number}": await import_key(parts, f"dev{number}") for number in range(20)}
    assert await connect_code(parts.port, "dev3", keys["dev3"]) == NOT_AUTHORIZED
    first, second = await asyncio.gather(
        parts.rebuild.imported(ACTOR, announce_s=0), parts.rebuild.imported(ACTOR, announce_s=0)
    )
    assert sorted([first.restarts, second.restarts]) == [0, 1]  # two imports at once share it
    assert first.arrived + second.arrived == 20
    assert await parts.rebuild.imported(ACTOR, announce_s=0) == Rebuilt(0, 0, 0)
    assert await parts.database.fetchval("SELECT count(*) FROM device_credentials WHERE held_at IS NULL") == 0
    assert [await connect_code(parts.port, name, key) for name, key in keys.items()] == [0] * 20
    assert await connect_code(parts.port, "old", old) == 0


@pytest.mark.parametrize("step", ["write_next", "run", "connected_again", "hold"])
async def test_whatever_step_fails_doing_it_again_mends_it(
    parts: Parts, step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after a crash there: nothing is held that the broker does not hold, and the next run does it all."""
    key = await import_key(parts, "dev")
    restart = parts.rebuild._restart
    assert restart is not None

    def crash(*_: Any) -> Any:
        raise Transient("crash")

    with monkeypatch.context() as patch:
        if step == "hold":
            patch.setitem(rebuild._SQL, "hold", "SELECT 1 / 0, $1::text[]")
        else:
            patch.setattr(parts.broker if step == "connected_again" else restart, step, crash)
        with pytest.raises((Transient, asyncpg.DivisionByZeroError)):
            await parts.rebuild.imported(ACTOR, announce_s=0)
    assert await parts.database.fetchval("SELECT held_at FROM device_credentials") is None
    assert restart.taken()  # no start later on brings back what we meant now
    parts.broker._deadline_s = 20
    assert (await parts.rebuild.imported(ACTOR, announce_s=0)).arrived == 1
    assert await connect_code(parts.port, "dev", key) == 0


async def test_what_is_revoked_while_the_broker_is_down_stays_out(
    parts: Parts, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = await add(parts, "dev")
    restart = parts.rebuild._restart
    assert restart is not None
    real = restart.run

    async def revoke_and_run() -> None:
        await parts.database.execute("UPDATE device_credentials SET ended_at = now(), ended_why = 'revoked'")
        await real()

    monkeypatch.setattr(restart, "run", revoke_and_run)
    await parts.rebuild.run("test", ACTOR, announce_s=0)
    assert await connect_code(parts.port, "dev", key) == NOT_AUTHORIZED


async def test_a_key_that_another_process_gave_out_meanwhile_is_not_lost(
    parts: Parts, monkeypatch: pytest.MonkeyPatch
) -> None:
    await add(parts, "old")
    restart = parts.rebuild._restart
    assert restart is not None
    real = restart.run

    async def give_out_and_run() -> None:
        if not await parts.database.fetchval("SELECT count(*) FROM devices WHERE id = 'new'"):
            await import_key(parts, "new")
            await parts.database.execute("UPDATE device_credentials SET held_at = now() WHERE device_id = 'new'")
        await real()

    monkeypatch.setattr(restart, "run", give_out_and_run)
    assert (await parts.rebuild.run("test", ACTOR, announce_s=0)).restarts == 2
    assert await connect_code(parts.port, "new", "k:new.s") == 0


async def test_registrations_meanwhile_wait_or_fail_and_lose_nothing(parts: Parts) -> None:
    parts.broker._deadline_s = 20
    names = [f"dev{number}" for number in range(12)]

    async def register(name: str) -> Any:
        request = Request(f"SN-{name}", "t", Kind.DEVICE, DeviceId(name))
        try:
            return await parts.registrar.register(request, ACTOR, None)
        except HubError:
            return await parts.registrar.register(request, ACTOR, None)

    tasks = [asyncio.create_task(register(name)) for name in names]
    await parts.rebuild.run("test", ACTOR, announce_s=0)
    found = await asyncio.gather(*tasks)
    codes = [await connect_code(parts.port, name, its.api_key) for name, its in zip(names, found, strict=True)]
    assert codes == [0] * 12


async def test_a_restart_that_does_not_take_the_file_is_said(
    parts: Parts, environment: dict[str, str], tmp_path: Path
) -> None:
    await import_key(parts, "dev")
    elsewhere = tmp_path / "dynamic-security.json"
    parts.rebuild._restart = BrokerRestart(elsewhere, environment["HUB_BROKER_RESTART_COMMAND"])
    with pytest.raises(Permanent, match="without the file of"):
        await parts.rebuild.imported(ACTOR, announce_s=0)
    assert await parts.database.fetchval("SELECT held_at FROM device_credentials") is None
    parts.rebuild._restart = None
    with pytest.raises(Permanent, match="not been told"):
        await parts.rebuild.imported(ACTOR, announce_s=0)


@pytest.mark.parametrize(("command", "words"), [("false", "ended with 1"), ("/nonexistent/command", "cannot be run")])
async def test_a_command_that_fails_is_said(parts: Parts, tmp_path: Path, command: str, words: str) -> None:
    restart = BrokerRestart(tmp_path / "dynamic-security.json", command)
    with pytest.raises(HubError, match=words):
        await restart.run()
    with pytest.raises(ValueError, match="empty"):
        BrokerRestart(tmp_path / "x", " ")
