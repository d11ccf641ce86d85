"""The fleet's routes on a running API: what a client sees from registration to retirement."""

import asyncio
from concurrent.futures import ThreadPoolExecutor

from tests.stack.registry.conftest import NOT_AUTHORIZED, Api, connect_code


def port(api: Api) -> int:
    return int(api.env["HUB_MQTT_URL"].rpartition(":")[2])


def test_a_life_from_registration_to_retirement(api: Api) -> None:
    added = api.add("dev", labels={"site": "berlin"}, location={"place": "hall 3"})
    key = added.json()["api_key"]
    assert added.json()["location"] == {"place": "hall 3"}
    shown = api.rest.get("/v1/devices/dev")
    assert api.rest.get("/v1/devices/dev", headers={"If-None-Match": shown.headers["etag"]}).status_code == 304
    body = {"labels": {"floor": "2"}, "limits": {"messages_per_s": 5}}
    assert api.rest.patch("/v1/devices/dev", json=body).status_code == 428
    changed = api.rest.patch("/v1/devices/dev", json=body, headers={"If-Match": shown.headers["etag"]})
    assert changed.json()["labels"] == {"site": "berlin", "floor": "2"}
    assert changed.json()["limits"] == {"messages_per_s": 5.0}
    stale = api.rest.patch("/v1/devices/dev", json=body, headers={"If-Match": shown.headers["etag"]})
    assert (stale.status_code, stale.headers["etag"]) == (412, f'"{changed.json()["version"]}"')
    for query, found in {
        "label=site=berlin&label=floor": ["dev"],
        "q=sn-d": ["dev"],
        "q=xx": [],
        "type=a": [],
    }.items():
        listed = api.rest.get(f"/v1/devices?{query}").json()["devices"]
        assert [item["id"] for item in listed] == found, query
    assert asyncio.run(connect_code(port(api), "dev", key)) == 0
    assert api.rest.post("/v1/devices/dev:suspend", json={"reason": "looked at"}).json()["status"] == "suspended"
    assert asyncio.run(connect_code(port(api), "dev", key)) == NOT_AUTHORIZED
    assert api.rest.post("/v1/devices/dev:approve").json()["type"] == "/problems/illegal-move"
    assert api.rest.post("/v1/devices/dev:resume").json()["status"] in ("active", "provisioned")
    assert asyncio.run(connect_code(port(api), "dev", key)) == 0
    assert api.rest.post("/v1/devices/dev:retire").json()["status"] == "retired"
    assert asyncio.run(connect_code(port(api), "dev", key)) == NOT_AUTHORIZED
    assert [item["id"] for item in api.rest.get("/v1/devices?status=retired").json()["devices"]] == ["dev"]


def test_of_two_changes_at_once_one_wins_and_one_is_412(api: Api) -> None:
    tag = api.add("dev").headers["etag"]

    def change(number: int) -> int:
        body = {"labels": {"by": str(number)}}
        return api.rest.patch("/v1/devices/dev", json=body, headers={"If-Match": tag}).status_code

    with ThreadPoolExecutor(2) as clients:
        assert sorted(clients.map(change, (1, 2))) == [200, 412]


def test_groups(api: Api) -> None:
    for name in ("a", "b"):
        api.add(name, labels={"site": name})
    made = api.rest.post("/v1/groups", json={"name": "canaries"})
    assert (made.status_code, made.headers["location"]) == (201, "/v1/groups/canaries")
    assert api.rest.post("/v1/groups", json={"name": "canaries"}).json()["type"] == "/problems/group-taken"
    done = api.rest.post("/v1/groups/canaries/members:add", json={"devices": ["a", "nobody"]})
    assert (done.json()["changed"], done.json()["unknown"]) == (1, ["nobody"])
    by_query = api.rest.post("/v1/groups", json={"name": "at-b", "query": {"labels": ["site=b"]}})
    assert by_query.status_code == 201
    for name, found in {"canaries": ["a"], "at-b": ["b"]}.items():
        members = api.rest.get(f"/v1/groups/{name}/members").json()["devices"]
        listed = api.rest.get(f"/v1/devices?group={name}").json()["devices"]
        assert [item["id"] for item in members] == [item["id"] for item in listed] == found
    assert api.rest.get("/v1/devices?group=none").json()["errors"][0]["pointer"] == "?group"
    refused = api.rest.post("/v1/groups/at-b/members:add", json={"devices": ["a"]})
    assert refused.json()["type"] == "/problems/group-by-query"
    path, stale = "/v1/groups/canaries", {"If-Match": '"1"'}
    assert api.rest.delete(path).status_code == 428
    assert api.rest.delete(path, headers=stale).status_code == 412
    assert api.rest.patch(path, json={"description": "x"}, headers=stale).headers["etag"] == '"2"'
    gone = api.rest.post(f"{path}/members:remove", json={"devices": ["a"]})
    assert gone.json()["changed"] == 1
    assert api.rest.delete(path, headers={"If-Match": gone.headers["etag"]}).status_code == 204
    assert api.rest.get(path).status_code == 404
    assert [item["name"] for item in api.rest.get("/v1/groups").json()["groups"]] == ["at-b"]


def test_types_have_limits(api: Api) -> None:
    body = {"metrics": {"t": {"unit": "°C", "min": -20, "max": 60}}, "limits": {"messages_per_s": 2}}
    assert api.rest.put("/v1/types/thermometer", json=body).json()["limits"] == {"messages_per_s": 2.0}
    assert api.rest.get("/v1/types/thermometer").json()["metrics"]["t"]["max"] == 60
