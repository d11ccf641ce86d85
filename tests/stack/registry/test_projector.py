"""One device's records at the broker follow its status and its keys at once, ahead of whatever waits."""

import asyncio

import aiomqtt

from control_plane.db.connect import transaction
from control_plane.registry import dynsec, moves
from control_plane.registry.life import Move
from deploy.stack.mosquitto import Mosquitto
from shared.authority import Actor, Role
from shared.ids import DeviceId
from tests.stack.registry.conftest import NOT_AUTHORIZED, Parts, connect_code, until_async
from tests.stack.registry.test_reconciler import add

ACTOR = Actor("actor", Role.OPERATOR)


async def move(parts: Parts, name: str, wanted: Move) -> None:
    async with transaction(parts.database) as db:
        assert await moves.move(db, ACTOR, DeviceId(name), wanted)


async def connected(parts: Parts, name: str, key: str) -> "asyncio.Task[int]":
    """A session that stays until the broker ends it; the reason code with which it does."""
    there = asyncio.Event()

    async def stay() -> int:
        key_id, _, secret = key.partition(".")
        try:
            async with aiomqtt.Client(
                "127.0.0.1", parts.port, username=key_id, password=secret, identifier=name,
                protocol=aiomqtt.ProtocolVersion.V5,
            ) as client:  # fmt: skip
                there.set()
                async for _ in client.messages:
                    pass
        except aiomqtt.MqttError:
            return 1
        return 0

    task = asyncio.create_task(stay())
    await there.wait()
    return task


async def test_a_quarantine_closes_the_session_and_a_release_opens_the_door(parts: Parts) -> None:
    key = await add(parts, "dev")
    other = await add(parts, "other")
    session, others = await connected(parts, "dev", key), await connected(parts, "other", other)
    await move(parts, "dev", Move.QUARANTINE)
    assert await parts.projector.device(DeviceId("dev"))
    async with asyncio.timeout(5):
        assert await session == 1
    assert await connect_code(parts.port, "dev", key) == NOT_AUTHORIZED
    await move(parts, "dev", Move.RELEASE)
    assert await parts.projector.device(DeviceId("dev"))
    assert await connect_code(parts.port, "dev", key) == 0
    assert not others.done()
    assert parts.woken == []
    others.cancel()


async def test_a_revocation_deletes_the_record_while_five_hundred_commands_wait(parts: Parts) -> None:
    key = await add(parts, "dev")
    session = await connected(parts, "dev", key)
    waiting = [
        asyncio.create_task(parts.broker.command(dynsec.get_client(key.partition(".")[0]), patient=True))
        for _ in range(500)
    ]
    await asyncio.sleep(0)
    parts.broker._turns.pause(3)  # as after a command that took the broker long
    await move(parts, "dev", Move.REVOKE)
    assert await parts.projector.device(DeviceId("dev"))
    assert sum(task.done() for task in waiting) < 3
    async with asyncio.timeout(2):
        assert await session == 1
    for task in waiting:
        task.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)
    assert await parts.broker_names() == set()
    assert await connect_code(parts.port, "dev", key) == NOT_AUTHORIZED


async def test_a_record_that_is_not_there_hurts_nobody(parts: Parts) -> None:
    key = await add(parts, "dev")
    await parts.broker.command(dynsec.delete_client(key.partition(".")[0]))
    await move(parts, "dev", Move.SUSPEND)
    assert await parts.projector.device(DeviceId("dev"))
    assert await parts.projector.device(DeviceId("nobody"))


async def test_with_the_broker_away_it_is_owed_and_done_first_when_it_is_back(
    parts: Parts, broker_server: Mosquitto
) -> None:
    key = await add(parts, "dev")
    parts.broker._deadline_s = 0.5
    await asyncio.to_thread(broker_server.kill)
    await move(parts, "dev", Move.SUSPEND)  # saved; the command never reaches the broker
    assert not await parts.projector.device(DeviceId("dev"))
    assert len(parts.woken) == 1
    await asyncio.to_thread(broker_server.start)
    assert parts.projector.owed == 1
    serving = asyncio.create_task(parts.projector.serve())
    await until_async(lambda: parts.projector.owed == 0, "what was owed is done")
    serving.cancel()
    assert await connect_code(parts.port, "dev", key) == NOT_AUTHORIZED
