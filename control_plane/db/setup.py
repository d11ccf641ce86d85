"""`hub migrate`: all that must exist before a service starts.

Promises: the schema at its present version, Kafka's topics, the first admin token and the pseudonym key; each step is
safe to repeat, and a crash between two of them is mended by the next run. Waits for servers that are away, up to a
deadline, and names them all.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from control_plane.db import api_token, kafka, migrate, secret_files
from control_plane.db.connect import connect, database_errors
from shared.config import Secret, setting
from shared.errors import HubError, Permanent, Transient

T = TypeVar("T")
Say = Callable[[str], None]

_RETRY_S = 0.5
_SAY_EVERY_S = 5.0


@dataclass(frozen=True, slots=True)
class SetupConfig:
    """What `hub migrate` reads."""

    database_url: Secret = setting("HUB_DATABASE_URL", "postgresql://user:password@host:port/database")
    kafka_bootstrap: str = setting("HUB_KAFKA_BOOTSTRAP", "host:port of a Kafka broker")
    data_dir: Path = setting("HUB_DATA_DIR", "the hub's own directory")
    admin_token_file: Path = setting("HUB_ADMIN_TOKEN_FILE", "where the first admin token stands")
    pseudonym_key_file: Path | None = setting(
        "HUB_PSEUDONYM_KEY_FILE", "the pseudonyms' key; default pseudonym.key in HUB_DATA_DIR", default=None
    )
    kafka_partitions: int = setting("HUB_KAFKA_PARTITIONS", "partitions of a topic, chosen once", default=4)
    kafka_replication: int = setting("HUB_KAFKA_REPLICATION", "copies of each partition", default=1)
    kafka_min_isr: int = setting("HUB_KAFKA_MIN_ISR", "copies that must confirm a write", default=1)
    kafka_flow_days: int = setting("HUB_KAFKA_FLOW_DAYS", "days that raw and normalized are kept", default=7)
    kafka_event_days: int = setting("HUB_KAFKA_EVENT_DAYS", "days that the other topics are kept", default=30)

    def problems(self) -> list[str]:
        """Rules that span fields."""
        found = [
            f"{name}: is not at least 1"
            for name, value in (
                ("HUB_KAFKA_PARTITIONS", self.kafka_partitions),
                ("HUB_KAFKA_REPLICATION", self.kafka_replication),
                ("HUB_KAFKA_MIN_ISR", self.kafka_min_isr),
                ("HUB_KAFKA_FLOW_DAYS", self.kafka_flow_days),
                ("HUB_KAFKA_EVENT_DAYS", self.kafka_event_days),
            )
            if value < 1
        ]
        if self.kafka_min_isr > self.kafka_replication:
            found.append("HUB_KAFKA_MIN_ISR: is larger than HUB_KAFKA_REPLICATION; nothing could be written")
        return found


@dataclass(frozen=True, slots=True)
class Done:
    """What a run changed; empty lists and False where all stood already."""

    migrations: list[str]
    topics: kafka.Report
    admin_token_made: bool
    pseudonym_key_made: bool


async def set_up(config: SetupConfig, *, wait_s: float, say: Say) -> Done:
    """Bring all into place; `say` hears what is waited for.

    Raises Transient naming every server that did not answer within `wait_s` seconds, or Permanent.
    """
    deadline = time.monotonic() + wait_s
    key_file = config.pseudonym_key_file or config.data_dir / "pseudonym.key"
    key_made = secret_files.ensure_pseudonym_key(key_file)
    token, token_made = secret_files.ensure_token(config.admin_token_file)
    topics = kafka.wanted(
        config.kafka_partitions,
        config.kafka_replication,
        config.kafka_min_isr,
        config.kafka_flow_days,
        config.kafka_event_days,
    )
    database, made = await asyncio.gather(
        _until(deadline, say, lambda: _database(config.database_url, token)),
        _until(deadline, say, lambda: kafka.ensure_topics(config.kafka_bootstrap, topics)),
        return_exceptions=True,
    )
    failures = [result for result in (database, made) if isinstance(result, BaseException)]
    for failure in failures:
        if not isinstance(failure, HubError):
            raise failure
    if failures:
        kind = Permanent if any(isinstance(failure, Permanent) for failure in failures) else Transient
        raise kind("; ".join(str(failure) for failure in failures))
    assert isinstance(database, list)
    assert isinstance(made, kafka.Report)
    return Done(database, made, token_made, key_made)


async def _database(url: str, token: str) -> list[str]:
    connection = await connect(url, application="hub migrate")
    try:
        applied = await migrate.apply(connection)
        split = api_token.split_token(token)
        assert split is not None, "ensure_token looked at it"
        name, secret = split
        with database_errors():
            row = await connection.fetchrow(
                "INSERT INTO api_tokens (id, name, role, token_hash) VALUES ($1, 'first', 'admin', $2)"
                " ON CONFLICT (id) DO UPDATE SET id = excluded.id RETURNING revoked_at, token_hash",
                name,
                api_token.token_hash(secret),
            )
        assert row is not None
        if row["revoked_at"] is not None or row["token_hash"] != api_token.token_hash(secret):
            raise Permanent(
                "the token in HUB_ADMIN_TOKEN_FILE is revoked or altered",
                hint="remove the file and run `hub migrate` again for a new one",
            )
        return applied
    finally:
        await connection.close()


async def _until(deadline: float, say: Say, attempt: Callable[[], Awaitable[T]]) -> T:
    said = 0.0
    while True:
        try:
            return await attempt()
        except Transient as error:
            now = time.monotonic()
            if now + _RETRY_S >= deadline:
                raise
            if now - said >= _SAY_EVERY_S:
                said = now
                say(f"waiting: {error}")
            await asyncio.sleep(_RETRY_S)
