"""Imports on a real Postgres: each line's fate, all or nothing, keys that enter at the end, and crashes."""

import json
from collections.abc import Sequence
from typing import Any

import pytest

from control_plane.db.connect import Pool
from control_plane.registry.fleet import importer
from control_plane.registry.fleet.import_lines import Bad, Format, parse
from control_plane.registry.fleet.importer import Created, Importer, Mode, Progress, Report
from shared.authority import Actor
from shared.device import decode_view
from shared.errors import Transient
from tests.stack.registry.fleet.fleet_kit import ACTOR, put, registry


def line(serial: str, **more: Any) -> bytes:
    return json.dumps({"serial": serial, "type": "thermometer"} | more).encode()


class Bulk:
    """An importer whose broker takes keys at a word, or does not."""

    def __init__(self, database: Pool) -> None:
        self.database = database
        self.trouble: Exception | None = None
        self.entered = 0
        self.importer = Importer(database, lambda name: f"p-{name}", self.enter)

    async def enter(self, actor: Actor) -> None:
        assert actor == ACTOR
        assert await self.visible() == [], "nobody sees a device whose key the broker does not hold"
        if self.trouble:
            raise self.trouble
        self.entered += 1
        await self.database.execute("UPDATE device_credentials SET held_at = now() WHERE why = 'import'")

    async def run(self, lines: Sequence[bytes], mode: Mode = Mode.PER_LINE, *, keys: bool = False) -> list[Report]:
        reports = self.importer.run(parse(iter(lines), Format.JSON_LINES), mode=mode, keys=keys, actor=ACTOR)
        return [report async for report in reports]

    async def visible(self) -> list[str]:
        rows = await self.database.fetch("SELECT id FROM devices WHERE registered_at IS NOT NULL ORDER BY id")
        return [row["id"] for row in rows]

    async def count(self, table: str) -> int:
        return int(await self.database.fetchval(f"SELECT count(*) FROM {table}"))


def fates(reports: Sequence[Report]) -> dict[int, str]:
    return {
        report.line: report.why if isinstance(report, Bad) else "created"
        for report in reports
        if not isinstance(report, Progress)
    }


LINES = [
    line("A", id="a", gateway_id="gw"),  # its gateway comes later, in the same batch
    line("G", id="gw", kind="gateway", type="gateway"),
    line("B", id="b", gateway_id="nobody"),
    line("taken", id="c"),
    line("D", id="taken"),
    line("A", id="e"),
    line("F", id="a"),
    line("H", id="h", kind="gateway", gateway_id="gw"),
    b"{",
    line("I", id="i", labels={"site": "x"}, location={"place": "hall"}, limits={"messages_per_s": 2}),
]
FATES = {
    1: "created",
    2: "created",
    3: "gateway-unknown",
    4: "serial-taken",
    5: "id-taken",
    6: "twice",
    7: "twice",
    8: "gateway-behind-gateway",
    9: "malformed",
    10: "created",
}


async def test_each_line_has_its_fate(database_url: str) -> None:
    async with registry(database_url) as database:
        bulk = Bulk(database)
        await put(database, "taken", serial="taken")
        reports = await bulk.run(LINES)
        assert fates(reports) == FATES
        assert reports[-1] == Progress(10, 3, 7)
        assert await bulk.visible() == ["a", "gw", "i", "taken"]
        row = await database.fetchrow("SELECT * FROM devices WHERE id = 'i'")
        assert (row["status"], row["pseudonym"], json.loads(row["limits"])) == (
            "provisioned",
            "p-i",
            {"messages_per_s": 2},
        )
        assert await database.fetchval("SELECT device_id FROM device_labels WHERE name = 'site'") == "i"
        assert await database.fetchval("SELECT gateway_id FROM gateway_ownership WHERE device_id = 'a'") == "gw"
        told = await database.fetch("SELECT key, value FROM registry_outbox WHERE topic LIKE '%registry%'")
        for record in told:
            stored = await database.fetchval("SELECT view FROM device_view WHERE id = $1", record["key"])
            assert decode_view(record["value"]) == decode_view(stored.encode()), "told as it is stored"
        assert len(told) == 3
        audit = await database.fetch("SELECT * FROM audit_log")
        assert [json.loads(item["detail"])["devices"] for item in audit] == [3]
        again = fates(await bulk.run(LINES[:2]))
        assert again == {1: "id-taken", 2: "id-taken"}


