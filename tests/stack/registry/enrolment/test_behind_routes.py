"""Devices behind a gateway at the real door: reported, pending, approved, listed with their keys' hashes."""

from typing import Any

import httpx
import pytest

from tests.stack.registry.conftest import Api


class Self:
    """`/v1/self/devices` with one device's key."""

    def __init__(self, api: Api, device_id: str, **more: Any) -> None:
        key = api.add(device_id, **more).json()["api_key"]
        self._url = f"{api.env['HUB_API_URL']}/v1/self/devices"
        self._key = {"Authorization": f"Bearer {key}"}

    def report(self, *devices: dict[str, str]) -> dict[str, str]:
        answer = self.ask("POST", {"devices": list(devices)})
        assert answer.status_code == 200, answer.text
        found: dict[str, str] = answer.json()["devices"]
        return found

    def own(self, **headers: str) -> httpx.Response:
        return self.ask("GET", None, **headers)

    def ask(self, method: str, body: Any, **headers: str) -> httpx.Response:
        return httpx.request(method, self._url, json=body, headers=self._key | headers, timeout=30)


def set_policy(api: Api, **value: Any) -> None:
    version = api.rest.get("/v1/policies/enrolment").json()["version"]
    answer = api.rest.put("/v1/policies/enrolment", json=value, headers={"If-Match": f'"{version}"'})
    assert answer.status_code == 200, answer.text


def test_from_unknown_to_approved(api: Api) -> None:
    gateway, other = Self(api, "gw", kind="gateway"), Self(api, "gw-2", kind="gateway")
    sent = {"id": "dev-1", "type": "thermometer", "serial": "SN-9"}
    assert gateway.report(sent) == {"dev-1": "later"}, "the policy takes none"
    set_policy(api, unknown_devices="pending", max_pending_per_gateway=2)
    assert gateway.report(sent, {"id": "dev-2"}, {"id": "dev-3"}) == {
        "dev-1": "pending", "dev-2": "pending", "dev-3": "later",
    }  # fmt: skip
    assert gateway.report(sent) == {"dev-1": "pending"}, "once more changes nothing"
    assert other.report(sent) == {"dev-1": "refused"}
    device = api.rest.get("/v1/devices/dev-1").json()
    assert (device["status"], device["gateway_id"], device["serial"]) == ("pending", "gw", "SN-9")
    listed = gateway.own()
    assert [(one["id"], one["status"], one["keys"]) for one in listed.json()["devices"]] == [
        ("dev-1", "pending", []), ("dev-2", "pending", []),
    ]  # fmt: skip
    assert listed.json()["unknown_devices"] == "pending"
    tag = listed.headers["etag"]
    assert gateway.own(**{"If-None-Match": tag}).status_code == 304
    assert api.rest.post("/v1/devices/dev-1:approve").status_code == 200
    assert api.rest.post("/v1/devices/dev-2:retire").status_code == 200
    changed = gateway.own(**{"If-None-Match": tag})
    assert changed.status_code == 200
    assert [(one["id"], one["status"]) for one in changed.json()["devices"]] == [("dev-1", "provisioned")]
    assert gateway.report(sent, {"id": "dev-2"}) == {"dev-1": "known", "dev-2": "refused"}
    assert other.own().json()["devices"] == []


def test_a_device_with_a_key_is_listed_with_its_hash_and_never_its_secret(api: Api) -> None:
    gateway = Self(api, "gw", kind="gateway")
    key = api.add("dev", gateway_id="gw").json()["api_key"]
    text = gateway.own().text
    assert f'"{key.partition(".")[0]}"' in text
    assert "$7$" in text
    assert key.partition(".")[2] not in text


@pytest.mark.parametrize(("method", "body"), [("GET", None), ("POST", {"devices": [{"id": "x"}]})])
def test_a_device_that_is_no_gateway_is_refused(api: Api, method: str, body: Any) -> None:
    assert Self(api, "dev").ask(method, body).status_code == 403
