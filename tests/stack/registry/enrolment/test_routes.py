"""The doors of enrolment as they are used over HTTP, on real servers, and what they say to the hostile."""

from pathlib import Path
from typing import Any

import httpx
import pytest

from shared.enrolment_token import parse
from tests.ca_kit import TestCa, csr
from tests.stack.registry.conftest import Api, connect_code


@pytest.fixture
def ca(environment: dict[str, str]) -> TestCa:
    made = TestCa.make()
    path = Path(environment["HUB_DATA_DIR"]) / "enrolment-ca.pem"
    path.write_text(made.pem)
    environment["HUB_CA_FILE"] = str(path)
    return made


@pytest.fixture
def desk(ca: TestCa, api: Api) -> Api:
    return api


def make_token(desk: Api, **more: Any) -> str:
    answer = desk.rest.post("/v1/enrolment-tokens", json=more)
    assert answer.status_code == 201, answer.text
    token: str = answer.json()["token"]
    return token


def body(token: str, hardware: str = "a", **more: Any) -> dict[str, Any]:
    return {
        "token": token,
        "hardware": {"serial": f"SN-{hardware}", "hardware_id": hardware * 64},
        "csr": csr(),
    } | more


def enrol(desk: Api, sent: dict[str, Any]) -> httpx.Response:
    return httpx.post(f"{desk.env['HUB_API_URL']}/v1/enroll", json=sent, timeout=30)


async def test_from_a_token_to_a_connection(desk: Api, ca: TestCa) -> None:
    token = make_token(desk, labels={"site": "x"})
    parsed = parse(token)
    assert parsed is not None
    assert parsed.ca_sha256 == ca.sha256
    answer = enrol(desk, body(token, name="hall-3"))
    assert answer.status_code == 200, answer.text
    assert answer.headers["cache-control"] == "no-store"
    found = answer.json()
    assert found["gateway_id"] == "hall-3"
    assert found["ca_pem"] == ca.pem
    assert found["mqtt_url"] == desk.env.get("HUB_MQTT_TLS_URL", desk.env["HUB_MQTT_URL"])
    assert set(found["pseudonyms"]) == {"hall-3"}
    port = int(desk.env["HUB_MQTT_URL"].rpartition(":")[2])
    assert await connect_code(port, "hall-3", found["api_key"]) == 0
    text = desk.log.read_text()
    for secret in (parsed.secret, found["api_key"].partition(".")[2], "hall-3", "SN-a"):
        assert secret not in text
    assert desk.events("gateway_enrolled")[0]["how"] == "new"


def test_tokens_are_listed_without_secrets_and_revoked(desk: Api) -> None:
    tokens = [make_token(desk, uses=2, expires_s=60) for _ in range(3)]
    listed = desk.rest.get("/v1/enrolment-tokens", params={"limit": 2}).json()
    assert len(listed["tokens"]) == 2
    rest = desk.rest.get("/v1/enrolment-tokens", params={"cursor": listed["next_cursor"]}).json()
    found = {one["id"]: one for one in [*listed["tokens"], *rest["tokens"]]}
    assert set(found) == {token.partition(".")[0] for token in tokens}
    assert not any(token.split(".")[1] in str(found) for token in tokens)
    name = tokens[0].partition(".")[0]
    assert desk.rest.delete(f"/v1/enrolment-tokens/{name}").status_code == 204
    assert desk.rest.delete("/v1/enrolment-tokens/e-nobody").status_code == 404
    assert enrol(desk, body(tokens[0])).status_code == 401


def test_a_repeat_of_the_creation_shows_a_new_secret_until_it_is_used(desk: Api) -> None:
    def made(**more: Any) -> httpx.Response:
        return desk.rest.post("/v1/enrolment-tokens", json=more, headers={"Idempotency-Key": "once"})

    first, second = made(), made()
    assert first.json()["id"] == second.json()["id"]
    assert first.json()["token"] != second.json()["token"]
    assert enrol(desk, body(first.json()["token"])).status_code == 401
    assert made(uses=2).json()["type"] == "/problems/idempotency-key-reused"
    assert enrol(desk, body(second.json()["token"])).status_code == 200
    third = made()
    assert (third.status_code, third.json()["token"]) == (200, None)


