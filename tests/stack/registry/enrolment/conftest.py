"""A hub's CA of these tests, requests as an agent makes them, and enrolment's parts on real servers."""

import hashlib
import itertools
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

import pytest

from control_plane.registry.enrolment.enroller import DrainWatch, Enrolled, Enroller
from control_plane.registry.enrolment.rules import Enrolment, Refusal, Refused
from control_plane.registry.enrolment.store import EnrolmentStore
from control_plane.registry.projector import Projector
from shared.authority import Actor, Role
from shared.config import Secret
from shared.enrolment_token import EnrolmentToken
from shared.ids import DeviceId, new_enrolment_id, new_secret
from tests.stack.registry.conftest import Parts

OPERATOR = Actor("t-operator", Role.OPERATOR, source="10.0.0.1")
_NUMBERS = itertools.count()


@dataclass
class Desk:
    """Enrolment in this process."""

    parts: Parts
    store: EnrolmentStore
    enroller: Enroller
    drains: DrainWatch

    async def token(
        self, *, uses: int = 1, lasts: timedelta = timedelta(hours=1), replaces: str | None = None, **labels: str
    ) -> EnrolmentToken:
        token = EnrolmentToken(new_enrolment_id(), Secret(new_secret()), "00" * 32)
        await self.store.make_token(
            token.id,
            token.hash,
            type_name="gateway",
            labels=labels,
            uses=uses,
            lasts=lasts,
            replaces=DeviceId(replaces) if replaces else None,
            actor=OPERATOR,
        )
        return token

    async def enrol(self, request: Enrolment) -> Enrolled:
        found = await self.enroller.enrol(request, "10.0.0.2")
        assert isinstance(found, Enrolled), found
        return found

    async def refused(self, request: Enrolment) -> Refusal:
        found = await self.enroller.enrol(request, "10.0.0.2")
        assert isinstance(found, Refused), found
        return found.why

    async def used(self, token: EnrolmentToken) -> int:
        row = await self.store.token(token.id)
        assert row is not None
        return row.token.used


@pytest.fixture
async def desk(parts: Parts) -> Desk:
    store = EnrolmentStore(parts.database)

    def named(device_id: str) -> str:
        return f"p-{hashlib.sha256(device_id.encode()).hexdigest()[:8]}"

    def wake() -> None:
        parts.woken.append(None)

    projector = Projector(parts.store, parts.broker, wake)
    enroller = Enroller(store, parts.broker, parts.registrar, named, wake)
    return Desk(parts, store, enroller, DrainWatch(store, projector, named))


def request(token: EnrolmentToken, hardware: str = "box", **changes: object) -> Enrolment:
    """As the agent on that hardware sends it, with a key pair of its own unless `public_key` is given."""
    digest = hashlib.sha256(hardware.encode())
    key = hashlib.sha256(f"{hardware}{next(_NUMBERS)}".encode()).digest()
    made = Enrolment(token.id, token.hash, f"SN-{hardware}", digest.hexdigest(), key)
    return replace(made, **changes)  # type: ignore[arg-type]


def past(hours: int) -> datetime:
    return datetime.now(UTC) - timedelta(hours=hours)
