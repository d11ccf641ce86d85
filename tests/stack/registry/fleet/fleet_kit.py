"""Rows of a registry without the API: for tests of what reads and changes them."""

import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

from control_plane.db import migrate
from control_plane.db.connect import Connection, Pool, connect, pool
from shared.authority import Actor, Role

ACTOR = Actor("t-someone", Role.ADMIN, source="192.0.2.7")


@asynccontextmanager
async def registry(url: str) -> AsyncIterator[Pool]:
    """A migrated database's pool."""
    connection = await connect(url)
    try:
        await migrate.apply(connection)
    finally:
        await connection.close()
    async with await pool(url) as database:
        yield database


async def put(db: Connection | Pool, name: str, **more: Any) -> None:
    """One registered device by SQL; `gateway_id` puts it behind a gateway."""
    row: Mapping[str, Any] = {
        "serial": f"SN-{name}",
        "type": "thermometer",
        "kind": "device",
        "status": "active",
    } | more
    await db.execute("INSERT INTO device_types (name) VALUES ($1) ON CONFLICT DO NOTHING", row["type"])
    await db.execute(
        "INSERT INTO devices (id, serial, type, kind, status, labels, registered_at)"
        " VALUES ($1, $2, $3, $4, $5, $6, now())",
        name,
        row["serial"],
        row["type"],
        row["kind"],
        row["status"],
        json.dumps(row.get("labels", {})),
    )
    if row.get("gateway_id"):
        await db.execute("INSERT INTO gateway_ownership VALUES ($1, $2, now(), NULL)", name, row["gateway_id"])
