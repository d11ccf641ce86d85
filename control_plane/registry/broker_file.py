"""The broker's whole file: `hub broker-file` writes it by hand, `rebuild` beside the running broker's.

A hash enters a broker only by its file and a start, so this is the way back for keys whose secrets nobody knows, and
the way in for many keys at once. The file is mode 0600 and written whole or not at all.
"""

import asyncio
import json
import os
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from control_plane.db.connect import pool
from control_plane.registry.mqtt_door.secrets import BROKER
from control_plane.registry.projection_store import ProjectionStore
from shared.config import ConfigError, Secret, load, read_secret, setting
from shared.dynsec_document import SALT_BYTES, BrokerClient, document, hash_secret
from shared.errors import Permanent


@dataclass(frozen=True, slots=True)
class BrokerFileConfig:
    """What `hub broker-file` reads."""

    database_url: Secret = setting("HUB_DATABASE_URL", "postgresql://user:password@host:port/database")
    service_secrets_file: Path = setting("HUB_SERVICE_SECRETS_FILE", "our services' broker passwords")


def main(env: Mapping[str, str], out: Path) -> int:
    """Write the file; how many records it has. Raises HubError. Used while the broker is down: a running one would
    overwrite it; what is registered in between is reconciled away or announced after its start.
    """
    config = load(BrokerFileConfig, env)
    clients = [*service_clients(config.service_secrets_file), *asyncio.run(_devices(config.database_url))]
    write(out, clients)
    return len(clients)


def write(out: Path, clients: Sequence[BrokerClient], *, owner_of: Path | None = None) -> None:
    """Make `out` the file with exactly these clients, owned as `owner_of` is (None: as `out` is), if that is there.

    Raises Permanent if it cannot be written.
    """
    text = json.dumps(document(clients))
    unfinished = out.with_name(f"{out.name}.{os.getpid()}.new")
    try:
        handle = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            with os.fdopen(handle, "w", encoding="ascii") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            _keep_owner(owner_of or out, unfinished)
            unfinished.replace(out)
            _sync_directory(out.parent)
        finally:
            unfinished.unlink(missing_ok=True)
    except OSError as error:
        raise Permanent(f"{out} cannot be written: {error.strerror}") from error


def service_clients(path: Path) -> list[BrokerClient]:
    """Records of our own services, from HUB_SERVICE_SECRETS_FILE. Raises ConfigError."""
    try:
        found = json.loads(str(read_secret(path)))
        return [
            BrokerClient(name, hash_secret(secret, secrets.token_bytes(SALT_BYTES)))
            for name, secret in found.items()
            if name != BROKER
        ]
    except (ValueError, AttributeError) as error:
        raise ConfigError([f"HUB_SERVICE_SECRETS_FILE: {path} is no JSON object of secrets"]) from error


async def _devices(url: str) -> list[BrokerClient]:
    database = await pool(url, size=1, application="hub broker-file")
    try:
        _, records = await ProjectionStore(database).file()
        return [record.client for record in records]
    finally:
        await database.close()


def _keep_owner(old: Path, new: Path) -> None:
    """The broker runs as a user of its own; a file that replaces its file must stay readable to it."""
    if old.exists():
        stat, mine = old.stat(), new.stat()
        if (stat.st_uid, stat.st_gid) != (mine.st_uid, mine.st_gid):
            os.chown(new, stat.st_uid, stat.st_gid)


def _sync_directory(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
