"""Pseudonyms and forgetting on a real Postgres."""

import json
from functools import partial

from control_plane.db.connect import Pool
from control_plane.registry import journal
from control_plane.registry.fleet.changes import Changes
from control_plane.registry.fleet.patch import Patch
from control_plane.registry.fleet.privacy import Privacy, StillAlive
from control_plane.registry.life import Move
from shared.ids import DeviceId
from shared.pseudonym import pseudonym
from tests.stack.registry.fleet.fleet_kit import ACTOR, put, registry

DEV = DeviceId("dev")
KEY, OTHER = b"k" * 32, b"o" * 32


def of(database: Pool, key: bytes = KEY) -> Privacy:
    return Privacy(database, partial(pseudonym, key))


async def test_whoever_was_registered_however_is_found_and_the_question_is_audited(database_url: str) -> None:
    async with registry(database_url) as database:
        await put(database, "dev")
        privacy = of(database)
        assert await privacy.whois(pseudonym(KEY, "dev"), ACTOR) == "dev"
        await put(database, "later")
        assert await privacy.whois(pseudonym(KEY, "later"), ACTOR) == "later"
        assert await privacy.whois(pseudonym(KEY, "nobody"), ACTOR) is None
        rows = await database.fetch("SELECT actor, action, target, detail FROM audit_log ORDER BY id")
        assert [(row["actor"], row["action"]) for row in rows] == [("t-someone", "device.whois")] * 3
        assert [row["target"] for row in rows] == ["dev", "later", pseudonym(KEY, "nobody")]
        assert await privacy.complete() == 0


async def test_with_a_new_key_every_pseudonym_is_made_anew(database_url: str) -> None:
    async with registry(database_url) as database:
        await put(database, "dev")
        assert await of(database).complete() == 1
        changed = of(database, OTHER)
        assert await changed.whois(pseudonym(OTHER, "dev"), ACTOR) == "dev"
        assert await changed.whois(pseudonym(KEY, "dev"), ACTOR) is None


async def test_forgetting_erases_all_that_is_personal_and_leaves_the_trail(database_url: str) -> None:
    async with registry(database_url) as database:
        await put(database, "gw", kind="gateway")
        for name in ("dev", "sibling"):
            await put(
                database, name, serial=f"PERSONAL-{name}", labels={"owner": f"PERSONAL-{name}"}, gateway_id="gw"
            )
            await database.execute(
                "INSERT INTO anomalies"
                " (id, ts, device_id, metric, value, score, severity, reason, source, episode_id)"
                " VALUES ($1, now(), $1, 'm', 1, 1, 'low', 'r', 'hub', 'e')",
                name,
            )
        await database.execute("CREATE TABLE t_now PARTITION OF telemetry DEFAULT")
        await database.execute(
            "INSERT INTO telemetry (ts, received_at, device_id, lane, metrics, clock)"
            " SELECT now(), now(), n, 'live', '{}', 'synced' FROM unnest(ARRAY['dev', 'dev', 'sibling']) AS n"
        )
        changes, privacy = Changes(database), of(database)
        await privacy.complete()
        await changes.patch(DEV, Patch({"serial": "PERSONAL-2", "location": {"place": "PERSONAL-home"}}), None, ACTOR)
        assert isinstance(await privacy.forget(DEV, ACTOR), StillAlive)
        await changes.move(DEV, Move.RETIRE, ACTOR, None)
        await database.execute("TRUNCATE registry_outbox")
        done = await privacy.forget(DEV, ACTOR)
        assert done is not None
        assert not isinstance(done, StillAlive)
        assert (done.erased["telemetry"], done.erased["anomalies"], done.erased["audit_details"]) == (2, 1, 1)
        assert await everything(database, "PERSONAL-dev") == await everything(database, "PERSONAL-2") == []
        assert await everything(database, "PERSONAL-home") == []
        assert "devices" in await everything(database, "PERSONAL-sibling"), "the search finds what is there"
        actions = [row["action"] for row in await database.fetch("SELECT action FROM audit_log WHERE target = 'dev'")]
        assert actions == ["device.patch", "device.retire", "device.forget"]
        (tombstone,) = await database.fetch("SELECT * FROM registry_outbox")
        assert (tombstone["topic"], tombstone["key"], tombstone["value"]) == ("iot.device.registry.v1", "dev", None)
        assert await privacy.whois(pseudonym(KEY, "dev"), ACTOR) is None
        again = await privacy.forget(DEV, ACTOR)
        assert not isinstance(again, StillAlive | None), "what came meanwhile goes by forgetting again"
        assert await privacy.forget(DeviceId("nobody"), ACTOR) is None
        assert await database.fetchval("SELECT count(*) FROM telemetry") == 1


async def test_what_is_erased_stays_proven(database_url: str) -> None:
    async with registry(database_url) as database:
        await put(database, "dev", status="retired")
        async with database.acquire() as db, db.transaction():
            await journal.audit(db, ACTOR, "device.patch", "dev", before={"serial": "1"}, after={})
        await of(database).forget(DEV, ACTOR)
        row = await database.fetchrow("SELECT * FROM audit_log WHERE action = 'device.patch'")
        assert row["detail_sha256"] is not None
        assert json.loads(row["detail"]) == {}


async def everything(database: Pool, words: str) -> list[str]:
    """Tables in which any row holds these words."""
    tables = await database.fetch(
        "SELECT relname FROM pg_class WHERE relkind IN ('r', 'p') AND relnamespace = 'public'::regnamespace"
    )
    found = []
    for table in tables:
        name = table["relname"]
        query = f"SELECT EXISTS (SELECT FROM {name} AS t WHERE position($1 IN t::text) > 0)"
        if await database.fetchval(query, words):
            found.append(name)
    return found
