"""Changes of one device on a real Postgres: two at once, what they leave behind, and the moves of its life."""

import asyncio
import json
from typing import Any

from control_plane.db.connect import Pool
from control_plane.registry.fleet.changes import Changes, Stale
from control_plane.registry.fleet.patch import Patch
from control_plane.registry.life import Illegal, Move
from control_plane.registry.registration import Refusal, Refused
from shared.device import Status
from shared.ids import DeviceId
from tests.stack.registry.fleet.fleet_kit import ACTOR, put, registry

DEV = DeviceId("dev")


async def row(database: Pool, name: str = "dev") -> Any:
    return await database.fetchrow("SELECT * FROM devices WHERE id = $1", name)


async def test_of_two_changes_at_once_one_wins_and_the_other_is_stale(database_url: str) -> None:
    async with registry(database_url) as database:
        await put(database, "dev")
        changes = Changes(database)
        for turn in range(10):
            version = (await row(database))["version"]
            done = await asyncio.gather(
                *(
                    changes.patch(DEV, Patch({"labels": {f"n{n}": str(turn)}}), frozenset({version}), ACTOR)
                    for n in (1, 2)
                )
            )
            assert sorted(map(str, done)) == sorted([str(version + 1), str(Stale(version + 1))])
        assert (await row(database))["version"] == 11


async def test_a_change_leaves_its_values_an_audit_line_and_words_for_kafka(database_url: str) -> None:
    async with registry(database_url) as database:
        await put(database, "dev", labels={"site": "berlin", "old": "x"})
        asked = Patch(
            {"serial": "SN-9", "labels": {"old": None, "new": "y"}, "location": {"place": "hall", "lat": 1.0}}
        )
        assert await Changes(database).patch(DEV, asked, None, ACTOR) == 2
        there = await row(database)
        assert (there["serial"], json.loads(there["labels"])) == ("SN-9", {"site": "berlin", "new": "y"})
        assert json.loads(there["location"]) == {"place": "hall", "lat": 1.0}
        labels = await database.fetch("SELECT name, value FROM device_labels WHERE device_id = 'dev' ORDER BY 1")
        assert [tuple(item) for item in labels] == [("new", "y"), ("site", "berlin")]
        line = await database.fetchrow("SELECT * FROM audit_log AS a JOIN audit_details AS d ON d.audit_id = a.id")
        assert (line["actor"], line["source"], line["action"]) == ("t-someone", "192.0.2.7", "device.patch")
        assert json.loads(line["before"])["serial"] == "SN-dev"
        assert json.loads(line["after"])["labels"] == {"site": "berlin", "new": "y"}
        assert "SN-" not in line["detail"], "what is kept for ever names no serial"
        told = await database.fetch("SELECT topic, value FROM registry_outbox ORDER BY seq")
        assert [item["topic"] for item in told] == ["iot.device.registry.v1", "iot.device.lifecycle.v1"]
        assert json.loads(told[1]["value"])["change"] == "changed"
        assert await Changes(database).patch(DEV, Patch({"serial": "SN-9"}), None, ACTOR) == 2, "nothing changed"
        assert await database.fetchval("SELECT count(*) FROM registry_outbox") == 2


async def test_refused_changes_change_nothing(database_url: str) -> None:
    async with registry(database_url) as database:
        await put(database, "dev")
        await put(database, "other")
        changes = Changes(database)
        before = tuple(await row(database))
        taken = await changes.patch(DEV, Patch({"serial": "SN-other"}), None, ACTOR)
        assert isinstance(taken, Refused)
        assert taken.why is Refusal.SERIAL_TAKEN
        many = await changes.patch(DEV, Patch({"labels": {f"n{n}": "" for n in range(17)}}), None, ACTOR)
        assert isinstance(many, Refused)
        assert many.why is Refusal.TOO_MANY_LABELS
        assert await changes.patch(DEV, Patch({"serial": "x"}), frozenset(), ACTOR) == Stale(1)
        assert await changes.patch(DeviceId("nobody"), Patch({"serial": "x"}), None, ACTOR) is None
        assert tuple(await row(database)) == before


async def test_moves(database_url: str) -> None:
    async with registry(database_url) as database:
        await put(database, "dev", status="pending")
        changes = Changes(database)
        assert await changes.move(DEV, Move.APPROVE, ACTOR, "known by name") is Status.PROVISIONED
        assert await changes.move(DEV, Move.SUSPEND, ACTOR, None) is Status.SUSPENDED
        assert await changes.move(DEV, Move.RESUME, ACTOR, None) is Status.PROVISIONED
        assert isinstance(await changes.move(DEV, Move.RESUME, ACTOR, None), Illegal)
        assert await changes.move(DEV, Move.RETIRE, ACTOR, None) is Status.RETIRED
        assert await changes.move(DeviceId("nobody"), Move.RETIRE, ACTOR, None) is None
        actions = await database.fetch("SELECT action, detail FROM audit_log ORDER BY id")
        assert [item["action"].partition(".")[2] for item in actions] == ["approve", "suspend", "resume", "retire"]
        assert json.loads(actions[0]["detail"])["reason"] == "known by name"
