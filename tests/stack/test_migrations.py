"""`hub migrate` on the real servers: the sum is schema.sql, again changes nothing, topics keep their partitions."""

import asyncio
import os
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from aiokafka.admin import AIOKafkaAdminClient

from control_plane.db import api_token, kafka, migrate, secret_files
from control_plane.db.connect import acquire, connect, pool
from control_plane.db.kafka import Report
from control_plane.db.migrate import Migration
from control_plane.db.setup import SetupConfig, set_up
from deploy.stack import Stack
from shared.config import Secret
from shared.errors import Permanent, Transient
from shared.topics import Kafka

_CATALOG = {
    "columns": """
        SELECT table_name, column_name, data_type, udt_name, is_nullable, column_default, collation_name, is_identity,
               character_maximum_length
        FROM information_schema.columns WHERE table_schema = 'public' ORDER BY 1, 2""",
    "constraints": """
        SELECT conrelid::regclass::text, conname, pg_get_constraintdef(oid)
        FROM pg_constraint WHERE connamespace = 'public'::regnamespace ORDER BY 1, 2""",
    "indexes": "SELECT tablename, indexname, indexdef FROM pg_indexes WHERE schemaname = 'public' ORDER BY 1, 2",
    "relations": """
        SELECT relname, relkind, relpersistence, pg_get_partkeydef(oid), relispartition,
               pg_get_expr(relpartbound, oid), reloptions
        FROM pg_class WHERE relnamespace = 'public'::regnamespace ORDER BY 1""",
    "functions": """
        SELECT proname, pg_get_functiondef(oid) FROM pg_proc
        WHERE pronamespace = 'public'::regnamespace ORDER BY 1, 2""",
    "triggers": """
        SELECT tgrelid::regclass::text, tgname, pg_get_triggerdef(oid)
        FROM pg_trigger WHERE NOT tgisinternal ORDER BY 1, 2""",
    "views": "SELECT viewname, definition FROM pg_views WHERE schemaname = 'public' ORDER BY 1",
    "types": """
        SELECT typname, typtype, pg_catalog.format_type(typbasetype, typtypmod) FROM pg_type
        WHERE typnamespace = 'public'::regnamespace AND typtype IN ('d', 'e') ORDER BY 1""",
    "extensions": "SELECT extname FROM pg_extension ORDER BY 1",
}


@asynccontextmanager
async def database(url: str) -> AsyncIterator[Any]:
    connection = await connect(url)
    try:
        yield connection
    finally:
        await connection.close()


async def catalog(url: str) -> dict[str, list[tuple[Any, ...]]]:
    """All that makes up a schema, the record of migrations left out."""
    async with database(url) as db:
        found = {}
        for name, query in _CATALOG.items():
            rows = [tuple(row) for row in await db.fetch(query)]
            found[name] = [row for row in rows if not any("schema_migrations" in str(cell) for cell in row)]
        return found


@pytest.fixture
def other_database_url(stack: Stack) -> Iterator[str]:
    stack.postgres.psql("CREATE DATABASE schema_only")
    yield stack.postgres.database_url("schema_only")
    stack.postgres.psql("DROP DATABASE schema_only WITH (FORCE)")


async def test_all_migrations_are_the_schema(database_url: str, other_database_url: str) -> None:
    async with database(database_url) as db:
        await migrate.apply(db)
    async with database(other_database_url) as db:
        await db.execute(migrate.SCHEMA.read_text(encoding="utf-8"))
    by_migrations, by_schema = await catalog(database_url), await catalog(other_database_url)
    assert by_migrations["columns"], "the catalog was read"
    for name in _CATALOG:
        assert by_migrations[name] == by_schema[name], name


async def test_again_changes_nothing_and_each_has_its_record(database_url: str) -> None:
    async with database(database_url) as db:
        applied = await migrate.apply(db)
        assert applied == [migration.name for migration in migrate.read_migrations()]
        assert await migrate.apply(db) == []
        rows = await db.fetch("SELECT number, name, sha256, applied_at FROM schema_migrations ORDER BY number")
    assert [(row["number"], row["name"], row["sha256"]) for row in rows] == [
        (migration.number, migration.name, migration.sha256) for migration in migrate.read_migrations()
    ]


async def test_many_migrators_at_once_apply_each_once(database_url: str) -> None:
    async def one() -> list[str]:
        async with database(database_url) as db:
            return await migrate.apply(db)

    results = await asyncio.gather(*(one() for _ in range(5)))
    assert sorted(len(applied) for applied in results) == [0, 0, 0, 0, len(migrate.read_migrations())]


async def test_a_failing_migration_leaves_no_trace_of_itself(database_url: str) -> None:
    good = Migration(1, "0001_good.sql", "CREATE TABLE good ()", "1")
    bad = Migration(2, "0002_bad.sql", "CREATE TABLE half (); SELECT 1 / 0", "2")
    async with database(database_url) as db:
        with pytest.raises(asyncpg.DivisionByZeroError):
            await migrate.apply(db, [good, bad])
        tables = await db.fetch("SELECT tablename FROM pg_tables WHERE schemaname = 'public' ORDER BY 1")
        assert [row["tablename"] for row in tables] == ["good", "schema_migrations"]
        assert await db.fetchval("SELECT max(number) FROM schema_migrations") == 1
        assert await migrate.apply(db, [good, replace(bad, sql="CREATE TABLE whole ()")]) == ["0002_bad.sql"]


