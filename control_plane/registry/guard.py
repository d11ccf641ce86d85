"""What stands before each route: a good token, and the right to the operation.

Every route names one `Operation`; the rule is in `shared.authority`. A refusal says no more than a stranger may know.
"""

from collections.abc import Awaitable, Callable
from typing import Annotated, Any

from fastapi import Depends, Header, Request

from control_plane.registry import tokens
from control_plane.registry.problem import Problem, ProblemRaised
from control_plane.registry.store import Store
from shared.authority import Actor, Operation, refusal

UNAUTHENTICATED = Problem(401, "send a valid token: Authorization: Bearer TOKEN", "unauthenticated")


class Guard:
    """Makes the dependencies of routes. `needs(operation)` gives the actor, or leaves with 401 or 403."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def needs(self, operation: Operation) -> Any:
        """A FastAPI dependency whose value is the `Actor`."""
        return Depends(self._actor(operation))

    def _actor(self, operation: Operation) -> Callable[..., Awaitable[Actor]]:
        async def actor(
            request: Request, authorization: Annotated[str | None, Header(include_in_schema=False)] = None
        ) -> Actor:
            source = request.client.host if request.client else None
            presented = tokens.read_header(authorization)
            stored = await self._store.token(presented.id) if presented else None
            found = tokens.check(presented, stored, source) if presented else None
            if found is None:
                raise ProblemRaised(UNAUTHENTICATED)
            why = refusal(found, operation)
            if why is not None:
                raise ProblemRaised(Problem(403, why, "forbidden"))
            return found

        return actor
