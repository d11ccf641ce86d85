"""The devices' own door on real servers: what a key shows, and which keys open nothing."""

from typing import Any

import httpx
import pytest

from deploy.stack import Stack
from tests.stack.registry.conftest import Api


def own(api: Api, key: str) -> httpx.Response:
    return api.rest.get("/v1/self", headers={"Authorization": f"Bearer {key}"})


def write(api: Api, stack: Stack, sql: str) -> None:
    stack.postgres.psql(sql, api.env["HUB_DATABASE_URL"].rpartition("/")[2])


def test_a_gateway_sees_itself_and_its_devices_by_pseudonym(api: Api) -> None:
    gateway = api.add("hall-3", kind="gateway").json()
    api.add("thermo-1", gateway_id="hall-3")
    api.add("elsewhere")
    found = own(api, gateway["api_key"])
    assert (found.status_code, found.headers["cache-control"]) == (200, "no-store")
    body: dict[str, Any] = found.json()
    assert (body["id"], body["kind"]) == ("hall-3", "gateway")
    assert [(key["key_id"], key["present"]) for key in body["keys"]] == [(gateway["api_key"].split(".")[0], True)]
    assert body["keys"][0]["last_used_at"] is not None, "this request was a use"
    assert list(body["devices"]) == ["thermo-1"]
    assert len({body["pseudonym"], *body["devices"].values()}) == 2
    assert gateway["api_key"].split(".")[1] not in found.text


def test_a_token_of_people_opens_nothing_here_and_a_key_nothing_there(api: Api) -> None:
    key = api.add("dev").json()["api_key"]
    assert api.rest.get("/v1/self").status_code == 401
    assert api.rest.get("/v1/devices", headers={"Authorization": f"Bearer {key}"}).status_code == 401


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE device_credentials SET ended_at = now()",
        "UPDATE device_credentials SET not_after = now() - interval '1 second'",
        "UPDATE device_credentials SET not_before = now() + interval '1 hour'",
        "UPDATE device_credentials SET held_at = NULL",
        "UPDATE devices SET status = 'quarantined', status_before = 'active'",
        "UPDATE devices SET status = 'retired'",
    ],
)
def test_a_key_that_is_not_valid_now_is_nobodys(api: Api, stack: Stack, change: str) -> None:
    key = api.add("dev").json()["api_key"]
    assert own(api, key).status_code == 200
    write(api, stack, change)
    refused = own(api, key)
    assert refused.status_code == 401
    assert refused.content == own(api, "k:nobody." + "x" * 43).content, "it is not told why"
