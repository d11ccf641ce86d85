"""Whatever changes a gateway's devices or its keys is told to it: by the database, whoever made the change."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from control_plane.db.connect import acquire
from control_plane.registry.nudger import Nudger
from shared.dynsec_document import SALT_BYTES, hash_secret
from shared.ids import DeviceId
from tests.stack.registry.conftest import Parts, until_async

DEVICES = (
    "INSERT INTO devices (id, serial, type, kind, status, registered_at) SELECT $1, $1, 't', $2, 'active', now()"
)
CHANGES = {
    "put behind it": ("INSERT INTO gateway_ownership VALUES ('free', 'gw', now())", ["gw"]),
    "moved": (
        (
            "UPDATE gateway_ownership SET until_at = now() WHERE device_id = 'dev';"
            "INSERT INTO gateway_ownership VALUES ('dev', 'gw-2', clock_timestamp())"
        ),
        ["gw", "gw-2"],
    ),
    "suspended": ("UPDATE devices SET status = 'suspended' WHERE id = 'dev'", ["gw"]),
    "its device's key ended": ("UPDATE device_credentials SET ended_at = now() WHERE key_id = 'k:dev'", ["gw"]),
    "its own key is given an end": ("UPDATE device_credentials SET not_after = now() WHERE key_id = 'k:gw'", ["gw"]),
    "of a direct device": ("UPDATE devices SET status = 'suspended' WHERE id = 'free'", []),
    "only used": ("UPDATE device_credentials SET last_used_at = now() WHERE key_id = 'k:dev'", []),
}


@pytest.fixture
async def nudged(parts: Parts, environment: dict[str, str]) -> AsyncIterator[list[str]]:
    """The gateways in order; whoever is nudged last is `last`."""
    async with acquire(parts.database) as db:
        await db.execute("INSERT INTO device_types (name) VALUES ('t')")
        for name in ("gw", "gw-2", "last"):
            await db.execute(DEVICES, name, "gateway")
        for name in ("dev", "free", "mark"):
            await db.execute(DEVICES, name, "device")
        await db.execute("INSERT INTO gateway_ownership VALUES ('dev', 'gw', now() - interval '1 minute')")
        for name in ("gw", "dev"):
            await db.execute(
                "INSERT INTO device_credentials (key_id, device_id, api_key_hash, held_at)"
                " VALUES ('k:' || $1, $1, $2, now())",
                name,
                hash_secret("s", b"s" * SALT_BYTES),
            )
    told: list[str] = []

    async def nudge(gateway: DeviceId) -> None:
        told.append(gateway)

    serving = asyncio.ensure_future(Nudger(environment["HUB_DATABASE_URL"], nudge).serve())
    try:
        async with acquire(parts.database) as db:
            while not told:  # it listens
                await db.execute("SELECT pg_notify('registry_nudge', 'begin')")
                await asyncio.sleep(0.05)
        yield told
    finally:
        serving.cancel()
        await asyncio.gather(serving, return_exceptions=True)


@pytest.mark.parametrize("name", CHANGES)
async def test_a_change_reaches_the_gateways_that_it_concerns(parts: Parts, nudged: list[str], name: str) -> None:
    statements, expected = CHANGES[name]
    async with acquire(parts.database) as db:
        await db.execute(statements)
        await db.execute("INSERT INTO gateway_ownership VALUES ('mark', 'last', now())")
    await until_async(lambda: "last" in nudged, "the mark came")
    assert [name for name in nudged if name not in ("begin", "last")] == expected
