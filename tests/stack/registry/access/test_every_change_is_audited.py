"""Whatever changes something leaves a line in the audit log: each route with a changing method, on a real hub.

The routes are read from the API itself: one that is not asked here, and not in `UNASKED` with a reason, is a failure.
"""

from collections.abc import Callable
from inspect import signature
from pathlib import Path
from typing import Any

from control_plane.registry import api as registry_api
from control_plane.registry.rooms import Rooms
from tests.stack.conftest import database_url, server_dir, stack
from tests.stack.registry.conftest import Api, environment
from tests.stack.registry.pki.test_certificates import Gateway, api, broker_server, secure

__all__ = ["api", "broker_server", "database_url", "environment", "secure", "server_dir", "stack"]  # its fixtures

UNASKED = {
    "POST /v1/broker:rebuild": "restarts the broker: its line is looked at in test_rebuild.py",
    "POST /internal/mqtt/auth": "changes nothing: a broker asks",
    "POST /internal/mqtt/acl": "changes nothing: a broker asks",
    "POST /v1/self/certificates:renew": "the same issue as the first certificate, in test_certificates.py",
}
DEVICE = {"type": "thermometer"}


class Hub:
    """Asks one route after the other, and looks for the line of each."""

    def __init__(self, api: Api) -> None:
        self.rest = api.rest
        self.asked: set[str] = set()
        self.unaudited: list[str] = []
        self.refused: list[str] = []
        self._seen = self._newest()

    def __call__(self, route: str, path: str, body: Any = None, **more: Any) -> dict[str, Any]:
        """Ask `path`, which is `route` filled in."""
        method = route.partition(" ")[0]
        content = {"json": body} if isinstance(body, dict) else {"content": body} if body is not None else {}
        answer = self.rest.request(method, path, **content, **more)
        if not answer.is_success:
            self.refused.append(f"{route}: {answer.status_code} {answer.text}")
        self.look(route)
        try:
            found: dict[str, Any] = answer.json()
        except ValueError:
            found = {}
        return found

    def look(self, route: str) -> None:
        """Whether there is a new line."""
        self.asked.add(route)
        newest = self._newest()
        if newest == self._seen:
            self.unaudited.append(route)
        self._seen = newest

    def _newest(self) -> int:
        entries = self.rest.get("/v1/audit", params={"limit": 1}).json()["entries"]
        return entries[0]["id"] if entries else 0


def changing_routes() -> set[str]:
    parts: list[Any] = [None] * len(signature(Rooms).parameters)
    app: Any = registry_api.build(Rooms(*parts), list)
    return {
        f"{method} {route.path}" for route in app._app.routes for method in route.methods - {"GET", "HEAD", "OPTIONS"}
    }


def test_every_change_leaves_a_line(api: Api, tmp_path: Path) -> None:
    hub = Hub(api)
    for part in (_devices, _keys, _groups, _policies, _tokens):
        part(hub)
    _gateways(hub, api, tmp_path)
    assert hub.refused == []
    assert hub.unaudited == []
    assert changing_routes() - hub.asked - set(UNASKED) == set()


def _add(hub: Hub, name: str, **more: Any) -> dict[str, Any]:
    return hub("POST /v1/devices", "/v1/devices", DEVICE | {"id": name, "serial": f"SN-{name}"} | more)


def _devices(hub: Hub) -> None:
    _add(hub, "one")
    _add(hub, "gate", kind="gateway")
    one: Callable[..., Any] = lambda verb, body=None: hub(  # noqa: E731 - one line for each route below
        f"POST /v1/devices/{{device_id}}:{verb}", f"/v1/devices/one:{verb}", body or {}
    )
    one("assign", {"gateway_id": "gate"})
    tag = {"If-Match": hub.rest.get("/v1/devices/one").headers["etag"]}
    hub("PATCH /v1/devices/{device_id}", "/v1/devices/one", {"labels": {"site": "x"}}, headers=tag)
    one("suspend", {"reason": "looked at"})
    one("resume", {"reason": "seen"})
    one("quarantine", {"reason": "floods"})
    one("release", {"reason": "mended"})
    hub("PUT /v1/types/{name}", "/v1/types/thermometer", {"metrics": {}})
    line = b'{"id": "two", "serial": "SN-two", "type": "thermometer", "gateway_id": "gate"}\n'
    hub("POST /v1/devices:import", "/v1/devices:import", line, headers={"Content-Type": "application/x-ndjson"})
    one("retire", {"reason": "worn out"})
    one("forget")


