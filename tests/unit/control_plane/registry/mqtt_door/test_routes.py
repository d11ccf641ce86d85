"""What a broker that asks by HTTP is told, as tables."""

from collections.abc import Mapping
from datetime import datetime
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from control_plane.registry import api
from control_plane.registry.credentials.store import StoredKey
from control_plane.registry.mqtt_door import routes
from control_plane.registry.mqtt_door.secrets import DoorSecrets
from shared.config import Secret
from shared.device import Kind, Status
from shared.dynsec_document import SALT_BYTES, hash_secret
from shared.ids import DeviceId, KeyId

HASH = hash_secret("good", b"s" * SALT_BYTES)
DOOR = DoorSecrets(Secret("door-secret"), {"_ingest": Secret("of-ingest")})
HEADER = "Bearer door-secret"


class Keys:
    """Keys that are valid now, by their ids; ended and foreign ones are simply not found (queries.sql)."""

    def __init__(self) -> None:
        self.used: list[str] = []

    async def presented(self, key_id: KeyId) -> StoredKey | None:
        statuses = {f"k:{status.value}": status for status in Status}
        if key_id not in statuses:
            return None
        return StoredKey(DeviceId("dev"), HASH, Kind.DEVICE, statuses[key_id], key_id == "k:provisioned")

    async def use(self, uses: Mapping[KeyId, datetime]) -> None:
        self.used += uses


async def ask(
    path: str,
    body: bytes | dict[str, Any],
    header: str | None = HEADER,
    *,
    door: DoorSecrets = DOOR,
    keys: Any = None,
) -> httpx.Response:
    keys = keys or Keys()
    rooms: Any = SimpleNamespace(credentials=keys, rings=keys, door_secrets=door)
    app = FastAPI()
    app.include_router(routes.router(rooms, None))  # type: ignore[arg-type]  # it needs no guard
    api._refusals(app)
    content = body if isinstance(body, bytes) else httpx.Request("POST", "http://x", json=body).content
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://hub") as rest:
        headers = {"Authorization": header} if header is not None else {}
        return await rest.post(f"/internal/mqtt/{path}", content=content, headers=headers)


@pytest.mark.parametrize(
    ("username", "password", "client_id", "allowed"),
    [
        ("k:active", "good", "dev", True),
        ("k:provisioned", "good", "dev", True),
        ("k:active", "wrong", "dev", False),
        ("k:active", "", "dev", False),
        ("k:active", HASH, "dev", False),
        ("k:active", "good", "other", False),
        ("k:active", "good", "", False),
        ("k:active", "good", "_ingest-0", False),
        ("k:active", "good", "DEV", False),
        ("k:pending", "good", "dev", False),
        ("k:quarantined", "good", "dev", False),
        ("k:suspended", "good", "dev", False),
        ("k:retired", "good", "dev", False),
        ("k:unknown", "good", "dev", False),
        ("dev", "good", "dev", False),
        ("", "", "", False),
        ("k:active\0", "good", "dev", False),
        ("k:active' OR '1'='1", "good", "dev", False),
        ("_ingest", "of-ingest", "_ingest-0", True),
        ("_ingest", "wrong", "_ingest-0", False),
        ("_ingest", "", "_ingest-0", False),
        ("_ingest", "of-ingest", "dev", False),
        ("_monitor", "", "_monitor-0", False),
        ("_nobody", "", "_nobody", False),
        ("_broker", "door-secret", "_broker", False),
    ],
)
async def test_who_is_let_in(username: str, password: str, client_id: str, allowed: bool) -> None:
    answer = await ask("auth", {"username": username, "password": password, "clientid": client_id})
    assert answer.status_code == 200
    assert answer.json()["result"] == ("allow" if allowed else "deny")
    assert answer.json().get("is_superuser", False) is False


@pytest.mark.parametrize(
    ("username", "client_id", "action", "topic", "allowed"),
    [
        ("k:a", "dev", "publish", "devices/dev/telemetry", True),
        ("k:a", "dev", "subscribe", "devices/dev/commands/#", True),
        ("k:a", "dev", "publish", "devices/other/telemetry", False),
        ("k:a", "dev", "subscribe", "#", False),
        ("k:a", "dev", "subscribe", "$SYS/#", False),
        ("k:a", "_ingest-0", "subscribe", "devices/+/telemetry", False),
        ("_ingest", "_ingest-0", "subscribe", "devices/+/telemetry", True),
    ],
)
async def test_what_they_may_do(username: str, client_id: str, action: str, topic: str, allowed: bool) -> None:
    body = {"username": username, "clientid": client_id, "action": action, "topic": topic, "qos": 1}
    answer = await ask("acl", body)
    assert (answer.status_code, answer.json()["result"]) == (200, "allow" if allowed else "deny")


@pytest.mark.parametrize("path", ["auth", "acl"])
@pytest.mark.parametrize(
    "body",
    [b"", b"{}", b"[]", b"\xff", b"null", b'{"username": 1, "password": "", "clientid": ""}', b"[" * 5_000],
)
async def test_what_cannot_be_read_is_denied(path: str, body: bytes) -> None:
    answer = await ask(path, body)
    assert (answer.status_code, answer.json()) == (200, {"result": "deny"})


@pytest.mark.parametrize("path", ["auth", "acl"])
@pytest.mark.parametrize(
    ("header", "door"),
    [
        (None, DOOR),
        ("", DOOR),
        ("Bearer", DOOR),
        ("Bearer wrong", DOOR),
        ("Bearer door-secre", DOOR),
        ("Basic door-secret", DOOR),
        ("Bearer of-ingest", DOOR),
        ("Bearer ", DoorSecrets(None, {})),
        ("Bearer", DoorSecrets(None, {})),
        (None, DoorSecrets(None, {})),
        (HEADER, DoorSecrets(None, {})),
    ],
)
async def test_whoever_does_not_show_the_brokers_secret_learns_nothing(
    path: str, header: str | None, door: DoorSecrets
) -> None:
    body = {"username": "k:active", "password": "good", "clientid": "dev", "topic": "x", "action": "publish"}
    assert (await ask(path, body, header, door=door)).status_code == 401


async def test_a_connect_is_a_use_of_the_key_unless_it_was_just_noted() -> None:
    keys = Keys()
    for name in ("k:active", "k:provisioned", "k:suspended"):
        await ask("auth", {"username": name, "password": "good", "clientid": "dev"}, keys=keys)
    assert keys.used == ["k:active"]
