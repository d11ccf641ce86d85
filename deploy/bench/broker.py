"""The broker with 20,000 identities: how long its rebuild takes, how soon a revocation closes a session while keys
are rotated, and what other clients feel of it.
"""

import asyncio
import secrets
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import aiomqtt

from control_plane.db.connect import pool, transaction
from control_plane.registry import dynsec, moves
from control_plane.registry.broker import Broker, service_secret
from control_plane.registry.broker_restart import BrokerRestart
from control_plane.registry.life import Move
from control_plane.registry.projector import Projector
from control_plane.registry.rebuild import Rebuild
from control_plane.registry.reconciler import Reconciler
from control_plane.registry.store import Store
from deploy.bench.rig import Rig
from deploy.demo.judge import percentile
from shared.authority import Actor, Role
from shared.dynsec_document import SALT_BYTES, hash_secret
from shared.errors import Transient
from shared.ids import DeviceId

IDENTITIES = 20_000
_REVOCATIONS = 15
_EVERY_S = 0.7
_PUBLISHES_PER_S = 100
_PACE_S = 5.0
_ACTOR = Actor("bench", Role.ADMIN)
_DEADLINE_S = 60.0


@dataclass(frozen=True, slots=True)
class _Parts:
    store: Store
    broker: Broker
    projector: Projector
    rebuild: Rebuild
    reconciler: Reconciler
    port: int


def identities(runs: int) -> dict[str, list[float]]:
    """One set of servers; each run rebuilds an empty broker and then revokes while a rotation runs."""
    with Rig() as rig:
        _seed(rig)
        return asyncio.run(_measure(rig, runs))


async def _measure(rig: Rig, runs: int) -> dict[str, list[float]]:
    found: dict[str, list[float]] = {}
    for run in range(runs):
        await asyncio.to_thread(_empty, rig)
        async with _parts(rig) as parts:
            for name, value in (await _one(parts, run)).items():
                found.setdefault(name, []).append(value)
    return found


async def _one(parts: _Parts, run: int) -> dict[str, float]:
    started = time.monotonic()
    rebuilt = await parts.rebuild.run("bench", _ACTOR, announce_s=0)
    rebuild_s = time.monotonic() - started
    if rebuilt.records < IDENTITIES:
        raise Transient(f"the broker holds {rebuilt.records} records only")
    started = time.monotonic()
    repair = await parts.reconciler.run()
    if repair.missing_count or repair.commands:
        raise Transient("the rebuilt broker is not what it should be")
    compare_s = time.monotonic() - started
    rotated: list[float] = []
    latencies: list[float] = []
    tasks = [
        asyncio.create_task(_rotate(parts.broker, rotated)),
        asyncio.create_task(_publish(parts.port, latencies)),
    ]
    try:
        await asyncio.sleep(_PACE_S)
        closed_ms = [await _revoke(parts, run * _REVOCATIONS + number) for number in range(_REVOCATIONS)]
    finally:
        for task in tasks:
            task.cancel()
        ended = await asyncio.gather(*tasks, return_exceptions=True)
    for error in ended:
        if isinstance(error, Exception):
            raise error
    p99 = percentile(latencies, 0.99)
    if p99 is None or len(rotated) < 2:
        raise Transient("nothing was published or rotated meanwhile")
    return {
        "broker_rebuild_s": rebuild_s,
        "broker_compare_s": compare_s,
        "revoke_to_closed_ms": max(closed_ms),
        "broker_publish_p99_ms_meanwhile": p99,
        "broker_rotations_per_s": (len(rotated) - 1) / (rotated[-1] - rotated[0]),
    }


async def _rotate(broker: Broker, done: list[float]) -> None:
    """As a scheduled rotation does: a new key, then the old one deleted, at the broker's pace."""
    previous = None
    while True:
        name = f"k:rotated{secrets.token_hex(6)}"
        await broker.command(dynsec.create_client(name, "s", "rotated"), patient=True)
        done.append(time.monotonic())
        if previous is not None:
            await broker.command(dynsec.delete_client(previous), patient=True)
            done.append(time.monotonic())
        previous = name


