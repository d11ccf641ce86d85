"""A driver's error becomes Transient, Permanent with what to do, or stays what it is. Real servers: tests/stack."""

import asyncpg
import pytest

from control_plane.db.connect import connect, database_errors, pool, wrap
from shared.errors import Permanent, Transient


@pytest.mark.parametrize(
    "error",
    [
        ConnectionRefusedError(111, "refused"),
        TimeoutError(),
        asyncpg.CannotConnectNowError("starting up"),
        asyncpg.AdminShutdownError("terminating"),
        asyncpg.ConnectionDoesNotExistError("gone"),
        asyncpg.DeadlockDetectedError("deadlock"),
        asyncpg.InterfaceError("connection is closed"),
        asyncpg.InternalClientError("cannot switch to state 15; another operation (2) is in progress"),
    ],
)
def test_away_is_transient(error: Exception) -> None:
    assert isinstance(wrap(error), Transient)


@pytest.mark.parametrize(
    ("error", "hint"),
    [
        (asyncpg.UndefinedTableError("no table"), "hub migrate"),
        (asyncpg.InvalidPasswordError("no"), "password"),
        (asyncpg.InvalidCatalogNameError("no"), "create the database"),
    ],
)
def test_set_up_is_permanent_and_says_what_to_do(error: Exception, hint: str) -> None:
    found = wrap(error)
    assert isinstance(found, Permanent)
    assert hint in found.hint


@pytest.mark.parametrize(
    "error", [asyncpg.UniqueViolationError("twice"), asyncpg.PostgresSyntaxError("x"), KeyError()]
)
def test_constraints_and_bugs_pass_unchanged(error: Exception) -> None:
    with pytest.raises(type(error)), database_errors():
        raise error


def test_ours_pass_unchanged() -> None:
    ours = Permanent("ours")
    with pytest.raises(Permanent) as caught, database_errors():
        raise ours
    assert caught.value is ours


async def test_nobody_listens_is_transient() -> None:
    with pytest.raises(Transient, match="Postgres does not answer"):
        await connect("postgresql://nobody:secret@127.0.0.1:1/none")


@pytest.mark.parametrize("url", ["http://u:secret@host/db", "postgresql://u:secret@h:port/db"])
async def test_no_address_is_permanent_and_shows_no_password(url: str) -> None:
    with pytest.raises(Permanent, match="HUB_DATABASE_URL") as caught:
        await connect(url)
    assert "secret" not in str(caught.value)
    with pytest.raises(Permanent, match="HUB_DATABASE_URL"):
        await pool(url)
