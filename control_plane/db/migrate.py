"""The schema's way: plain SQL files, each applied with its record in one transaction, one migrator at a time.

Promises: running it again changes nothing; a file that changed after it was applied, a database ahead of this code
and a file that comes too late are refused before anything is done. Leaves waiting for the server to the caller.
"""

import hashlib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from control_plane.db.connect import database_errors
from shared.errors import Permanent

if TYPE_CHECKING:
    import asyncpg

DIRECTORY = Path(__file__).parent / "migrations"
SCHEMA = Path(__file__).parent / "schema.sql"
"""All migrations' result, as one file to read; a test compares the two by the catalog."""

_LOCK = 0x4855_4201  # any number that only migrators take
_LOCK_WAIT_S = 60
_LONGEST_S = 24 * 3600.0
_NAME = re.compile(r"^(\d{4})_[a-z0-9_]+\.sql\Z")


@dataclass(frozen=True, slots=True)
class Migration:
    """One file. `sha256` is of its bytes, in hexadecimal."""

    number: int
    name: str
    sql: str
    sha256: str


def read_migrations(directory: Path = DIRECTORY) -> list[Migration]:
    """All files in order of their numbers. Raises Permanent for a name out of form or a number used twice."""
    found: dict[int, Migration] = {}
    for path in sorted(directory.glob("*.sql")):
        form = _NAME.match(path.name)
        if form is None:
            raise Permanent(f"{path.name} is no migration's name", hint="name it NNNN_words.sql")
        number = int(form[1])
        if number in found:
            raise Permanent(f"{path.name} and {found[number].name} have one number", hint="give one the next number")
        data = path.read_bytes()
        found[number] = Migration(number, path.name, data.decode(), hashlib.sha256(data).hexdigest())
    return list(found.values())


def pending(known: Sequence[Migration], applied: Iterable[tuple[int, str, str]]) -> list[Migration]:
    """What is to be applied, given the records (number, name, sha256). Raises Permanent where the two disagree."""
    by_number = {migration.number: migration for migration in known}
    newest = 0
    done: set[int] = set()
    for number, name, sha256 in applied:
        migration = by_number.get(number)
        if migration is None:
            raise Permanent(f"the database has {name}, which this hub does not know", hint="upgrade the hub")
        if migration.sha256 != sha256:
            raise Permanent(
                f"{migration.name} changed after it was applied", hint="restore the file, and add a new migration"
            )
        done.add(number)
        newest = max(newest, number)
    missing = [migration for migration in known if migration.number not in done]
    late = [migration.name for migration in missing if migration.number < newest]
    if late:
        raise Permanent(
            f"{', '.join(late)} would come after {by_number[newest].name}",
            hint="give it the next number",
        )
    return missing


async def apply(
    connection: "asyncpg.Connection[asyncpg.Record]", migrations: Sequence[Migration] | None = None
) -> list[str]:
    """Apply what is missing, in order; the names applied. Raises Transient (away, locked) or Permanent."""
    known = read_migrations() if migrations is None else migrations
    with database_errors():
        await connection.execute(f"SET lock_timeout = '{_LOCK_WAIT_S}s'")
        await connection.execute("SELECT pg_advisory_lock($1)", _LOCK, timeout=_LOCK_WAIT_S + 5)
        try:
            return await _apply_locked(connection, known)
        finally:
            await connection.execute("SELECT pg_advisory_unlock($1)", _LOCK)


async def _apply_locked(connection: "asyncpg.Connection[asyncpg.Record]", known: Sequence[Migration]) -> list[str]:
    await connection.execute(
        "CREATE TABLE IF NOT EXISTS schema_migrations ("
        " number integer PRIMARY KEY, name text NOT NULL, sha256 text NOT NULL,"
        " applied_at timestamptz NOT NULL DEFAULT now())"
    )
    rows = await connection.fetch("SELECT number, name, sha256 FROM schema_migrations ORDER BY number")
    missing = pending(known, [(row["number"], row["name"], row["sha256"]) for row in rows])
    for migration in missing:
        async with connection.transaction():
            # A migration may move much data; the driver takes no "unlimited".
            await connection.execute(migration.sql, timeout=_LONGEST_S)
            await connection.execute(
                "INSERT INTO schema_migrations (number, name, sha256) VALUES ($1, $2, $3)",
                migration.number,
                migration.name,
                migration.sha256,
            )
    return [migration.name for migration in missing]