async def _publish(port: int, latencies_ms: list[float]) -> None:
    """A device that sends all the while; from the send to the broker's PUBACK."""
    async with _client(port, IDENTITIES) as client:
        client.pending_calls_threshold = 10_000

        async def one(due: float) -> None:
            await client.publish(f"devices/{_device(IDENTITIES)}/telemetry", b"{}", qos=1, timeout=_DEADLINE_S)
            latencies_ms.append((time.monotonic() - due) * 1_000)  # from when it was due, whatever kept it

        due = time.monotonic()
        async with asyncio.TaskGroup() as tasks:
            while True:
                tasks.create_task(one(due))
                due += 1 / _PUBLISHES_PER_S
                await asyncio.sleep(max(0.0, due - time.monotonic()))


async def _revoke(parts: _Parts, number: int) -> float:
    """Milliseconds from the decision, its save included, to the end of the device's session."""
    there = asyncio.Event()
    closed_at = 0.0

    async def stay() -> None:
        nonlocal closed_at
        try:
            async with _client(parts.port, number + 1) as client:
                there.set()
                async for _ in client.messages:
                    pass
        except aiomqtt.MqttError:
            closed_at = time.monotonic()

    session = asyncio.create_task(stay())
    async with asyncio.timeout(_DEADLINE_S):
        await there.wait()
        await asyncio.sleep(_EVERY_S)
        started = time.monotonic()
        device_id = DeviceId(_device(number + 1))
        async with transaction(parts.store._pool) as db:
            await moves.move(db, _ACTOR, device_id, Move.REVOKE)
        await parts.projector.device(device_id)
        await session
    return (closed_at - started) * 1_000


def _client(port: int, number: int) -> aiomqtt.Client:
    return aiomqtt.Client(
        "127.0.0.1", port, username=f"k:{_device(number)}", password="s", identifier=_device(number),
        protocol=aiomqtt.ProtocolVersion.V5, timeout=_DEADLINE_S,
    )  # fmt: skip


def _device(number: int) -> str:
    return f"dev{number:06}"


def _empty(rig: Rig) -> None:
    """The broker lost its file, and nobody but our services may connect."""
    broker = rig.stack.mosquitto
    broker.stop()
    broker.write_clients([])
    broker.start()


def _seed(rig: Rig) -> None:
    digest = hash_secret("s", b"s" * SALT_BYTES)
    count = IDENTITIES
    for statement in (
        "INSERT INTO device_types (name) VALUES ('bench')",
        (
            "INSERT INTO devices (id, serial, type, kind, status, registered_at)"
            " SELECT 'dev' || lpad(n::text, 6, '0'), n::text, 'bench', 'device', 'active', now()"
            f" FROM generate_series(1, {count}) AS n"
        ),
        (
            "INSERT INTO device_credentials (key_id, device_id, api_key_hash, held_at)"
            f" SELECT 'k:' || id, id, '{digest}', now() FROM devices"
        ),
    ):
        rig.stack.postgres.psql(statement, rig.env["HUB_DATABASE_URL"].rpartition("/")[2])


@asynccontextmanager
async def _parts(rig: Rig) -> AsyncIterator[_Parts]:
    env = rig.env
    secrets_file = Path(env["HUB_SERVICE_SECRETS_FILE"])
    stopping = asyncio.Event()
    database = await pool(env["HUB_DATABASE_URL"])
    try:
        async with asyncio.TaskGroup() as tasks:
            store = Store(database)
            secret = service_secret(secrets_file, "_registry")
            broker = Broker(env["HUB_MQTT_URL"], secret, deadline_s=_DEADLINE_S, on_connect=lambda: None)
            tasks.create_task(broker.serve(stopping))
            projector = Projector(store, broker, lambda: None)
            restart = BrokerRestart(Path(env["HUB_BROKER_FILE"]), env["HUB_BROKER_RESTART_COMMAND"])
            rebuild = Rebuild(
                database, env["HUB_DATABASE_URL"], store, broker, restart, secrets_file, projector.device
            )
            reconciler = Reconciler(store, broker, env["HUB_DATABASE_URL"])
            port = int(env["HUB_MQTT_URL"].rpartition(":")[2])
            try:
                yield _Parts(store, broker, projector, rebuild, reconciler, port)
            finally:
                stopping.set()
    finally:
        await database.close()
