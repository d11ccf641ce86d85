"""Postgres for every room: one pool a process, and the driver's errors wrapped once.

Promises: a pool that connects on first use, bounded in size and in every wait; an error of connection, start or
shutdown becomes Transient, one of set-up becomes Permanent with what to do. Leaves to the rooms' stores what a
violated constraint means.
"""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import asyncpg

from shared.errors import HubError, Permanent, Transient

if TYPE_CHECKING:
    Pool = asyncpg.Pool[asyncpg.Record]
    Connection = asyncpg.pool.PoolConnectionProxy[asyncpg.Record] | asyncpg.Connection[asyncpg.Record]
else:
    Pool = asyncpg.Pool
    Connection = asyncpg.Connection

CONNECT_S = 5.0
STATEMENT_S = 30.0
ACQUIRE_S = 5.0
"""The longest wait for a free connection of the pool, connecting included."""

_AWAY = (
    OSError,
    TimeoutError,
    asyncpg.PostgresConnectionError,
    asyncpg.CannotConnectNowError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    asyncpg.TooManyConnectionsError,
    asyncpg.InternalClientError,  # what a rollback raises on a connection that was lost in mid-statement
)
_BUSY = (
    asyncpg.DeadlockDetectedError,
    asyncpg.SerializationError,
    asyncpg.LockNotAvailableError,
    asyncpg.QueryCanceledError,
)
_SET_UP = {
    asyncpg.InvalidAuthorizationSpecificationError: "check user and password in HUB_DATABASE_URL",
    asyncpg.InvalidCatalogNameError: "create the database that HUB_DATABASE_URL names",
    asyncpg.UndefinedTableError: "run `hub migrate`",
    asyncpg.UndefinedColumnError: "run `hub migrate`",
    asyncpg.UndefinedFunctionError: "run `hub migrate`",
    asyncpg.InsufficientPrivilegeError: "give the user of HUB_DATABASE_URL the rights of the schema's owner",
}


async def pool(url: str, *, size: int = 8, application: str = "hub") -> Pool:
    """A pool of at most `size` connections; nothing is connected yet, so this does not fail for a server away.

    Raises Permanent for an address that is none. Close it with `await pool.close()`.
    """
    _check(url)
    made: Pool = await asyncpg.create_pool(
        url,
        min_size=0,
        max_size=size,
        timeout=CONNECT_S,
        command_timeout=STATEMENT_S,
        server_settings={"application_name": application},
    )
    return made


async def connect(url: str, *, application: str = "hub") -> "asyncpg.Connection[asyncpg.Record]":
    """One connection of one's own: for advisory locks and LISTEN. Raises Transient or Permanent."""
    _check(url)
    with database_errors():
        return await asyncpg.connect(
            url,
            timeout=CONNECT_S,
            command_timeout=STATEMENT_S,
            server_settings={"application_name": application},
        )


@asynccontextmanager
async def acquire(pool: Pool) -> AsyncIterator[Connection]:
    """A connection of the pool within ACQUIRE_S; the driver's errors in the block are wrapped too."""
    with database_errors():
        async with pool.acquire(timeout=ACQUIRE_S) as connection:
            yield connection


@asynccontextmanager
async def transaction(pool: Pool) -> AsyncIterator[Connection]:
    """As `acquire`, in one transaction: committed at the block's end, rolled back by an exception."""
    async with acquire(pool) as connection, connection.transaction():
        yield connection


@contextmanager
def database_errors() -> Iterator[None]:
    """Turn the driver's errors into ours, once; constraint violations and our own bugs pass unchanged."""
    try:
        yield
    except HubError:
        raise
    except asyncio.CancelledError:
        raise
    except Exception as error:
        wrapped = wrap(error)
        if wrapped is None:
            raise
        raise wrapped from error


def wrap(error: Exception) -> HubError | None:
    """What a driver's error means to a caller, or None if it is not about the server or its set-up."""
    for kind, hint in _SET_UP.items():
        if isinstance(error, kind):
            return Permanent(f"Postgres: {_words(error)}", hint=hint)
    if isinstance(error, _BUSY):
        return Transient(f"Postgres was busy ({_words(error)})", hint="try again")
    if isinstance(error, asyncpg.DiskFullError):  # its words name a file of the server: no caller's business
        return Transient("Postgres has no disk space left", hint="make room on the disk of its server")
    if isinstance(error, _AWAY) or (isinstance(error, asyncpg.InterfaceError) and "clos" in str(error)):
        return Transient(f"Postgres does not answer ({_words(error)})", hint="is the server of HUB_DATABASE_URL up?")
    return None


def _words(error: Exception) -> str:
    """The first line alone: what follows is the server's DETAIL, with process ids and rows, and goes to clients."""
    return str(error).partition("\n")[0] or type(error).__name__


def _check(url: str) -> None:
    """Before the driver reads it, whose words for a mistake hold the address and with it the password."""
    try:
        parts = urlsplit(url)
        sound = parts.scheme in ("postgresql", "postgres") and parts.port != 0
    except ValueError:
        sound = False
    if not sound:
        raise Permanent("HUB_DATABASE_URL is not an address", hint="write postgresql://user:password@host:port/base")
