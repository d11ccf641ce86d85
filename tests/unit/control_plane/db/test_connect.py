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
        asyncpg.InterfaceError("connection is closed"),
        asyncpg.InternalClientError("cannot switch to state 15; another operation (2) is in progress"),
    ],
)
def test_away_is_transient(error: Exception) -> None:
    assert isinstance(wrap(error), Transient)


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        (asyncpg.DeadlockDetectedError, "Postgres was busy (what happened)"),
        (asyncpg.SerializationError, "Postgres was busy (what happened)"),
        (asyncpg.LockNotAvailableError, "Postgres was busy (what happened)"),
        (asyncpg.QueryCanceledError, "Postgres was busy (what happened)"),
        (asyncpg.DiskFullError, "Postgres has no disk space left"),
        (asyncpg.CannotConnectNowError, "Postgres does not answer (what happened)"),
    ],
)
def test_a_server_that_answers_is_not_called_away_and_its_details_are_not_shown(
    kind: type[Exception], words: str
) -> None:
    found = wrap(kind("what happened\nDETAIL:  Process 4711 waits for ShareLock"))
    assert isinstance(found, Transient)
    assert found.args[0] == words


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
