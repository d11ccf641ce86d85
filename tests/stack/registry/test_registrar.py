"""A registration on real servers, and a crash after each of its steps.

A crash is an exception that no code of ours handles, raised where the process would have ended; what follows is what
a new process does.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from control_plane.registry import dynsec, registrar
from control_plane.registry.fleet.finder import Finder
from control_plane.registry.fleet.search import Filter
from control_plane.registry.registrar import Registered
from control_plane.registry.registration import Create, Refusal, Refused, Request
from control_plane.registry.store import NewKey
from shared.authority import Actor, Role
from shared.device import Kind
from shared.errors import Transient
from shared.ids import DeviceId, new_key_id
from tests.stack.registry.conftest import NOT_AUTHORIZED, Parts, connect_code, open_parts

ACTOR = Actor("actor", Role.OPERATOR)

DEV = DeviceId("dev")
REQUEST = Request("SN", "thermometer", Kind.DEVICE, DEV)


class Crash(BaseException):
    """The process ends here."""


def crash_before(target: object, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async def crashing(*_: Any, **__: Any) -> None:
        raise Crash

    monkeypatch.setattr(target, name, crashing)


def crash_after(target: object, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    real: Callable[..., Awaitable[Any]] = getattr(target, name)

    async def crashing(*args: Any, **more: Any) -> None:
        await real(*args, **more)
        raise Crash

    monkeypatch.setattr(target, name, crashing)


async def register(parts: Parts, key: str | None = None, request: Request = REQUEST) -> Registered:
    found = await parts.registrar.register(request, ACTOR, key)
    assert isinstance(found, Registered), found
    return found


async def assert_converged(parts: Parts) -> None:
    """After a comparison, broker and Postgres hold the same keys."""
    await parts.reconciler.run()
    valid = {
        row["key_id"]
        for row in await parts.database.fetch(
            "SELECT key_id FROM device_credentials WHERE held_at IS NOT NULL AND ended_at IS NULL"
        )
    }
    assert await parts.broker_names() == valid


CRASHES = {
    "before it is saved": lambda parts, patch: crash_before(parts.store, "reserve", patch),
    "after it was saved": lambda parts, patch: crash_after(parts.store, "reserve", patch),
    "before the broker is told": lambda parts, patch: crash_before(parts.broker, "command", patch),
    "after the broker took the key": lambda parts, patch: crash_after(parts.broker, "command", patch),
    "before it is finished": lambda parts, patch: crash_before(parts.store, "finish", patch),
}


@pytest.mark.parametrize("where", CRASHES)
@pytest.mark.parametrize("key", [None, "once"])
async def test_after_a_crash_before_the_end_asking_again_registers(
    parts: Parts, monkeypatch: pytest.MonkeyPatch, where: str, key: str | None
) -> None:
    with monkeypatch.context() as patch:
        CRASHES[where](parts, patch)
        with pytest.raises(Crash):
            await parts.registrar.register(REQUEST, ACTOR, key)
    assert await parts.store.device(DEV) is None, "what was never answered is not there"
    assert (await Finder(parts.database).page(Filter(), after="", limit=10)).devices == []
    again = await register(parts, key)
    assert again.api_key is not None
    assert await connect_code(parts.port, DEV, again.api_key) == 0
    await assert_converged(parts)
    assert await parts.database.fetchval("SELECT count(*) FROM registry_outbox WHERE topic LIKE '%registry%'") == 1


async def test_after_a_crash_before_the_answer_the_same_request_gets_a_new_key_and_the_unseen_one_ends(
    parts: Parts, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        crash_after(parts.store, "finish", patch)
        with pytest.raises(Crash):
            await parts.registrar.register(REQUEST, ACTOR, "once")
    unseen = await parts.broker_names()
    assert len(unseen) == 1
    again = await register(parts, "once")
    assert again.api_key is not None
    assert await connect_code(parts.port, DEV, again.api_key) == 0
    assert await parts.broker_names() == {again.api_key.partition(".")[0]}
    await assert_converged(parts)


@pytest.mark.parametrize("where", ["after it was saved", "after the broker took the key"])
async def test_a_crash_while_a_key_is_renewed_leaves_the_first_one_valid(
    parts: Parts, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    first = await register(parts, "once")
    with monkeypatch.context() as patch:
        CRASHES[where](parts, patch)
        with pytest.raises(Crash):
            await parts.registrar.register(REQUEST, ACTOR, "once")
    assert first.api_key is not None
    assert await connect_code(parts.port, DEV, first.api_key) == 0
    again = await register(parts, "once")
    assert again.api_key is not None
    assert await connect_code(parts.port, DEV, again.api_key) == 0
    assert await connect_code(parts.port, DEV, first.api_key) == NOT_AUTHORIZED
    await parts.database.execute("UPDATE device_credentials SET created_at = created_at - interval '1 hour'")
    await assert_converged(parts)


async def test_a_key_in_use_is_not_ended_by_a_repeat(parts: Parts) -> None:
    first = await register(parts, "once")
    await parts.database.execute("UPDATE device_credentials SET last_used_at = now()")
    again = await register(parts, "once")
    assert again.api_key is None
    assert again.device.id == DEV
    assert first.api_key is not None
    assert await connect_code(parts.port, DEV, first.api_key) == 0


async def test_an_abandoned_registration_is_swept_with_its_key(parts: Parts, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        crash_before(parts.store, "finish", patch)
        with pytest.raises(Crash):
            await parts.registrar.register(REQUEST, ACTOR, "once")
    await parts.reconciler.run()
    assert len(await parts.broker_names()) == 1, "it may still be under way"
    await parts.database.execute("UPDATE devices SET created_at = created_at - interval '1 hour'")
    await parts.reconciler.run()
    assert await parts.broker_names() == set()
    for table in ("devices", "device_credentials", "idempotency_keys", "registry_outbox"):
        assert await parts.database.fetchval(f"SELECT count(*) FROM {table}") == 0, table


async def test_a_broker_that_does_not_answer_leaves_no_row(parts: Parts, monkeypatch: pytest.MonkeyPatch) -> None:
    async def away(*_: Any) -> None:
        raise Transient("the broker did not answer")

    with monkeypatch.context() as patch:
        patch.setattr(parts.broker, "command", away)
        with pytest.raises(Transient):
            await register(parts, "once")
    for table in ("devices", "device_credentials", "idempotency_keys", "registry_outbox", "audit_log"):
        assert await parts.database.fetchval(f"SELECT count(*) FROM {table}") == 0, table
    assert parts.woken, "the command may have been done: the reconciler is to look"
    first = await register(parts, "once")
    with monkeypatch.context() as patch:
        patch.setattr(parts.broker, "command", away)
        with pytest.raises(Transient):
            await register(parts, "once")
    assert await parts.database.fetchval("SELECT count(*) FROM device_credentials") == 1
    assert first.api_key is not None
    assert await connect_code(parts.port, DEV, first.api_key) == 0


async def test_many_at_once_for_one_id_end_with_one_device_and_one_key(parts: Parts) -> None:
    results = await asyncio.gather(
        *(parts.registrar.register(REQUEST, ACTOR, None) for _ in range(8)), return_exceptions=True
    )
    winners = [found for found in results if isinstance(found, Registered)]
    assert len(winners) == 1
    for found in results:
        lost = isinstance(found, Refused) and found.why in (Refusal.ID_TAKEN, Refusal.SERIAL_TAKEN)
        assert isinstance(found, Registered | Transient) or lost, found
    await assert_converged(parts)
    assert winners[0].api_key is not None
    assert await parts.broker_names() == {winners[0].api_key.partition(".")[0]}
    assert await connect_code(parts.port, DEV, winners[0].api_key) == 0


async def test_one_idempotency_key_many_times_at_once_is_one_device(parts: Parts) -> None:
    unnamed = Request("SN", "thermometer", Kind.DEVICE)
    await asyncio.gather(*(register(parts, "once", unnamed) for _ in range(20)))
    last = await register(parts, "once", unnamed)
    assert await parts.database.fetchval("SELECT count(*) FROM devices WHERE registered_at IS NOT NULL") == 1
    assert last.api_key is not None
    assert await connect_code(parts.port, last.device.id, last.api_key) == 0


async def test_repeats_at_two_processes_at_once_end_with_one_device(
    environment: dict[str, str], parts: Parts
) -> None:
    """Nothing but the database is between the two."""
    async with open_parts(environment) as other:
        await asyncio.gather(*(register(one, "once") for one in (parts, other) for _ in range(10)))
    assert await parts.database.fetchval("SELECT count(*) FROM devices WHERE registered_at IS NOT NULL") == 1
    await assert_converged(parts)


async def test_registrations_that_take_each_others_place_do_not_deadlock(parts: Parts) -> None:
    """Straight at the store, so that nothing but its locks keeps them apart: ids and serials crosswise, and ends."""
    requests = [
        Request(f"SN{serial}", "thermometer", Kind.DEVICE, DeviceId(f"dev{name}"))
        for serial in range(2)
        for name in range(2)
    ]

    digest = dynsec.hash_secret("secret", b"s" * dynsec.SALT_BYTES)

    async def reserve_and_end(number: int) -> None:
        key = NewKey(new_key_id(), digest)
        made = await parts.store.reserve(
            requests[number % 4], key, fresh_id=DEV, actor="actor", idempotency_key=str(number % 4)
        )
        if isinstance(made.decision, Create):
            if number % 3:
                await parts.store.abandon(key.key_id, made.decision.device_id)
            elif number > 150:
                await parts.store.finish(key.key_id, ACTOR)

    await asyncio.gather(*(reserve_and_end(number) for number in range(200)))


async def test_a_turn_that_does_not_come_is_transient_and_forgotten(
    parts: Parts, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registrar, "TURN_S", 0.1)
    async with parts.registrar._turns.turn((REQUEST.type, REQUEST.serial)):
        with pytest.raises(Transient, match="still under way"):
            await register(parts)
        await register(parts, None, Request("other", "thermometer", Kind.DEVICE))
    await register(parts)
    assert not parts.registrar._turns._locks


async def test_what_is_told_carries_versions_in_order(parts: Parts) -> None:
    gateway = Request("GW", "gateway", Kind.GATEWAY, DeviceId("gw"))
    await register(parts, None, gateway)
    await register(parts)
    for owner in (DeviceId("gw"), None, DeviceId("gw"), DeviceId("gw")):
        assert await parts.store.assign(DEV, owner, ACTOR) is True
    rows = await parts.database.fetch("SELECT ce_id FROM registry_outbox WHERE key = 'dev' ORDER BY seq")
    assert [row["ce_id"] for row in rows] == [
        text
        for n, change in enumerate(["registered", *["assigned"] * 3], 1)
        for text in (f"dev:{n}", f"dev:{n}:{change}")
    ]
    history = await parts.database.fetch("SELECT gateway_id, until_at FROM gateway_ownership ORDER BY from_at")
    assert [(row["gateway_id"], row["until_at"] is None) for row in history] == [("gw", False), ("gw", True)]
    audit = await parts.database.fetch("SELECT action FROM audit_log WHERE target = 'dev' ORDER BY id")
    assert [row["action"] for row in audit] == ["device.register", *["device.assign"] * 3]


async def test_assignments_that_make_no_sense(parts: Parts) -> None:
    await register(parts)
    await register(parts, None, Request("GW", "gateway", Kind.GATEWAY, DeviceId("gw")))
    refused = await parts.store.assign(DEV, DeviceId("nobody"), ACTOR)
    assert isinstance(refused, Refused)
    assert refused.why is Refusal.GATEWAY_UNKNOWN
    refused = await parts.store.assign(DeviceId("gw"), DeviceId("gw"), ACTOR)
    assert isinstance(refused, Refused)
    assert refused.why is Refusal.GATEWAY_BEHIND_GATEWAY
    assert await parts.store.assign(DeviceId("unknown"), None, ACTOR) is False
