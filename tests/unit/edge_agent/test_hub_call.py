"""A call to the hub in a child: what is sent, what comes back, and that nothing secret shows."""

import asyncio
import http.server
import json
import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from edge_agent import hub_call
from edge_agent.hub_call import Call, Hub, call
from shared.config import Secret
from shared.errors import Permanent, Transient

KEY = Secret("k:abc.very-secret-half")


class Door(http.server.BaseHTTPRequestHandler):
    """Answers with what it was sent; the path is the status."""

    def do_POST(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        said: Any = {"headers": dict(self.headers), "body": self.rfile.read(length).decode(), "path": self.path}
        if self.path == "/big":
            said = {"big": "x" * (hub_call.MOST_BYTES + 1)}
        body = b"<html>" if self.path == "/502" else json.dumps(said).encode()
        self.send_response(int(self.path[1:4]) if self.path[1:4].isdigit() else 200)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Retry-After", "7")
        self.send_header("Location", "/200")
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_POST  # noqa: N815 - the library's way

    def log_message(self, *_: object) -> None:
        """Nothing."""


@contextmanager
def serving() -> Iterator[Hub]:
    server = http.server.HTTPServer(("127.0.0.1", 0), Door)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield Hub(f"http://127.0.0.1:{server.server_address[1]}")
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def hub() -> Iterator[Hub]:
    with serving() as found:
        yield found


async def test_the_key_goes_by_pipe_and_arrives_as_the_bearer(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    argv: list[Any] = []
    real = asyncio.create_subprocess_exec

    async def watched(*words: Any, **more: Any) -> Any:
        argv.extend([*words, *map(str, more.values())])
        return await real(*words, **more)

    monkeypatch.setattr(asyncio, "create_subprocess_exec", watched)
    request = Call("POST", "/v1/self", KEY, {"a": 1}, {"Idempotency-Key": "once"})
    answer = await call(hub, request)
    said: Any = answer.body
    assert answer.status == 200
    assert said["headers"]["Authorization"] == f"Bearer {KEY}"
    assert said["headers"]["Idempotency-Key"] == "once"
    assert (said["headers"]["Content-Type"], said["body"]) == ("application/json", '{"a":1}')
    assert not [word for word in argv if "secret-half" in str(word)]
    assert "secret-half" not in repr(request)


@pytest.mark.parametrize("status", [302, 401, 404, 409, 503])
async def test_every_status_is_an_answer(hub: Hub, status: int) -> None:
    answer = await call(hub, Call("GET", f"/{status}"))
    assert (answer.status, answer.retry_after_s) == (status, 7)
    assert answer.body["path"] == f"/{status}", "a redirect is not followed: it could lead the key elsewhere"


async def test_a_body_that_is_no_json_is_empty(hub: Hub) -> None:
    assert (await call(hub, Call("GET", "/502"))).body == {}


async def test_an_answer_too_large_is_refused(hub: Hub) -> None:
    with pytest.raises(Permanent, match="larger"):
        await call(hub, Call("GET", "/big"))


async def test_a_hub_that_is_away_is_transient(hub: Hub) -> None:
    with pytest.raises(Transient, match="does not answer"):
        await call(Hub("http://127.0.0.1:9"), Call("GET", "/"))


@pytest.mark.parametrize("url", ["mqtt://h:1", "https://", ""])
async def test_an_address_that_is_none_is_permanent(url: str) -> None:
    with pytest.raises(Permanent, match="https://host:port"):
        await call(Hub(url), Call("GET", "/"))


async def test_a_child_that_hangs_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    silent = socket.create_server(("127.0.0.1", 0))  # the system accepts, and nobody answers
    port = silent.getsockname()[1]
    monkeypatch.setattr(hub_call, "_KILL_S", 0.2)
    try:
        with pytest.raises(Transient):
            await call(Hub(f"http://127.0.0.1:{port}"), Call("GET", "/", deadline_s=0.5))
    finally:
        silent.close()


def certificate(directory: Path, name: str, host: str) -> tuple[Path, Path]:
    key, cert = directory / f"{name}.key", directory / f"{name}.pem"
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"),
            *("-keyout", str(key), "-out", str(cert), "-days", "1", "-subj", "/CN=hub", "-addext"),
            f"subjectAltName={host}",
        ],
        check=True,
        capture_output=True,
    )
    return key, cert


@pytest.mark.parametrize(("trusted", "host"), [("own", "IP:127.0.0.1"), ("other", "IP:127.0.0.1"), ("own", "DNS:x")])
async def test_only_the_hub_of_our_ca_is_asked(tmp_path: Path, trusted: str, host: str) -> None:
    key, cert = certificate(tmp_path, "own", host)
    _, other = certificate(tmp_path, "other", host)
    server = http.server.HTTPServer(("127.0.0.1", 0), Door)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(cert, key)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    asked = Hub(f"https://127.0.0.1:{server.server_address[1]}", str(cert if trusted == "own" else other))
    try:
        if (trusted, host) == ("own", "IP:127.0.0.1"):
            assert (await call(asked, Call("GET", "/"))).status == 200
        else:
            with pytest.raises(Permanent, match="not trusted"):
                await call(asked, Call("GET", "/", KEY))
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


async def test_a_ca_file_that_is_missing_or_none(tmp_path: Path) -> None:
    none = tmp_path / "ca.pem"
    with pytest.raises(Permanent, match="missing"):
        await call(Hub("https://127.0.0.1:9", str(none)), Call("GET", "/"))
    none.write_text("no certificate")
    with pytest.raises(Permanent, match="TLS"):
        await call(Hub("https://127.0.0.1:9", str(none)), Call("GET", "/"))


def test_a_request_that_is_none_is_said() -> None:
    assert b"no request" in hub_call.main(b"{}")
