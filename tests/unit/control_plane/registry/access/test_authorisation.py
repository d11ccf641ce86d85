"""Every route of the real API against the one table of rights, row by row: route by role by scope.

A route without a guard is a failure unless it stands in `OPEN`, with its reason.
"""

import itertools
import re
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute

from control_plane.db.api_token import split_token, token_hash
from control_plane.registry import api
from control_plane.registry.access.attempts import Failure
from control_plane.registry.access.logins import Logins
from control_plane.registry.access.token_uses import TokenUses
from control_plane.registry.doors import LARGE
from control_plane.registry.guard import operation_of
from control_plane.registry.tokens import Stored
from shared.authority import RULES, Operation, Role, family

OPEN = {
    "/healthz": "a window",
    "/readyz": "a window",
    "/metrics": "a window, with counts and pseudonyms only",
    "/schemas/{name}.json": "published contracts",
    "/openapi.json": "the published contract",
    "/v1/ca": "a public certificate, which an enrolment token pins",
    "/v1/enroll": "the enrolment token in the request is looked at",
    "/v1/self": "the device's own key is asked for",
    "/v1/self/": "the device's own key is asked for",
    "/internal/mqtt/": "the broker's own secret is asked for",
}
"""Routes (or, ending in a slash, all below one) that no API token opens, and what stands there instead."""

_ASKED = itertools.count()
SECRET = "secret-of-the-test"


class Wall:
    """In place of every part of the registry: who gets this far was let in."""

    def __getattr__(self, name: str) -> Any:
        raise AssertionError(f"reached {name}")


class Tokens(Wall):
    """Store of tokens named `t-<role>-<scope>`."""

    async def token(self, token_id: str) -> Stored | None:
        found = re.match(r"t-(viewer|operator|admin)-(.*)", token_id)
        if found is None:
            return None
        role, scope = found.groups()
        return Stored(token_id, Role[role.upper()], token_hash(SECRET), frozenset({scope} if scope else ()))


async def _no_write(_: object) -> None:
    return


def _rooms() -> Any:
    class Rooms(Wall):
        store = Tokens()
        logins = Logins()
        token_uses = TokenUses(_no_write)

    return Rooms()


def _operations(dependant: Dependant) -> Iterator[Operation]:
    for inner in dependant.dependencies:
        operation = operation_of(inner.call)
        if operation is not None:
            yield operation
        yield from _operations(inner)


APP: Any = api.build(_rooms(), list)


def _routes() -> list[tuple[str, str, list[Operation]]]:
    found = []
    for route in APP._app.routes:
        operations = list(_operations(route.dependant)) if isinstance(route, APIRoute) else []
        found += [(method, route.path, operations) for method in sorted(route.methods - {"HEAD", "OPTIONS"})]
    return sorted(found)


ROUTES = _routes()
GUARDED = [(method, path, operations[0]) for method, path, operations in ROUTES if operations]


def is_open(path: str) -> bool:
    return any(path == known or (known.endswith("/") and path.startswith(known)) for known in OPEN)


async def ask(method: str, path: str, token: str | None) -> int:
    address = f"192.0.2.{next(_ASKED) % 250}"  # nobody here fails too often
    transport = httpx.ASGITransport(APP, raise_app_exceptions=False, client=(address, 1))
    headers = {"Authorization": f"Bearer {token}.{SECRET}"} if token else {}
    async with httpx.AsyncClient(transport=transport, base_url="http://hub", headers=headers) as rest:
        lines = {"Content-Type": "text/csv"} if (method, path) in LARGE else {}
        return (await rest.request(method, re.sub(r"\{[^}]*\}", "x", path), headers=lines)).status_code


@pytest.mark.parametrize(("method", "path", "operations"), ROUTES, ids=[f"{m} {p}" for m, p, _ in ROUTES])
def test_each_route_has_one_guard_or_is_known_to_be_open(method: str, path: str, operations: list[Operation]) -> None:
    assert len(operations) == (0 if is_open(path) else 1), f"{method} {path} names {operations}"


def test_what_is_listed_as_open_is_there_or_expected() -> None:
    """An entry that fits nothing hides the next mistake."""
    paths = {path for _, path, _ in ROUTES}
    unused = {known for known in OPEN if not any(path == known or path.startswith(known) for path in paths)}
    assert unused <= {"/internal/mqtt/", "/v1/self/"}


def test_a_verb_that_changes_names_an_operation_that_changes() -> None:
    """And one that reads needs no more than a right to read."""
    reading = {"read", "export", "whois"}
    wrong = [
        f"{method} {path}: {operation}"
        for method, path, operation in GUARDED
        if (method == "GET") != (operation.partition(":")[2] in reading)
        and not (method == "POST" and operation is Operation.DEVICES_WHOIS)  # it leaves a line in the audit log
    ]
    assert wrong == []


@pytest.mark.parametrize(("method", "path", "operation"), GUARDED, ids=[f"{m} {p}" for m, p, _ in GUARDED])
async def test_each_row(method: str, path: str, operation: Operation) -> None:
    """Who may: anything but 401 and 403 (the request is empty, so mostly 422, or the wall). Who may not: 403."""
    assert await ask(method, path, None) == 401
    assert await ask(method, path, f"t-root-{next(_ASKED)}") == 401
    other = "types" if family(operation) != "types" else "groups"
    for role in Role:
        name = role.name.lower()
        may = role >= RULES[operation]
        for scope in ("", family(operation), operation.value):
            status = await ask(method, path, f"t-{name}-{scope}")
            assert (status not in (401, 403)) if may else (status == 403), (name, scope, status)
        for scope in (other, f"{other}:write"):
            assert await ask(method, path, f"t-{name}-{scope}") == 403


@pytest.mark.parametrize("ended", [Failure.EXPIRED, Failure.REVOKED])
async def test_a_token_that_ended_opens_nothing(ended: Failure, monkeypatch: pytest.MonkeyPatch) -> None:
    async def token(_: Tokens, token_id: str) -> Stored:
        return Stored(token_id, Role.ADMIN, token_hash(SECRET), ended=ended)

    monkeypatch.setattr(Tokens, "token", token)
    assert {await ask(method, path, f"t-admin-{next(_ASKED)}") for method, path, _ in GUARDED} == {401}


def test_the_tests_tokens_are_of_our_form() -> None:
    assert split_token(f"t-admin-devices:read.{SECRET}") is not None
