"""The commands' HTTP manners, against a real HTTP server in this process."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from control_plane.db.secret_files import ensure_token
from control_plane.registry.rest_client import ClientConfig, NotFound, RestClient
from shared.errors import HubError, Permanent, Transient

Answer = tuple[int, dict[str, Any]]


@contextmanager
def server(answers: list[Answer]) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """Gives `answers` in order; what was asked is collected."""
    asked: list[dict[str, Any]] = []

    class Handler(BaseHTTPRequestHandler):
        def answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            asked.append({"path": self.path, "headers": dict(self.headers), "body": json.loads(body or b"null")})
            status, found = answers.pop(0)
            data = b"" if status == 204 else json.dumps(found).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = answer  # noqa: N815 - the names that the library looks for

        def log_message(self, *_: Any) -> None:
            return

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        thread = threading.Thread(target=http.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{http.server_port}", asked
        finally:
            http.shutdown()
            thread.join()


@pytest.fixture
def token_file(tmp_path: Path) -> Path:
    ensure_token(tmp_path / "token")
    return tmp_path / "token"


def test_a_creation_is_sent_again_under_one_key(token_file: Path) -> None:
    away = {"detail": "away"}
    with (
        server([(503, away), (503, away), (201, {"id": "dev"})]) as (url, asked),
        RestClient(ClientConfig(url, token_file)) as rest,
    ):
        assert rest.create("/v1/devices", {"serial": "S"}) == {"id": "dev"}
    assert len(asked) == 3
    assert len({request["headers"]["Idempotency-Key"] for request in asked}) == 1
    assert {request["headers"]["Authorization"] for request in asked} == {f"Bearer {token_file.read_text().strip()}"}
    assert asked[0]["body"] == {"serial": "S"}


@pytest.mark.parametrize(
    ("status", "kind", "words"),
    [
        (404, NotFound, "no such device"),
        (401, Permanent, "HUB_ADMIN_TOKEN_FILE"),
        (409, Permanent, "no such device"),
        (503, Transient, "no such device"),
        (429, Transient, "no such device"),
    ],
)
def test_refusals_in_the_apis_words(token_file: Path, status: int, kind: type[HubError], words: str) -> None:
    with (
        server([(status, {"detail": "no such device"})]) as (url, _),
        RestClient(ClientConfig(url, token_file)) as rest,
        pytest.raises(kind, match=words),
    ):
        rest.get("/v1/devices/x")


def test_an_answer_that_is_no_problem_is_told_by_its_status(token_file: Path) -> None:
    with (
        server([(502, {})]) as (url, _),
        RestClient(ClientConfig(url, token_file)) as rest,
        pytest.raises(Permanent, match="502"),
    ):
        rest.get("/")


def test_all_pages(token_file: Path) -> None:
    answers: list[Answer] = [
        (200, {"devices": [{"id": "a"}], "next_cursor": "c1"}),
        (200, {"devices": [{"id": "b"}], "next_cursor": None}),
    ]
    with server(answers) as (url, asked), RestClient(ClientConfig(url, token_file)) as rest:
        found = list(rest.pages("/v1/devices", "devices", kind="gateway", gateway_id=None))
    assert found == [{"id": "a"}, {"id": "b"}]
    assert asked[0]["path"] == "/v1/devices?limit=500&kind=gateway"
    assert "cursor=c1" in asked[1]["path"]


def test_nobody_answers(token_file: Path) -> None:
    with (
        RestClient(ClientConfig("http://127.0.0.1:1", token_file)) as rest,
        pytest.raises(Transient, match="is `hub serve` running"),
    ):
        rest.get("/v1/devices")
