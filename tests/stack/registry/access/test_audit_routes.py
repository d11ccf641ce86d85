"""The audit log of a real hub: what was done, found again, copied whole, and never altered."""

import csv
import io
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from deploy.stack import Stack
from tests.stack.registry.conftest import Api


def entries(api: Api, **query: Any) -> list[dict[str, Any]]:
    response = api.rest.get("/v1/audit", params=query)
    assert response.status_code == 200, response.text
    found: list[dict[str, Any]] = response.json()["entries"]
    return found


def test_what_was_done_by_whom_from_where_is_found_again(api: Api) -> None:
    begun = datetime.now(UTC) - timedelta(seconds=5)
    for name in ("one", "two"):
        assert api.add(name).status_code == 201
    api.rest.put("/v1/types/thermometer", json={"metrics": {}})
    own = api.rest.headers["authorization"].removeprefix("Bearer ").partition(".")[0]
    found = entries(api)
    assert [(line["action"], line["target"]) for line in found] == [
        ("type.put", "thermometer"),
        ("device.register", "two"),
        ("device.register", "one"),
    ]
    assert {(line["actor"], line["source"]) for line in found} == {(own, "127.0.0.1")}
    assert [line["target"] for line in entries(api, action="device")] == ["two", "one"]
    assert [line["target"] for line in entries(api, action="device.register", target="one")] == ["one"]
    assert entries(api, action="dev") == entries(api, actor="t-nobody") == []
    middle = found[1]["at"]
    assert [line["target"] for line in entries(api, to=middle)] == ["one"]
    assert [line["target"] for line in entries(api, **{"from": middle})] == ["thermometer", "two"]
    assert len(entries(api, **{"from": begun.isoformat()}, to="9999-12-31T23:59:59-23:59")) == 3


def test_pages_show_each_line_once_also_of_one_moment(api: Api, stack: Stack, database_url: str) -> None:
    stack.postgres.psql(
        "INSERT INTO audit_log (actor, action, target) SELECT 'x', 'a.b', n FROM generate_series(1, 25) AS n",
        database_url.rpartition("/")[2],
    )
    seen: list[str] = []
    cursor: str | None = ""
    while cursor is not None:
        page = api.rest.get("/v1/audit", params={"limit": 7} | ({"cursor": cursor} if cursor else {})).json()
        seen += [line["target"] for line in page["entries"]]
        cursor = page["next_cursor"]
    assert seen == [str(number) for number in range(25, 0, -1)]


@pytest.mark.parametrize("cursor", ["AA", "eA", "MjAyNi0wMS0wMVQwMDowMDowMCAx", "OTk5OS0wMS0wMVQwMDowMDowMFogOQ"])
def test_a_cursor_that_no_list_gave(api: Api, cursor: str) -> None:
    answer = api.rest.get("/v1/audit", params={"cursor": cursor})
    assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (422, "?cursor")


def test_a_copy_is_whole_in_either_form_and_is_itself_told(api: Api, stack: Stack, database_url: str) -> None:
    """More lines than one page of the database, so that pages are joined."""
    database = database_url.rpartition("/")[2]
    stack.postgres.psql(
        "WITH made AS (INSERT INTO audit_log (actor, action, target, at, detail_sha256) SELECT 'x', 'a.b', '=' || n,"
        " now() - make_interval(secs => n / 10), decode(repeat('00', 32), 'hex') FROM generate_series(1, 1250) AS n"
        ' RETURNING id) INSERT INTO audit_details SELECT id, \'{"label": "was"}\', NULL FROM made WHERE id > 1',
        database,
    )
    answer = api.rest.get("/v1/audit:export", params={"action": "a.b"})
    assert answer.headers["content-type"] == "application/jsonl"
    found = [json.loads(line) for line in answer.text.splitlines()]
    assert sorted(line["id"] for line in found) == list(range(1, 1251))
    assert [line["at"] for line in found] == sorted(line["at"] for line in found)
    assert {json.dumps(line["before"]) for line in found} == {"null", '{"label": "was"}'}
    assert [line["id"] for line in found if line["erased"]] == [1]
    text = api.rest.get("/v1/audit:export", params={"action": "a", "format": "csv"}).text
    rows = list(csv.DictReader(io.StringIO(text, newline="")))
    assert len(rows) == 1250
    assert all(row["target"].startswith("'=") for row in rows)
    told = entries(api, action="audit.export")
    assert [line["detail"] for line in told] == [{"action": "a"}, {"action": "a.b"}]
    assert api.events("audit_exported")[0]["rows"] == 1250