def _keys(hub: Hub) -> None:
    key = _add(hub, "keyed")["api_key"]
    base = "/v1/devices/{device_id}"
    hub(f"POST {base}/credentials:rotate", "/v1/devices/keyed/credentials:rotate", {})
    further = hub(f"POST {base}/credentials", "/v1/devices/keyed/credentials", {})
    hub(f"DELETE {base}/credentials/{{key_id}}", f"/v1/devices/keyed/credentials/{further['key_id']}")
    own = {"Authorization": f"Bearer {key}", "Idempotency-Key": "once"}
    hub("POST /v1/self/credentials:rotate", "/v1/self/credentials:rotate", headers=own)
    hub(f"POST {base}:revoke", "/v1/devices/keyed:revoke", {"reason": "stolen"})


def _groups(hub: Hub) -> None:
    _add(hub, "member")
    hub("POST /v1/groups", "/v1/groups", {"name": "cellars"})
    for verb in ("add", "remove"):
        path = f"/v1/groups/cellars/members:{verb}"
        hub(f"POST /v1/groups/{{name}}/members:{verb}", path, {"devices": ["member"]})
    tag = {"If-Match": hub.rest.get("/v1/groups/cellars").headers["etag"]}
    hub("PATCH /v1/groups/{name}", "/v1/groups/cellars", {"description": "all of them"}, headers=tag)
    tag = {"If-Match": hub.rest.get("/v1/groups/cellars").headers["etag"]}
    hub("DELETE /v1/groups/{name}", "/v1/groups/cellars", headers=tag)


def _policies(hub: Hub) -> None:
    found = hub.rest.get("/v1/policies/enrolment")
    value = found.json()["value"] | {"unknown_devices": "pending"}
    hub("PUT /v1/policies/{name}", "/v1/policies/enrolment", value, headers={"If-Match": found.headers["etag"]})


def _tokens(hub: Hub) -> None:
    made = hub("POST /v1/tokens", "/v1/tokens", {"name": "ci", "role": "viewer"})
    hub("DELETE /v1/tokens/{token_id}", f"/v1/tokens/{made['id']}")
    made = hub("POST /v1/enrolment-tokens", "/v1/enrolment-tokens", {})
    hub("DELETE /v1/enrolment-tokens/{token_id}", f"/v1/enrolment-tokens/{made['id']}")


def _gateways(hub: Hub, api: Api, tmp_path: Path) -> None:
    gateway = Gateway(api, "certified", tmp_path)
    hub.look("POST /v1/self/certificates")
    own = {"Authorization": f"Bearer {gateway.api_key}"}
    hub("POST /v1/self/devices", "/v1/self/devices", {"devices": [{"id": "behind"}]}, headers=own)
    hub("POST /v1/devices/{device_id}:approve", "/v1/devices/behind:approve", {})
    base = "/v1/devices/{device_id}"
    hub(f"POST {base}/certificates:revoke", "/v1/devices/certified/certificates:revoke", {"reason": "leaked"})
    token = hub("POST /v1/enrolment-tokens", "/v1/enrolment-tokens", {})["token"]
    from tests.ca_kit import csr

    body = {"token": token, "hardware": {"serial": "SN-h", "hardware_id": "a" * 64}, "csr": csr()}
    hub("POST /v1/enroll", "/v1/enroll", body, headers={"Authorization": ""})
