"""The audit log on a real Postgres: it only grows, and what is erased from beside it stays proven."""

import hashlib
import json

import asyncpg
import pytest

from control_plane.db.connect import acquire, transaction
from control_plane.registry import journal
from shared.authority import Actor, Role

pytestmark = pytest.mark.stack

ACTOR = Actor("t-someone", Role.ADMIN, source="192.0.2.7")


async def test_who_did_what_from_where_before_and_after(parts):
    async with transaction(parts.database) as db:
        await journal.audit(
            db, ACTOR, "device.patch", "dev-a", {"fields": ["serial"]}, before={"serial": "1"}, after={}
        )
    async with acquire(parts.database) as db:
        row = await db.fetchrow("SELECT * FROM audit_log WHERE target = 'dev-a'")
        detail = await db.fetchrow("SELECT * FROM audit_details WHERE audit_id = $1", row["id"])
    assert (row["actor"], row["source"], row["action"]) == ("t-someone", "192.0.2.7", "device.patch")
    assert json.loads(row["detail"]) == {"fields": ["serial"]}
    assert (json.loads(detail["before"]), json.loads(detail["after"])) == ({"serial": "1"}, {})
    told = json.dumps({"before": {"serial": "1"}, "after": {}}, sort_keys=True)
    assert row["detail_sha256"] == hashlib.sha256(told.encode()).digest()


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE audit_log SET actor = 'nobody'",
        "DELETE FROM audit_log",
        "TRUNCATE audit_log CASCADE",
        "UPDATE audit_details SET after = NULL",
        "TRUNCATE audit_details",
    ],
)
async def test_it_only_grows(parts, statement):
    async with transaction(parts.database) as db:
        await journal.audit(db, ACTOR, "device.patch", "dev-b", before={"serial": "1"}, after={})
    with pytest.raises(asyncpg.PostgresError, match="only grows"):
        async with acquire(parts.database) as db:
            await db.execute(statement)


async def test_what_is_personal_can_be_erased(parts):
    async with transaction(parts.database) as db:
        await journal.audit(db, ACTOR, "device.patch", "dev-c", before={"serial": "1"}, after={})
        gone = await db.execute("DELETE FROM audit_details USING audit_log WHERE audit_id = id AND target = 'dev-c'")
    assert gone == "DELETE 1"
