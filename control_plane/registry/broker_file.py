"""`hub broker-file`: the broker's whole file from Postgres, for a broker that lost its records.

A hash enters a broker only by its file and a start, so this is the way back for keys whose secrets nobody knows. Used
while the broker is down; what is registered in between is reconciled away or announced after its start.
"""

import asyncio
import json
import os
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from control_plane.db.connect import pool
from control_plane.registry import dynsec
from control_plane.registry.dynsec import BrokerClient
from control_plane.registry.store import Store
from shared.config import ConfigError, Secret, load, read_secret, setting
from shared.errors import Permanent


@dataclass(frozen=True, slots=True)
class BrokerFileConfig:
    """What `hub broker-file` reads."""

    database_url: Secret = setting("HUB_DATABASE_URL", "postgresql://user:password@host:port/database")
    service_secrets_file: Path = setting("HUB_SERVICE_SECRETS_FILE", "our services' broker passwords")


def main(env: Mapping[str, str], out: Path) -> int:
    """Write the file, mode 0600, whole or not at all; how many records it has. Raises HubError."""
    config = load(BrokerFileConfig, env)
    clients = [*_services(config.service_secrets_file), *asyncio.run(_devices(config.database_url))]
    text = json.dumps(dynsec.document(clients))
    unfinished = out.with_name(f"{out.name}.{os.getpid()}.new")
    try:
        handle = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            with os.fdopen(handle, "w", encoding="ascii") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            _keep_owner(out, unfinished)
            unfinished.replace(out)
        finally:
            unfinished.unlink(missing_ok=True)
    except OSError as error:
        raise Permanent(f"{out} cannot be written: {error.strerror}") from error
    return len(clients)


def _services(path: Path) -> list[BrokerClient]:
    try:
        found = json.loads(str(read_secret(path)))
        return [BrokerClient(name, _hash(secret)) for name, secret in found.items()]
    except (ValueError, AttributeError) as error:
        raise ConfigError([f"HUB_SERVICE_SECRETS_FILE: {path} is no JSON object of secrets"]) from error


def _hash(secret: str) -> str:
    return dynsec.hash_secret(secret, secrets.token_bytes(dynsec.SALT_BYTES))


async def _devices(url: str) -> list[BrokerClient]:
    database = await pool(url, size=1, application="hub broker-file")
    try:
        keys = await Store(database).broker_hashes()
    finally:
        await database.close()
    return [
        BrokerClient(key_id, password_hash, client_id=device_id, disabled=not enabled)
        for key_id, device_id, password_hash, enabled in keys
    ]


def _keep_owner(old: Path, new: Path) -> None:
    """The broker runs as a user of its own; a file that replaces its file must stay readable to it."""
    if old.exists():
        stat = old.stat()
        os.chown(new, stat.st_uid, stat.st_gid)
