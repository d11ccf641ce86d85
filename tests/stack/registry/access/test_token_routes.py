"""API tokens on a real hub: shown once, narrowed, ended, revoked, and never a way to lock everybody out."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx

from tests.stack.registry.conftest import Api, until


@contextmanager
def bearer(api: Api, token: str) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=api.env["HUB_API_URL"], headers={"Authorization": f"Bearer {token}"}) as rest:
        yield rest


def make(api: Api, **more: Any) -> httpx.Response:
    """POST /v1/tokens; `key` is the Idempotency-Key."""
    key = more.pop("key", None)
    body = {"name": "ci", "role": "admin"} | more
    return api.rest.post("/v1/tokens", json=body, headers={"Idempotency-Key": key} if key else {})


def status(api: Api, token: str, path: str = "/v1/devices") -> int:
    with bearer(api, token) as rest:
        return rest.get(path).status_code


def test_a_tokens_life(api: Api) -> None:
    made = make(api, role="viewer", scopes=["types", "devices:read"], expires_in_s=3600)
    token = made.json()["token"]
    assert (made.status_code, made.headers["cache-control"]) == (201, "no-store")
    assert made.headers["location"] == f"/v1/tokens/{made.json()['id']}"
    assert [status(api, token, path) for path in ("/v1/devices", "/v1/types", "/v1/tokens")] == [200, 200, 403]
    shown = api.rest.get(made.headers["location"]).json()
    assert "token" not in shown
    assert datetime.fromisoformat(shown["expires_at"]) > datetime.now(UTC) + timedelta(minutes=59)
    until(lambda: api.rest.get(made.headers["location"]).json()["last_used_at"], "the use is noted", within_s=10)
    listed = api.rest.get("/v1/tokens").json()["tokens"]
    assert {item["name"]: item["created_by"] for item in listed} == {"first": None, "ci": _own_id(api)}
    for _ in range(2):
        assert api.rest.delete(made.headers["location"]).json()["state"] == "revoked"
    assert status(api, token) == 401
    assert [item["name"] for item in api.rest.get("/v1/tokens?usable=true").json()["tokens"]] == ["first"]
    assert [item["name"] for item in api.rest.get("/v1/tokens?usable=false").json()["tokens"]] == ["ci"]
    assert api.rest.delete("/v1/tokens/t-nobody").status_code == 404
    assert token.partition(".")[2] not in api.log.read_text()


def test_an_expired_token_is_refused(api: Api) -> None:
    made = make(api, expires_in_s=1).json()
    assert status(api, made["token"]) == 200
    until(lambda: status(api, made["token"]) == 401, "it expired", within_s=5)
    assert api.rest.get(f"/v1/tokens/{made['id']}").json()["state"] == "expired"
    past = make(api, expires_at="2020-01-01T00:00:00Z")
    assert (past.status_code, past.json()["errors"][0]["pointer"]) == (422, "/expires_at")


def test_a_token_makes_and_ends_none_that_opens_more(api: Api) -> None:
    day = (datetime.now(UTC) + timedelta(days=1)).isoformat()
    narrow = make(api, scopes=["tokens"], expires_at=day).json()["token"]
    with bearer(api, narrow) as rest:
        wider: list[dict[str, Any]] = [
            {"role": "admin", "expires_in_s": 60},
            {"role": "viewer", "scopes": ["devices"], "expires_in_s": 60},
            {"role": "admin", "scopes": ["tokens"]},
            {"role": "admin", "scopes": ["tokens"], "expires_in_s": 2 * 86400},
        ]
        for body in wider:
            refused = rest.post("/v1/tokens", json={"name": "n"} | body)
            assert (refused.status_code, refused.json()["type"]) == (403, "/problems/wider-than-own")
        good = rest.post(
            "/v1/tokens", json={"name": "n", "role": "admin", "scopes": ["tokens:read"], "expires_in_s": 60}
        )
        assert good.status_code == 201
        assert rest.delete(f"/v1/tokens/{_own_id(api)}").json()["type"] == "/problems/wider-than-own"
        assert rest.delete(f"/v1/tokens/{good.json()['id']}").status_code == 200
        assert rest.delete(f"/v1/tokens/{narrow.partition('.')[0]}").status_code == 200  # itself
        assert rest.get("/v1/tokens").status_code == 401


def test_the_last_admin_token_stays_and_two_that_are_revoked_at_once_are_not_both(api: Api) -> None:
    refused = api.rest.delete(f"/v1/tokens/{_own_id(api)}")
    assert (refused.status_code, refused.json()["type"]) == (409, "/problems/last-admin-token")
    assert "hub token create" in refused.json()["detail"]
    make(api, scopes=["tokens"])
    make(api, expires_in_s=3600)
    assert api.rest.delete(f"/v1/tokens/{_own_id(api)}").status_code == 409, "neither opens all for a day"
    others = [make(api).json()["token"] for _ in range(3)]

    def end_itself(token: str) -> int:
        with bearer(api, token) as rest:
            return rest.delete(f"/v1/tokens/{token.partition('.')[0]}").status_code

    first = api.rest.headers["authorization"].removeprefix("Bearer ")
    with ThreadPoolExecutor(4) as clients:
        done = sorted(clients.map(end_itself, [first, *others]))
    assert done == [200, 200, 200, 409]


def test_a_repeated_creation_is_one_token(api: Api) -> None:
    first, second = (make(api, key="once").json() for _ in range(2))
    assert first["id"] == second["id"]
    assert [status(api, made["token"]) for made in (first, second)] == [401, 200]
    until(lambda: api.rest.get(f"/v1/tokens/{first['id']}").json()["last_used_at"], "its use is noted", within_s=10)
    third = make(api, key="once")
    assert (third.status_code, third.json()["token"]) == (200, None)
    assert status(api, second["token"]) == 200
    assert make(api, key="once", role="viewer").json()["type"] == "/problems/idempotency-key-reused"


def test_failures_are_limited_and_the_operator_is_served(api: Api) -> None:
    own = _own_id(api)
    with bearer(api, f"{own}.wrong") as rest:
        answers = [rest.get("/v1/devices") for _ in range(15)]
    assert [answer.status_code for answer in answers] == [401] * 10 + [429] * 5
    assert 1 <= int(answers[-1].headers["retry-after"]) <= 6
    assert answers[-1].json()["type"] == "/problems/too-many-attempts"
    assert api.rest.get("/v1/devices").status_code == 200
    with bearer(api, "k:nobody.0123456789abcdef") as rest:
        answers = [rest.get("/v1/self") for _ in range(15)]
    assert [answer.status_code for answer in answers] == [401] * 10 + [429] * 5
    assert [event["door"] for event in api.events("logins_limited")] == ["api", "self"]
    assert own not in api.log.read_text()


def _own_id(api: Api) -> str:
    return api.rest.headers["authorization"].removeprefix("Bearer ").partition(".")[0]
