"""Bad days of the outbox's file, with the agent as a process and the real hub at the other end."""

import asyncio
import itertools
import shutil
import sqlite3
from collections import Counter
from contextlib import closing

import pytest

from deploy.site.installation import installed
from shared.ids import new_device_id
from shared.topics import Kafka
from tests.stack.whole_site import records_of, say, silent, until

pytestmark = [pytest.mark.stack, pytest.mark.timeout(300)]
PAGE = 4096
NEVER_S = 3_600.0
NO_HEALTH = {"AGENT_HEALTH_READINGS_S": "0"}  # so that every row is one that a test sent


def outbox(gateway):
    return gateway.data_dir / "outbox.db"


def asked(gateway, question):
    """One number from the outbox, read beside its agent."""
    with closing(sqlite3.connect(f"file:{outbox(gateway)}?mode=ro", uri=True, timeout=30)) as connection:
        return connection.execute(question).fetchone()[0]


def damage_rows(gateway):
    """Overwrite all but the newest of the pages that hold readings; how many."""
    with closing(sqlite3.connect(outbox(gateway))) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    data = bytearray(outbox(gateway).read_bytes())
    pages = [at for at in range(0, len(data), PAGE) if data[at] == 0x0D and b'"reading"' in data[at : at + PAGE]]
    for at in pages[:-1]:
        data[at : at + PAGE] = b"\xa5" * PAGE
    outbox(gateway).write_bytes(data)
    return len(pages) - 1


async def in_flight(site, gateway, device, numbers):
    """Have the agent form batches that the hub never sees: they are lost on the link with the cut that follows."""
    link = site.links[gateway.id]
    link.delay_s = NEVER_S
    first = 1 + await asyncio.to_thread(asked, gateway, "SELECT coalesce(max(seq), 0) FROM rows")
    await say(gateway, device, numbers)

    async def formed():
        return await asyncio.to_thread(asked, gateway, f"SELECT count(*) FROM batches WHERE last >= {first}")

    await until(formed)
    link.cut()
    link.delay_s = 0.0


async def numbers(site, device, wanted):
    """How often each number is in `normalized`, once all that are wanted are."""

    async def there():
        found = Counter(item.json()["metrics"]["n"] for item in await records_of(site, Kafka.NORMALIZED, device))
        return found if set(wanted) <= set(found) else None

    return await until(there)


async def settled(gateway):
    """The ledger's lines by class, once nothing waits."""

    async def nothing_waits():
        classes = (await asyncio.to_thread(gateway.ledger))["classes"]
        return None if any(line["waiting"] for line in classes.values()) else classes

    return await until(nothing_waits)


async def test_a_damaged_outbox_goes_on_and_says_what_it_lost():
    device, gateway_id = new_device_id(), new_device_id()
    async with installed({gateway_id: [device]}, [], "thermometer", silent, NO_HEALTH) as site:
        gateway = site.gateways[gateway_id]
        await asyncio.to_thread(gateway.start)
        await say(gateway, device, range(1, 4))
        await numbers(site, device, range(1, 4))
        await in_flight(site, gateway, device, range(4, 400))
        await asyncio.to_thread(gateway.stop_agent)
        assert damage_rows(gateway) > 2
        site.links[gateway_id].restore()
        await asyncio.to_thread(gateway.start_agent)
        await say(gateway, device, range(1_000, 1_010))
        await numbers(site, device, range(1_000, 1_010))

        classes = await settled(gateway)
        for line in classes.values():
            parts = ("acked", "waiting", "thinned", "expired", "damaged")
            assert line["accepted"] == sum(line[part] for part in parts)
        readings = classes["telemetry"]  # what the agent tells of itself is of class event
        assert readings["accepted"] == 409
        assert readings["damaged"] > 50
        found = await numbers(site, device, range(1_000, 1_010))
        assert set(found.values()) == {1}
        assert len(found) == readings["accepted"] - readings["damaged"], "what could be read was sent"

        async def told():
            await say(gateway, device, [next(fresh)])  # it is told in the header of the next batch
            return await records_of(site, Kafka.GAP, gateway_id)

        fresh = itertools.count(2_000)
        gaps = [gap.json() for gap in await until(told)]
        assert {gap["kind"] for gap in gaps} == {"damaged"}
        assert sum(gap["count"] for gap in gaps) > 0


async def grow_old(site, gateway, device, copy):
    """Reading 4 in a batch that was lost on the way, 5 in none yet: copied so; then both sent, and 6 behind them."""
    await asyncio.to_thread(gateway.start)
    await say(gateway, device, [1, 2, 3])
    await numbers(site, device, [1, 2, 3])
    await in_flight(site, gateway, device, [4])
    await say(gateway, device, [5])  # none is formed while the link is cut
    await asyncio.to_thread(gateway.stop_agent)
    assert asked(gateway, "SELECT count(*) FROM rows") >= 2
    shutil.copytree(gateway.data_dir, copy)
    site.links[gateway.id].restore()
    await asyncio.to_thread(gateway.start_agent)
    await say(gateway, device, [6])
    await numbers(site, device, range(1, 7))
    await asyncio.to_thread(gateway.kill_agent)


def put_back_file(gateway, copy):
    for old in gateway.data_dir.glob("outbox.db*"):
        if not old.name.endswith(".lineage"):
            old.unlink()
    shutil.copy2(copy / "outbox.db", outbox(gateway))


def put_back_directory(gateway, copy):
    shutil.rmtree(gateway.data_dir)
    shutil.copytree(copy, gateway.data_dir)


# What may show twice is what the copy sends under new numbers: all that waited in it where the agent sees that the
# file is of another time, else what was in no batch yet.
RESTORED = {put_back_file: {4, 5}, put_back_directory: {5}}


async def test_an_old_copy_with_waiting_rows_loses_nothing_and_hides_nothing_new(tmp_path):
    behind = {new_device_id(): [new_device_id()] for _ in RESTORED}
    async with installed(behind, [], "thermometer", silent, NO_HEALTH) as site:

        async def restore(gateway_id, put_back, may_show_twice):
            gateway, (device,) = site.gateways[gateway_id], behind[gateway_id]
            await grow_old(site, gateway, device, tmp_path / gateway_id)
            put_back(gateway, tmp_path / gateway_id)
            await asyncio.to_thread(gateway.start_agent)
            await say(gateway, device, [7, 8, 9])
            await numbers(site, device, range(1, 10))
            await settled(gateway)
            found = await numbers(site, device, range(1, 10))
            assert set(found) == set(range(1, 10))
            assert {n for n, times in found.items() if times > 1} <= may_show_twice
            assert max(found.values()) <= 2
            assert await records_of(site, Kafka.GAP, gateway_id) == []

        async with asyncio.TaskGroup() as group:
            for gateway_id, (put_back, may_show_twice) in zip(behind, RESTORED.items(), strict=True):
                group.create_task(restore(gateway_id, put_back, may_show_twice))
