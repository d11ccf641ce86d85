"""Every process's window: `/metrics` (Prometheus), `/healthz` (it is alive), `/readyz` (it does its work).

A program may add pages of its own, each the JSON of what a function answers.

A thread of its own serves it, so `/readyz` answers while the loop is busy; what it asks must not block. That thread
lives when the work hangs: a program gives its `Beat` to whatever does the work (`lifecycle.run` for an event loop, a
job's own thread), and when that is silent for too long both pages say so with 503.
"""

import math
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

import msgspec
import prometheus_client

Readiness = Callable[[], list[str]]
"""What stands in the way of doing the work, a short sentence each; empty when ready. Called in another thread."""


_UNAVAILABLE = "503 Service Unavailable"
HUNG_S = 10.0
"""Silence of a beat that means a hang; whoever stamps one does so each second."""


class Beat:
    """A sign of life. `stamp` it each second from whatever must not hang.

    Silence counts from its making, or, where the work `begins_later`, from its first stamp.
    """

    def __init__(self, hung_s: float = HUNG_S, *, begins_later: bool = False) -> None:
        self._hung_s = hung_s
        self._at_s = math.inf if begins_later else time.monotonic()

    def stamp(self) -> None:
        """It lives."""
        self._at_s = time.monotonic()

    def hung(self) -> str:
        """That it was silent for too long, in words; else ""."""
        silent_s = time.monotonic() - self._at_s
        return f"hangs: no sign of life for {silent_s:.0f} s" if silent_s > self._hung_s else ""


class Health:
    """The server. `port` is the one it got (0 asks for a free one); `close` stops it.

    `pages`: further paths, such as "/ledger", and what they show; called in the server's thread like `readiness`.
    Without a `beat`, `/healthz` says no more than that the process exists.
    """

    def __init__(
        self,
        host: str,
        port: int,
        readiness: Readiness,
        pages: Mapping[str, Callable[[], object]] | None = None,
        *,
        beat: Beat | None = None,
    ) -> None:
        others = dict(pages or {})
        metrics = prometheus_client.make_wsgi_app()

        def answer(environ: dict[str, Any], start: Any) -> Iterable[bytes]:
            path = environ.get("PATH_INFO", "")
            if path == "/metrics":
                found: Iterable[bytes] = metrics(environ, start)
                return found
            hung = beat.hung() if beat is not None else ""
            if path == "/healthz":
                return _json(start, _UNAVAILABLE if hung else "200 OK", {"status": hung or "ok"})
            if path == "/readyz":
                missing = [hung, *readiness()] if hung else readiness()
                status = _UNAVAILABLE if missing else "200 OK"
                return _json(start, status, {"ready": not missing, "missing": missing})
            if path in others:
                return _json(start, "200 OK", others[path]())
            return _json(start, "404 Not Found", {"status": "no such page; try /metrics, /healthz, /readyz"})

        self._server = make_server(host, port, answer, WSGIServer, _Quiet)
        self.port = self._server.server_port
        self._thread = threading.Thread(target=self._server.serve_forever, name="health", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop serving; returns when the thread has ended."""
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


def _json(start: Any, status: str, body: object) -> list[bytes]:
    data = msgspec.json.encode(body)
    start(status, [("Content-Type", "application/json"), ("Content-Length", str(len(data)))])
    return [data]


class _Quiet(WSGIRequestHandler):
    """Requests are not events."""

    timeout = 5.0  # seconds a slow or silent caller may hold the one thread

    def log_message(self, *_: Any) -> None:
        return