@pytest.mark.parametrize("keys", [False, True])
async def test_all_or_nothing_is_nothing_where_one_line_is_refused(
    database_url: str, monkeypatch: pytest.MonkeyPatch, *, keys: bool
) -> None:
    monkeypatch.setattr(importer, "BATCH", 2)
    monkeypatch.setattr(importer, "BREATH", 2)
    async with registry(database_url) as database:
        bulk = Bulk(database)
        lines = [line(str(number)) for number in range(7)]
        reports = await bulk.run([*lines, line("0")], Mode.ALL_OR_NOTHING, keys=keys)
        assert list(fates(reports).items()) == [(8, "twice" if keys else "serial-taken")]
        assert (await bulk.visible(), await bulk.count("devices"), bulk.entered) == ([], 0, 0)
        assert (await bulk.count("registry_outbox"), await bulk.count("audit_log")) == (0, 0)
        reports = await bulk.run(lines, Mode.ALL_OR_NOTHING, keys=keys)
        assert set(fates(reports).values()) == {"created"}
        assert len(await bulk.visible()) == 7


async def test_keys_enter_once_for_all_and_are_shown_when_the_broker_has_them(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importer, "BATCH", 3)
    monkeypatch.setattr(importer, "BREATH", 3)
    async with registry(database_url) as database:
        bulk = Bulk(database)
        reports = await bulk.run(LINES[:3] + [line(str(number)) for number in range(5)], keys=True)
        created = [report for report in reports if isinstance(report, Created)]
        assert (len(created), bulk.entered) == (7, 1)
        keys = {str(report.api_key).partition(".")[0] for report in created}
        assert keys == {row["key_id"] for row in await database.fetch("SELECT key_id FROM device_credentials")}
        assert len(await bulk.visible()) == 7
        assert await bulk.count("registry_outbox") == 14
        for record in await database.fetch("SELECT key, value FROM registry_outbox WHERE topic LIKE '%registry%'"):
            stored = await database.fetchval("SELECT view FROM device_view WHERE id = $1", record["key"])
            assert decode_view(record["value"]) == decode_view(stored.encode()), "told as it is stored"
        secret = str(created[0].api_key).partition(".")[2]
        dump = str(await database.fetch("SELECT * FROM device_credentials"))
        assert secret not in dump
        assert secret not in repr(created)


async def test_a_broker_that_takes_no_keys_leaves_nothing_in_the_way(database_url: str) -> None:
    async with registry(database_url) as database:
        bulk = Bulk(database)
        bulk.trouble = Transient("the broker is away")
        with pytest.raises(Transient, match="away"):
            await bulk.run([line("A", id="a")], keys=True)
        assert await bulk.count("devices") == 0
        bulk.trouble = None
        assert fates(await bulk.run([line("A", id="a")], keys=True)) == {1: "created"}


async def test_an_unfinished_registration_makes_way(database_url: str) -> None:
    """As one whose process was killed before its key entered leaves it."""
    async with registry(database_url) as database:
        await database.execute("INSERT INTO device_types (name) VALUES ('thermometer')")
        for name, serial in (("a", "X"), ("x", "B")):
            await database.execute(
                "INSERT INTO devices (id, serial, type, kind, status)"
                " VALUES ($1, $2, 'thermometer', 'device', 'active')",
                name,
                serial,
            )
        bulk = Bulk(database)
        assert fates(await bulk.run([line("A", id="a"), line("B", id="b")])) == {1: "created", 2: "created"}
        assert await bulk.count("devices") == 2


async def test_one_import_at_a_time_and_no_more_lines_than_stated(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importer, "LINES", 3)
    async with registry(database_url) as database:
        bulk = Bulk(database)
        reports = await bulk.run([line(str(number)) for number in range(9)])
        assert list(fates(reports).items()) == [(4, "too-many"), (1, "created"), (2, "created"), (3, "created")]
        first = bulk.importer.run(
            parse(iter([line("x"), line("y")]), Format.JSON_LINES), mode=Mode.PER_LINE, keys=False, actor=ACTOR
        )
        await anext(first)
        with pytest.raises(Transient, match="another import"):
            await bulk.run([line("z")])
        await first.aclose()  # type: ignore[attr-defined]
        assert fates(await bulk.run([line("z")])) == {1: "created"}
