"""The misuse matrix at REST: each guarded route with each bad token, and what else a stranger may send."""

import itertools
import json
import socket
import uuid
from typing import Any

import httpx
import pytest

from control_plane.db.api_token import split_token, token_hash
from control_plane.db.secret_files import new_token
from tests.security.conftest import World, names_in_logs
from tests.security.rest_tries import BAD_HEADERS, DOORS, UNGUARDED, Door, too_low

pytestmark = [pytest.mark.stack, pytest.mark.timeout(300)]
TOKENS = {
    "admin": ("admin", [], None, None),
    "operator": ("operator", [], None, None),
    "viewer": ("viewer", [], None, None),
    "narrow": ("admin", ["types"], None, None),
    "narrow to groups": ("admin", ["groups"], None, None),
    "expired": ("admin", [], "now() - interval '1 second'", None),
    "revoked": ("admin", [], None, "now()"),
}


@pytest.fixture(scope="module")
def tokens_by_door(world: World) -> dict[str, dict[str, str]]:
    """A token of each kind for each door, straight into the database: a name that fails too often is made to wait."""
    rows = []
    made: dict[str, dict[str, str]] = {}
    for door in (*(door.name for door in DOORS), ""):
        made[door] = {}
        for name, (role, scopes, expires, revoked) in TOKENS.items():
            made[door][name] = token = new_token()
            token_id, secret = split_token(token) or ("", "")
            listed = ", ".join(f"'{scope}'" for scope in scopes)
            rows.append(
                f"('{token_id}', '{name}', '{role}', '\\x{token_hash(secret).hex()}', ARRAY[{listed}]::text[], "
                f"{expires or 'NULL::timestamptz'}, {revoked or 'NULL::timestamptz'})"
            )
    world.site.stack.postgres.psql(
        "INSERT INTO api_tokens (id, name, role, token_hash, scopes, expires_at, revoked_at) VALUES "
        + ", ".join(rows),
        world.env["HUB_DATABASE_URL"].rpartition("/")[2],
    )
    return made


@pytest.fixture
def tokens(tokens_by_door: dict[str, dict[str, str]]) -> dict[str, str]:
    return tokens_by_door[""]


_VISITORS = itertools.count(256)


def visitor(world: World) -> httpx.Client:
    """A client with an address of its own: an address that fails too often is made to wait."""
    number = next(_VISITORS)
    transport = httpx.HTTPTransport(local_address=f"127.1.{number // 256 % 256}.{number % 256}")
    return httpx.Client(base_url=world.env["HUB_API_URL"], transport=transport, timeout=30)


def filled(world: World, tokens: dict[str, str], text: str) -> str:
    for name, token in tokens.items():
        token_id, secret = split_token(token) or ("", "")
        for word, value in (("", token), (".id", token_id), (".secret", secret), (".short", token[:-1])):
            text = text.replace(f"{{{name}{word}}}", value)
    return world.fill(text.replace("{nobody}", uuid.uuid4().hex[:12])) or ""


def ask(world: World, door: Door, header: str | None, query: str = "") -> httpx.Response:
    sends: dict[str, Any] = {"headers": {"Authorization": header} if header is not None else {}}
    if door.path.endswith(":import"):
        sends["headers"]["Content-Type"] = "application/x-ndjson"
    elif door.method in ("POST", "PUT", "PATCH"):
        sends["json"] = {}
    with visitor(world) as rest:
        return rest.request(door.method, door.filled(world.people["a"].id) + query, **sends)


def test_every_route_has_a_guard_or_stands_in_the_list_of_open_ones() -> None:
    assert UNGUARDED == []


@pytest.mark.parametrize("attempt", BAD_HEADERS)
@pytest.mark.parametrize("door", DOORS, ids=[door.name for door in DOORS])
def test_a_bad_token(world: World, tokens_by_door: dict[str, dict[str, str]], door: Door, attempt: str) -> None:
    tokens = tokens_by_door[door.name]
    pattern = BAD_HEADERS[attempt]
    answer = ask(world, door, None if pattern is None else filled(world, tokens, pattern))
    assert answer.status_code == 401
    assert answer.json()["type"] == "/problems/unauthenticated"
    assert "WWW-Authenticate" in answer.headers


@pytest.mark.parametrize(
    ("door", "who"),
    [(door, who) for door in DOORS for who in too_low(door)],
    ids=lambda part: getattr(part, "name", part),
)
def test_a_token_that_may_not(world: World, tokens_by_door: dict[str, dict[str, str]], door: Door, who: str) -> None:
    answer = ask(world, door, f"Bearer {tokens_by_door[door.name][who]}")
    assert (answer.status_code, answer.json()["type"]) == (403, "/problems/forbidden")


@pytest.mark.parametrize("door", DOORS, ids=[door.name for door in DOORS])
def test_a_token_in_the_query_is_none(world: World, tokens: dict[str, str], door: Door) -> None:
    for name in ("token", "access_token", "api_key"):
        assert ask(world, door, None, f"?{name}={tokens['admin']}").status_code == 401


INJECTIONS = [
    "' OR '1'='1",
    "'; DROP TABLE devices; --",
    "%' UNION SELECT 1 --",
    "\\",
    "%",
    "_",
    "${jndi:x}",
    "\u202e",
]


@pytest.mark.parametrize("text", INJECTIONS)
@pytest.mark.parametrize("parameter", ["q", "cursor", "gateway_id", "group", "label", "type", "status", "kind"])
def test_sql_in_a_filter_finds_nothing_and_breaks_nothing(world: World, parameter: str, text: str) -> None:
    answer = world.rest.get("/v1/devices", params={parameter: text})
    assert answer.status_code in (200, 404, 422)
    assert answer.status_code != 200 or answer.json()["devices"] == []
    assert world.rest.get(f"/v1/devices/{world.people['a'].id}").status_code == 200