def test_all_refusals_of_a_token_are_one(desk: Api) -> None:
    used = make_token(desk)
    enrol(desk, body(used))
    good = make_token(desk)
    wrong = good.split(".")[0] + "." + "A" * 43 + "." + good.split(".")[2]
    answers = [
        enrol(desk, body(text, "b"))
        for text in (used, wrong, "e-aaaaaaaaaaaa." + good.split(".", 1)[1], "x", "é" * 9)
    ]
    assert {(one.status_code, one.text) for one in answers} == {(401, answers[0].text)}
    assert answers[0].json()["detail"] == "the enrolment token is not valid"


@pytest.mark.parametrize(
    "change",
    [
        {"csr": "x"},
        {"csr": "A" * 5_000},
        {"token": "A" * 500},
        {"hardware": {"serial": "", "hardware_id": "a" * 64}},
        {"hardware": {"serial": "x" * 129, "hardware_id": "a" * 64}},
        {"hardware": {"serial": "a\x00b", "hardware_id": "a" * 64}},
        {"hardware": {"serial": "S", "hardware_id": "A" * 64}},
        {"hardware": {"serial": "S", "hardware_id": "../../etc"}},
        {"hardware": {"serial": "S"}},
        {"name": "_ingest"},
        {"name": "a/b"},
        {"more": 1},
        {"agent_version": "x" * 65},
        {"certificate": "perhaps"},
    ],
    ids=range(14),
)
def test_what_is_no_request_is_422_and_enrols_nobody(desk: Api, change: dict[str, Any]) -> None:
    token = make_token(desk)
    assert enrol(desk, body(token) | change).status_code == 422
    assert desk.rest.get("/v1/enrolment-tokens").json()["tokens"][0]["used"] == 0


def test_sizes_beyond_all_sense(desk: Api) -> None:
    url = f"{desk.env['HUB_API_URL']}/v1/enroll"
    headers = {"Content-Type": "application/json"}
    assert httpx.post(url, content=b"[" * 60_000, headers=headers).status_code == 400
    assert httpx.post(url, content=b"x" * 70_000, headers=headers).status_code == 413


def test_tokens_that_make_no_sense(desk: Api) -> None:
    for sent in ({"replaces": "nobody"}, {"uses": 0}, {"expires_s": 0}, {"labels": {"a": "x" * 129}}, {"x": 1}):
        assert desk.rest.post("/v1/enrolment-tokens", json=sent).status_code == 422, sent


def test_the_ca_is_for_everybody(desk: Api, ca: TestCa) -> None:
    answer = httpx.get(f"{desk.env['HUB_API_URL']}/v1/ca")
    assert (answer.status_code, answer.text) == (200, ca.pem)


def test_without_a_ca_nobody_is_enrolled_and_the_hub_says_so(api: Api, environment: dict[str, str]) -> None:
    path = Path(environment.get("HUB_CA_FILE", Path(environment["HUB_DATA_DIR"]) / "ca.pem"))
    kept = path.read_bytes() if path.exists() else None
    path.unlink(missing_ok=True)
    try:
        answer = api.rest.post("/v1/enrolment-tokens", json={})
    finally:
        if kept is not None:
            path.write_bytes(kept)
    assert answer.status_code == 503
    assert "CA" in answer.json()["detail"]


def test_a_gateway_whose_place_another_took_may_only_ask_who_it_is(desk: Api) -> None:
    old = enrol(desk, body(make_token(desk), "a", name="old")).json()
    assert enrol(desk, body(make_token(desk, replaces="old"), "b", name="new")).status_code == 200
    key = {"Authorization": f"Bearer {old['api_key']}"}
    asked = {
        "/v1/self": ("GET", None),
        "/v1/self/devices": ("GET", None),
        "/v1/self/devices ": ("POST", {"devices": [{"id": "x"}]}),
        "/v1/self/credentials:rotate": ("POST", None),
    }
    answers = {
        path: httpx.request(
            method,
            desk.env["HUB_API_URL"] + path.strip(),
            json=sent,
            headers=key | {"Idempotency-Key": "1"},
            timeout=30,
        )
        for path, (method, sent) in asked.items()
    }
    assert [answer.status_code for answer in answers.values()] == [200, 403, 403, 403]
    assert "took this one's place" in answers["/v1/self/devices"].json()["detail"]
