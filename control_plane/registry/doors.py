"""What stands before every REST route: the size of a body, the time it may take, and the count of requests.

Plain ASGI, so that a body over its limit is refused while it arrives and not after it was read.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from control_plane.registry.events import RequestServed
from control_plane.registry.problem import Problem, ProblemRaised

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

BODY_BYTES = 64 * 1024
BODY_S = 10.0
LARGE_BYTES = 256 * 1024 * 1024
LARGE_SILENCE_S = 30.0
LARGE = {("POST", "/v1/devices:import"): (b"application/x-ndjson", b"application/jsonl", b"text/csv")}
"""Routes that read their bodies piece by piece, and what these may be; the token is judged before the first one."""


class Doors:
    """Wraps `app`."""

    def __init__(self, app: App, *, body_bytes: int = BODY_BYTES, body_s: float = BODY_S) -> None:
        self._app = app
        self._body_bytes = body_bytes
        self._body_s = body_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = time.monotonic()
        status = 500

        async def counted(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            large = LARGE.get((scope["method"], scope.get("path", "")))
            if large is not None:
                if _kinds(scope).isdisjoint(large):
                    kinds = b", ".join(large).decode()
                    await _answer(Problem(415, f"send the body as one of {kinds}", "not-lines"), counted)
                    return
                await self._app(scope, _measured(receive), counted)
                return
            body = await self._body(receive)
            if not isinstance(body, Problem) and body and not _is_json(scope):
                body = Problem(415, "send the body with Content-Type: application/json", "not-json")
            if isinstance(body, Problem):
                await _answer(body, counted)
            else:
                await self._app(scope, _replay(body, receive), counted)
        finally:
            # The template, never the path: paths hold ids. A path that no route matched is not told apart.
            route = getattr(scope.get("route"), "path", "none")
            RequestServed(scope["method"], route, status, time.monotonic() - started).emit()

    async def _body(self, receive: Receive) -> bytes | Problem:
        parts: list[bytes] = []
        size = 0
        try:
            async with asyncio.timeout(self._body_s):
                while True:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        return b"".join(parts)
                    part = message.get("body", b"")
                    size += len(part)
                    if size > self._body_bytes:
                        return Problem(413, f"the body is larger than {self._body_bytes} bytes", "too-large")
                    parts.append(part)
                    if not message.get("more_body", False):
                        return b"".join(parts)
        except TimeoutError:
            return Problem(408, f"the body did not arrive within {self._body_s:.0f} s", "too-slow")


def _is_json(scope: Scope) -> bool:
    return not _kinds(scope).isdisjoint((b"application/json", b"application/merge-patch+json"))


def _kinds(scope: Scope) -> set[bytes]:
    kinds = [value for name, value in scope["headers"] if name == b"content-type"]
    return {kind.split(b";")[0].strip().lower() for kind in kinds}


def _measured(receive: Receive) -> Receive:
    """A large body's pieces; leaves with 413 or 408 where the sum or the wait is too long."""
    size = 0
    whole = False

    async def piece() -> Message:
        nonlocal size, whole
        if whole:
            return await receive()  # the client waits for the answer now, however long that takes
        try:
            async with asyncio.timeout(LARGE_SILENCE_S):
                message = await receive()
        except TimeoutError:
            detail = f"nothing arrived for {LARGE_SILENCE_S:.0f} s"
            raise ProblemRaised(Problem(408, detail, "too-slow"), _CLOSE) from None
        whole = not message.get("more_body", False)
        size += len(message.get("body", b""))
        if size > LARGE_BYTES:
            raise ProblemRaised(Problem(413, f"the body is larger than {LARGE_BYTES} bytes", "too-large"), _CLOSE)
        return message

    return piece


_CLOSE = {"Connection": "close"}
"""The rest of the body is not read, so the connection cannot be used again."""


def _replay(body: bytes, receive: Receive) -> Receive:
    given = False

    async def again() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return again


async def _answer(problem: Problem, send: Send) -> None:
    body = problem.body()
    headers = [(name.lower().encode(), value.encode()) for name, value in problem.headers().items()]
    # The rest of the body is not read, so the connection cannot be used again.
    headers += [(b"content-length", str(len(body)).encode()), (b"connection", b"close")]
    await send({"type": "http.response.start", "status": problem.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