@pytest.mark.parametrize(
    "path",
    [
        "/schemas/../../etc/passwd",
        "/schemas/..%2f..%2fsecret.json",
        "/schemas/%2e%2e/%2e%2e/pyproject.json",
        "/v1/devices/../tokens",
        "/v1/devices/..%2ftokens",
        "/v1/devices/%00",
        "/v1/devices/a%0d%0aX-Injected:%201",
        "//v1/devices",
        "/v1/devices/mm-dev-a/../../../etc/passwd",
        "/v1/DEVICES",
    ],
)
def test_a_path_that_leads_nowhere(world: World, path: str) -> None:
    answer = raw(world, f"GET {path} HTTP/1.1\r\nHost: hub\r\nConnection: close\r\n\r\n".encode())
    assert status(answer) in (400, 401, 404, 422)
    assert b"root:" not in answer
    assert b"X-Injected" not in answer.partition(b"\r\n\r\n")[0]


AUTHORIZED = b"Authorization: Bearer %s\r\n"


@pytest.mark.parametrize(
    ("name", "request_head"),
    [
        ("a header of 1 MB", b"GET /v1/devices HTTP/1.1\r\nHost: hub\r\nX: " + b"a" * 1_000_000 + b"\r\n\r\n"),
        ("ten thousand headers", b"GET /v1/devices HTTP/1.1\r\nHost: hub\r\n" + b"X: y\r\n" * 10_000 + b"\r\n"),
        ("a header line with a bare line feed", b"GET / HTTP/1.1\r\nHost: hub\r\nX: a\nAuthorization: b\r\n\r\n"),
        (
            "two lengths",
            b"POST /v1/devices HTTP/1.1\r\nHost: hub\r\nContent-Length: 2\r\nContent-Length: 9\r\n\r\n{}",
        ),
        (
            "a length and chunks",
            (
                b"POST /v1/devices HTTP/1.1\r\nHost: hub\r\nContent-Length: 4\r\n"
                b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
            ),
        ),
        ("a negative length", b"POST /v1/devices HTTP/1.1\r\nHost: hub\r\nContent-Length: -1\r\n\r\n"),
        ("no request", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x00" * 64 + b"\r\n\r\n"),
        ("an unknown method", b"TRACE /v1/devices HTTP/1.1\r\nHost: hub\r\n\r\n"),
        ("another version", b"GET /v1/devices HTTP/9.9\r\nHost: hub\r\n\r\n"),
    ],
)
def test_a_request_out_of_form(world: World, name: str, request_head: bytes) -> None:
    answer = raw(world, request_head)
    assert answer == b"" or 400 <= status(answer) < 500, name
    assert world.rest.get("/healthz").status_code == 200


@pytest.mark.parametrize("value", ["a\r\nX-Injected: 1", "a\nb", "\x00", "x" * 129])
def test_an_idempotency_key_out_of_form(world: World, value: str) -> None:
    token = world.rest.headers["Authorization"].encode()
    body = json.dumps({"serial": "mm-injected", "type": "thermometer"}).encode()
    head = (
        b"POST /v1/devices HTTP/1.1\r\nHost: hub\r\nContent-Type: application/json\r\nAuthorization: " + token
        + b"\r\nIdempotency-Key: " + value.encode() + b"\r\nContent-Length: " + str(len(body)).encode()
        + b"\r\nConnection: close\r\n\r\n"
    )  # fmt: skip
    answer = raw(world, head + body)
    if "X-Injected" not in value:  # that one is a header of its own, as HTTP reads it, and does nothing
        assert answer == b"" or 400 <= status(answer) < 500
    assert b"X-Injected" not in answer.partition(b"\r\n\r\n")[0]


def test_a_body_over_its_limit_is_refused_while_it_arrives(world: World) -> None:
    answer = world.rest.post(
        "/v1/devices", content=b"{" + b" " * 100_000 + b"}", headers={"Content-Type": "application/json"}
    )
    assert answer.status_code == 413


def test_a_forwarded_address_is_not_believed(world: World, tokens: dict[str, str]) -> None:
    with httpx.Client(
        base_url=world.env["HUB_API_URL"], headers={"Authorization": f"Bearer {tokens['admin']}"}
    ) as rest:
        rest.post(
            "/v1/devices",
            json={"id": "mm-forwarded", "serial": "mm-f", "type": "thermometer"},
            headers={"X-Forwarded-For": "198.51.100.9", "Forwarded": "for=198.51.100.9"},
        )
    found = world.site.stack.postgres.psql(
        "SELECT source FROM audit_log WHERE target = 'mm-forwarded'", world.env["HUB_DATABASE_URL"].rpartition("/")[2]
    )
    assert found.strip() == "127.0.0.1"


def test_no_log_names_anybody(world: World) -> None:
    """After all of the above."""
    assert names_in_logs(world) == []


def raw(world: World, request: bytes) -> bytes:
    """What the hub answers to these bytes, until it closes or says no more for two seconds."""
    host, port = world.env["HUB_API_URL"].removeprefix("http://").split(":")
    number = next(_VISITORS)
    own = (f"127.1.{number // 256 % 256}.{number % 256}", 0)
    with socket.create_connection((host, int(port)), timeout=10, source_address=own) as connection:
        connection.settimeout(2)
        found = b""
        try:
            connection.sendall(request)
            while part := connection.recv(65_536):
                found += part
        except (TimeoutError, ConnectionError):
            return found
    return found


def status(answer: bytes) -> int:
    return int(answer.split(b" ", 2)[1])
