"""What stands before each route: a good token, and the right to the operation.

Every route names one `Operation`; the rule is in `shared.authority`. A refusal says no more than a stranger may know,
and who fails too often is told to wait (`access.logins`).
"""

from collections.abc import Awaitable, Callable
from typing import Annotated, Any

from fastapi import Depends, Header, Request

from control_plane.registry import tokens
from control_plane.registry.access.attempts import Failure
from control_plane.registry.access.logins import Logins
from control_plane.registry.access.token_uses import TokenUses
from control_plane.registry.problem import Problem, ProblemRaised
from control_plane.registry.store import Store
from shared.authority import Actor, Operation, refusal

UNAUTHENTICATED = Problem(401, "send a valid token: Authorization: Bearer TOKEN", "unauthenticated")
DOOR = "api"


class Guard:
    """Makes the dependencies of routes. `needs(operation)` gives the actor, or leaves with 401, 403 or 429."""

    def __init__(self, store: Store, logins: Logins, uses: TokenUses) -> None:
        self._store = store
        self._logins = logins
        self._uses = uses

    def needs(self, operation: Operation) -> Any:
        """A FastAPI dependency whose value is the `Actor`."""
        return Depends(self._actor(operation))

    def _actor(self, operation: Operation) -> Callable[..., Awaitable[Actor]]:
        async def actor(
            request: Request, authorization: Annotated[str | None, Header(include_in_schema=False)] = None
        ) -> Actor:
            source = request.client.host if request.client else None
            presented = tokens.read_header(authorization)

            async def look() -> Actor | Failure:
                if presented is None:
                    return Failure.MALFORMED if authorization else Failure.MISSING
                return tokens.check(presented, await self._store.token(presented.id), source)

            name = presented.id if presented else None
            found = await self._logins.attempt(DOOR, source, name, look, UNAUTHENTICATED)
            self._uses.note(found.id)
            why = refusal(found, operation)
            if why is not None:
                raise ProblemRaised(Problem(403, why, "forbidden"))
            return found

        actor.operation = operation  # type: ignore[attr-defined]  # read by the test of the whole table
        return actor


def operation_of(dependency: Any) -> Operation | None:
    """The operation that a route's dependency guards, if it is one of ours."""
    found = getattr(dependency, "operation", None)
    return found if isinstance(found, Operation) else None