async def test_an_applied_file_that_changed_is_refused_before_anything_is_done(database_url: str) -> None:
    first = Migration(1, "0001_a.sql", "CREATE TABLE a ()", "1")
    async with database(database_url) as db:
        await migrate.apply(db, [first])
        with pytest.raises(Permanent, match="changed after it was applied"):
            await migrate.apply(
                db, [replace(first, sha256="2"), Migration(2, "0002_b.sql", "CREATE TABLE b ()", "3")]
            )
        assert await db.fetchval("SELECT to_regclass('b')") is None


async def test_a_database_without_the_schema_is_permanent_and_says_migrate(database_url: str) -> None:
    async with await pool(database_url) as empty:
        with pytest.raises(Permanent, match="hub migrate"):
            async with acquire(empty) as db:
                await db.fetch("SELECT * FROM devices")


async def test_a_killed_postgres_is_transient_and_the_pool_recovers(stack: Stack, database_url: str) -> None:
    async with await pool(database_url) as connections:
        async with acquire(connections) as db:
            assert await db.fetchval("SELECT 1") == 1
        await asyncio.to_thread(stack.postgres.kill)
        try:
            with pytest.raises(Transient):
                async with acquire(connections) as db:
                    await db.fetchval("SELECT 1")
        finally:
            await asyncio.to_thread(stack.postgres.start)
        async with acquire(connections) as db:
            assert await db.fetchval("SELECT 1") == 1


@pytest.fixture
def topic() -> str:
    return f"test-{os.urandom(6).hex()}"


async def topic_facts(stack: Stack, name: str) -> int:
    admin = AIOKafkaAdminClient(bootstrap_servers=stack.env()["HUB_KAFKA_BOOTSTRAP"])
    await admin.start()
    try:
        (found,) = await admin.describe_topics([name])
        return len(found["partitions"])
    finally:
        await admin.close()


async def test_topics_are_made_adjusted_and_never_split(stack: Stack, topic: str) -> None:
    bootstrap = stack.env()["HUB_KAFKA_BOOTSTRAP"]
    wanted = kafka.Wanted(topic, 2, 1, {"retention.ms": "1000", "max.message.bytes": "2000"})
    assert await kafka.ensure_topics(bootstrap, [wanted]) == Report(created=[topic])
    assert await kafka.ensure_topics(bootstrap, [wanted]) == Report()
    changed = replace(wanted, partitions=5, settings={"retention.ms": "3000"})
    assert await kafka.ensure_topics(bootstrap, [changed]) == Report(
        changed=[f"{topic}: retention.ms 1000 -> 3000"], left=[f"{topic} has 2 partitions, not 5"]
    )
    assert await topic_facts(stack, topic) == 2
    # What somebody else set on the topic was said again, not wiped by the change.
    assert await kafka.ensure_topics(bootstrap, [wanted]) == Report(
        changed=[f"{topic}: retention.ms 3000 -> 1000"],
    )


def config(stack: Stack, database_url: str, directory: Path) -> SetupConfig:
    return SetupConfig(
        database_url=Secret(database_url),
        kafka_bootstrap=stack.env()["HUB_KAFKA_BOOTSTRAP"],
        data_dir=directory,
        admin_token_file=directory / "admin-token",
    )


async def test_set_up_as_a_whole(stack: Stack, database_url: str, tmp_path: Path) -> None:
    asked = config(stack, database_url, tmp_path)
    done = await set_up(asked, wait_s=30, say=print)
    assert (done.admin_token_made, done.pseudonym_key_made) == (True, True)
    assert done.migrations
    assert await topic_facts(stack, Kafka.REGISTRY) == 4
    again = await set_up(asked, wait_s=30, say=print)
    assert again == replace(again, migrations=[], topics=Report(), admin_token_made=False, pseudonym_key_made=False)
    name, secret = api_token.split_token((tmp_path / "admin-token").read_text().strip()) or ("", "")
    async with database(database_url) as db:
        (row,) = await db.fetch("SELECT * FROM api_tokens")
    assert (row["id"], row["role"], row["token_hash"]) == (name, "admin", api_token.token_hash(secret))
    assert secret not in str(dict(row))


async def test_a_token_file_that_outlived_its_database_is_known_again(
    stack: Stack, database_url: str, tmp_path: Path
) -> None:
    token, _ = secret_files.ensure_token(tmp_path / "admin-token")
    done = await set_up(config(stack, database_url, tmp_path), wait_s=30, say=print)
    assert not done.admin_token_made
    async with database(database_url) as db:
        assert await db.fetchval("SELECT count(*) FROM api_tokens WHERE id = $1", token.split(".")[0]) == 1


async def test_a_revoked_token_is_not_brought_back(stack: Stack, database_url: str, tmp_path: Path) -> None:
    asked = config(stack, database_url, tmp_path)
    await set_up(asked, wait_s=30, say=print)
    async with database(database_url) as db:
        await db.execute("UPDATE api_tokens SET revoked_at = now()")
    with pytest.raises(Permanent, match="revoked"):
        await set_up(asked, wait_s=30, say=print)


async def test_it_waits_for_a_server_that_comes(stack: Stack, database_url: str, tmp_path: Path) -> None:
    said: list[str] = []
    await asyncio.to_thread(stack.postgres.stop)
    waiting = asyncio.create_task(set_up(config(stack, database_url, tmp_path), wait_s=60, say=said.append))
    try:
        async with asyncio.timeout(30):
            while not said:
                await asyncio.sleep(0.05)
    finally:
        await asyncio.to_thread(stack.postgres.start)
    assert (await waiting).migrations
    assert "Postgres does not answer" in said[0]
