"""`/v1/policies`: what is decided for the whole fleet, read and replaced; and how everybody else reads it.

A policy that nobody has set is its default in code, version 0. A change needs `If-Match`, so that of two people who
edit at once the second learns of the first.
"""

import json
import re
from importlib.resources import files
from typing import Annotated, Any, TypeVar

import msgspec
from fastapi import APIRouter, Body, Header, Response
from pydantic import BaseModel, RootModel

from control_plane.db import queries
from control_plane.db.connect import Connection, acquire, transaction
from control_plane.registry import events, journal, limits_record
from control_plane.registry.broker_policy import BrokerPolicy
from control_plane.registry.credentials.policy import CredentialsPolicy
from control_plane.registry.enrolment.policy import EnrolmentPolicy
from control_plane.registry.guard import Guard
from control_plane.registry.limits_policy import LimitsPolicy
from control_plane.registry.policy import Policy
from control_plane.registry.problem import Problem, ProblemRaised
from control_plane.registry.quarantine.rules import QuarantinePolicy
from control_plane.registry.rooms import Rooms
from shared.authority import Actor, Operation
from shared.errors import Permanent

POLICIES: dict[str, type[Policy]] = {
    kind.NAME: kind for kind in (LimitsPolicy, QuarantinePolicy, BrokerPolicy, EnrolmentPolicy, CredentialsPolicy)
}
"""Every policy that there is."""

_SQL = queries.parse((files(__package__) / "policies.sql").read_text(encoding="utf-8"))
_ETAG = re.compile(r'"(\d{1,18})"')

Kind = TypeVar("Kind", bound=Policy)


class PolicyView(BaseModel):
    """One policy: the whole document, and the version that `If-Match` names."""

    name: str
    version: int
    value: dict[str, Any]


class PolicyDocument(RootModel[dict[str, Any]]):
    """A policy's fields, as `PolicyView.value` shows them."""


class PolicyList(BaseModel):
    """All policies, in order of name."""

    policies: list[PolicyView]


async def load(db: Connection, kind: type[Kind]) -> Kind:
    """The policy as it is now; its default if it was never set. Raises Permanent if what is stored is none."""
    return (await _stored(db, kind))[0]


async def _stored(db: Connection, kind: type[Kind], *, hold: bool = False) -> tuple[Kind, int]:
    row = await db.fetchrow(_SQL["hold" if hold else "read"], kind.NAME)
    if row is None:
        return kind(), 0
    try:
        return msgspec.json.decode(row["value"], type=kind), row["version"]
    except msgspec.MsgspecError as error:
        words = f"the stored policy {kind.NAME} is none that this version knows ({error})"
        raise Permanent(words, hint=f"set it again: `hub policy set {kind.NAME}`") from error


def router(rooms: Rooms, guard: Guard) -> APIRouter:
    """The routes."""
    routes = APIRouter(tags=["policies"])
    reader, writer = guard.needs(Operation.POLICIES_READ), guard.needs(Operation.POLICIES_WRITE)

    @routes.get("/v1/policies", summary="List all policies", dependencies=[reader])
    async def list_policies() -> PolicyList:
        """Those that nobody has set are shown with their defaults, version 0."""
        async with acquire(rooms.database) as db:
            found = [_view(kind, await _stored(db, kind)) for _, kind in sorted(POLICIES.items())]
        return PolicyList(policies=found)

    @routes.get("/v1/policies/{name}", summary="Show a policy", dependencies=[reader])
    async def show_policy(name: str, response: Response) -> PolicyView:
        kind = _kind(name)
        async with acquire(rooms.database) as db:
            found = _view(kind, await _stored(db, kind))
        response.headers["ETag"] = f'"{found.version}"'
        return found

    @routes.put("/v1/policies/{name}", summary="Replace a policy")
    async def put_policy(
        name: str,
        body: Annotated[PolicyDocument, Body(examples=[LimitsPolicy().document()])],
        response: Response,
        actor: Annotated[Actor, writer],
        if_match: Annotated[str | None, Header(max_length=64)] = None,
    ) -> PolicyView:
        """The whole document: a field that is left out gets its default. `If-Match` names the version that it
        replaces.
        """
        kind = _kind(name)
        wanted = kind.read(json.dumps(body.root).encode())
        if not isinstance(wanted, Policy):
            words = "; ".join(f"{error.pointer or 'the body'}: {error.detail}" for error in wanted)
            raise ProblemRaised(Problem(422, words, "invalid", wanted))
        expected = _version(if_match)
        async with transaction(rooms.database) as db:
            version = await _replace(db, kind, wanted, expected, actor)
        events.PolicyChanged(name, version).emit()
        response.headers["ETag"] = f'"{version}"'
        return _view(kind, (wanted, version))

    return routes


async def _replace(db: Connection, kind: type[Policy], wanted: Policy, expected: int, actor: Actor) -> int:
    await db.execute(_SQL["make"], kind.NAME, json.dumps(kind().document()))
    before, version = await _stored(db, kind, hold=True)
    if version != expected:
        raise ProblemRaised(Problem(412, f"the policy has version {version} by now", "changed"))
    version = await db.fetchval(_SQL["replace"], kind.NAME, json.dumps(wanted.document()))
    assert isinstance(version, int), "the row is held"
    if isinstance(wanted, LimitsPolicy):
        await limits_record.tell(db)
    detail = {"version": version, "from": before.document(), "to": wanted.document()}
    await journal.audit(db, actor, "policy.set", f"policy:{kind.NAME}", detail)
    return version


def _kind(name: str) -> type[Policy]:
    kind = POLICIES.get(name)
    if kind is None:
        words = f"there is no such policy; there are {', '.join(sorted(POLICIES))}"
        raise ProblemRaised(Problem(404, words, "not-found"))
    return kind


def _version(if_match: str | None) -> int:
    if if_match is None:
        raise ProblemRaised(Problem(428, "name the version that you replace: If-Match", "precondition-needed"))
    found = _ETAG.fullmatch(if_match)
    if found is None:
        raise ProblemRaised(Problem(412, "If-Match is no version of a policy", "changed"))
    return int(found[1])


def _view(kind: type[Policy], stored: tuple[Policy, int]) -> PolicyView:
    return PolicyView(name=kind.NAME, version=stored[1], value=stored[0].document())
