"""The fleet's routes on a running API: what a client sees from registration to retirement."""

import asyncio
import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from shared.pseudonym import pseudonym
from shared.topics import Kafka
from tests.stack.registry.conftest import NOT_AUTHORIZED, Api, connect_code, read_records, until


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


def lines(api: Api, path: str, body: str, kind: str = "application/x-ndjson") -> list[dict[str, Any]]:
    answer = api.rest.post(path, content=body.encode(), headers={"Content-Type": kind})
    assert answer.status_code == 200, answer.text
    assert answer.headers["cache-control"] == "no-store"
    return [json.loads(line) for line in answer.text.splitlines()]


def test_an_import_reports_and_an_export_is_one(api: Api) -> None:
    body = "serial,type,kind,id,gateway_id,label.site\nG,gateway,gateway,zz,,\nA,t,,a,zz,berlin\nB,t,,b,nobody,\n"
    report = lines(api, "/v1/devices:import", body, "text/csv")
    assert report[-1] == {"done": {"lines": 3, "created": 2, "refused": 1}}
    assert {"line": 2, "result": "created", "id": "zz"} in report
    assert next(item for item in report if item.get("line") == 4)["pointer"] == "/gateway_id"
    assert any("progress" in item for item in report)
    for written, kind in (("csv", "text/csv"), ("jsonl", "application/x-ndjson")):
        saved = api.rest.get("/v1/devices:export", params={"format": written}).text
        again = lines(api, "/v1/devices:import?mode=all_or_nothing", saved, kind)
        assert again[-1] == {"done": {"lines": 2, "created": 0, "refused": 2}}, "each is registered already"
        assert {item["why"] for item in again if "why" in item} == {"id-taken"}
    assert api.rest.get("/v1/devices:export?label=site=berlin").text.count("\n") == 1
    assert api.rest.get("/v1/devices/a").json()["labels"] == {"site": "berlin"}


def test_what_is_no_import_is_refused_before_it_is_read(api: Api) -> None:
    path = "/v1/devices:import"
    assert api.rest.post(path, json={"serial": "S", "type": "t"}).json()["type"] == "/problems/not-lines"
    headers = {"Content-Type": "text/csv", "Authorization": "Bearer wrong"}
    assert api.rest.post(path, content=b"serial\n", headers=headers).status_code == 401
    assert api.rest.post(f"{path}?mode=most", content=b"", headers={"Content-Type": "text/csv"}).status_code == 422
    assert lines(api, path, "") == [{"done": {"lines": 0, "created": 0, "refused": 0}}]


def test_the_commands_import_and_export(api: Api, tmp_path: Path) -> None:
    def hub(*words: str) -> "subprocess.CompletedProcess[str]":
        command = [sys.executable, "-m", "control_plane", *words]
        return subprocess.run(command, env=os.environ | api.env, capture_output=True, text=True, check=False)

    (tmp_path / "fleet.jsonl").write_text('{"serial": "A", "type": "t", "id": "a"}\n{"serial": "B"}\n')
    done = hub("device", "import", str(tmp_path / "fleet.jsonl"), "--json")
    assert done.returncode == 1
    said = json.loads(done.stdout)
    assert (said["created"], [bad["line"] for bad in said["refused"]]) == (1, [2])
    out = tmp_path / "saved.csv"
    assert hub("device", "export", "--out", str(out)).returncode == 0
    assert "a,A,t,device" in out.read_text()
    again = hub("device", "import", str(out), "--mode", "all_or_nothing")
    assert "line 2: /id a device with this id is registered already\n0 registered, 1 refused" in again.stdout
    assert hub("device", "import", str(tmp_path / "absent")).returncode == 1
    assert hub("device", "label", "a", "site=x").returncode == 0
    assert json.loads(hub("device", "list", "--label", "site=x", "--json").stdout)["devices"][0]["id"] == "a"
    assert hub("group", "create", "g", "--label", "site=x").returncode == 0
    assert hub("group", "members", "g").stdout == "a\n"
    assert hub("device", "suspend", "a").stdout == "a is suspended\n"


def test_whois_and_forget(api: Api) -> None:
    api.add("dev")
    name = pseudonym(bytes.fromhex((Path(api.env["HUB_DATA_DIR"]) / "pseudonym.key").read_text()), "dev")
    assert api.rest.get(f"/v1/pseudonyms/{name}").json() == {"pseudonym": name, "device_id": "dev"}
    assert api.rest.get("/v1/pseudonyms/p-aaaaaaaaaaaaaaaa").status_code == 404
    assert api.rest.get("/v1/pseudonyms/dev").status_code == 422
    assert api.rest.post("/v1/devices/dev:forget").json()["type"] == "/problems/not-retired"
    forgotten = api.rest.post("/v1/devices/dev:forget", json={"force": True}).json()
    assert any("backups" in item for item in forgotten["not_reached"])
    shown = api.rest.get("/v1/devices/dev").json()
    assert (shown["status"], shown["serial"].startswith("forgotten-"), shown["keys"]) == ("retired", True, [])
    assert api.rest.get(f"/v1/pseudonyms/{name}").status_code == 404
    assert api.add("dev").status_code == 409, "nobody takes the id again"
    until(lambda: api.metric("registry_outbox_depth") == 0, "all is relayed")
    records = asyncio.run(read_records(api.env["HUB_KAFKA_BOOTSTRAP"], Kafka.REGISTRY, "dev"))
    assert records[-1].value is None
