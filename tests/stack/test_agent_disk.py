"""The agent as a process when its disk is full or its outbox damaged: it keeps what it can, goes on, and says so."""

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.site import Gateway
from deploy.stack import LocalBroker
from shared.errors import Permanent
from tests.stack.gateway_kit import (
    IDENTITY,
    NOWHERE,
    device,
    gateway_status,
    hub,
    numbers,
    reading,
    small_file_system,
    until,
)

pytestmark = pytest.mark.stack

QUIET = {"AGENT_HEALTH_READINGS_S": "0"}
PAGE = 4_096


@pytest.fixture
def small_disk(server_dir: Path) -> Iterator[Path]:
    """A file system of 48 MiB."""
    with small_file_system(server_dir / "disk", 48) as place:
        yield place


def fill(disk: Path) -> Path:
    """Take the disk's last byte; the file that holds it."""
    ballast = disk / "ballast"
    with ballast.open("ab", buffering=0) as file:
        block = bytes(65_536)
        while block:
            try:
                file.write(block)
            except OSError:
                block = block[: len(block) // 2]
    return ballast


@pytest.mark.parametrize("floor_mib", ["20", "0"], ids=["stops short of it", "runs into it"])
async def test_a_full_disk_stops_accepting_and_loses_nothing(
    server_dir: Path, small_disk: Path, floor_mib: str
) -> None:
    upstream = LocalBroker(server_dir / "hub")
    settings = QUIET | {"AGENT_DISK_FLOOR_MIB": floor_mib, "AGENT_OUTBOX_MAX_MIB": "64"}
    gateway = Gateway(server_dir / "gw", IDENTITY, upstream.url, settings, data_dir=small_disk / "agent")
    gateway.start()
    try:
        sent = 0

        async def send(count: int) -> None:
            nonlocal sent
            async with device(gateway, "d1") as publish:
                codes = await asyncio.gather(*(publish(reading(sent + n, pad="x" * 200)) for n in range(count)))
            assert set(codes) == {0}, "the local broker takes them"
            sent += count

        await send(50)
        await until(lambda: len(numbers(gateway).get("d1", [])) == 50)
        ballast = fill(small_disk)
        while gateway.is_ready():
            await send(500)
            fill(small_disk)  # what the agent gave up to go on with is taken, too
            assert sent < 50_000
        (why,) = gateway_status(gateway)["missing"]
        assert "disk" in why
        await send(500)
        ledger = gateway.ledger()
        assert ledger["classes"]["telemetry"]["accepted"] < sent
        assert gateway.running
        ballast.unlink()
        await until(gateway.is_ready)
        upstream.start()
        async with hub(upstream) as got:
            await until(lambda: len(got.numbers("d1")) >= sent, 120)
            assert got.numbers("d1") == list(range(sent))
            await until(lambda: gateway.ledger()["classes"]["telemetry"]["acked"] == sent)
            # The hub hears of it, too.
            await until(lambda: {"outbox_full", "outbox_resumed"} <= set(got.events()))
    finally:
        gateway.stop()
        upstream.stop()


def spoil(file: Path, word: bytes) -> None:
    """Overwrite the middle third of the pages that hold rows with this word."""
    data = file.read_bytes()
    places = [at for at in range(0, len(data), PAGE) if word in data[at : at + PAGE]]
    assert len(places) >= 9
    with file.open("r+b") as outbox:
        for at in places[len(places) // 3 : 2 * len(places) // 3]:
            outbox.seek(at)
            outbox.write(b"\xff" * PAGE)


async def test_a_damaged_outbox_is_salvaged_and_the_hub_hears_what_is_gone(server_dir: Path) -> None:
    upstream = LocalBroker(server_dir / "hub")
    upstream.start()
    gateway = Gateway(server_dir / "gw", IDENTITY, upstream.url, QUIET)
    gateway.start()
    outbox = gateway.data_dir / "outbox.db"
    fields = {f"word{n}": "x" * 200 for n in range(5)}
    try:
        async with hub(upstream) as got, device(gateway, "d1") as send:
            await send(reading(2_000))  # once the hub was heard, batches go out without waiting for its answers
            await until(lambda: gateway.ledger()["classes"]["telemetry"]["acked"] == 1)
            got.silent = True
            for group in range(8):  # each a batch of its own: the hub has it before the next is sent
                await send(b"[" + b",".join(reading(group * 40 + n, **fields) for n in range(40)) + b"]")
                await until(lambda want=group: len(got.numbers("d1")) == (want + 1) * 40 + 1)
            assert len(got.headers) >= 8
        gateway.stop_agent()
        spoil(outbox, b"word4")
        async with hub(upstream) as got:
            await asyncio.to_thread(gateway.start_agent)
            assert list(gateway.data_dir.glob("outbox.db.damaged-*")), "the damaged file is kept"
            ledger = await asyncio.to_thread(lambda: json.loads(gateway.command("ledger", "--json")))
            lost = ledger["classes"]["telemetry"]["damaged"]
            assert 40 < lost < 320
            await until(lambda: gateway.ledger()["classes"]["telemetry"]["acked"] == 321 - lost)
            assert len(got.numbers("d1")) == 320 - lost
            async with device(gateway, "d1") as send:
                assert await send(reading(1_000)) == 0
                await until(lambda: 1_000 in got.numbers("d1"))
                await until(lambda: any(header.void for header in got.headers))
            await until(lambda: "outbox_salvaged" in got.events())
            assert got.events()["outbox_salvaged"]["lost"] == lost
            told = next(header for header in got.headers if header.void)
            assert told.void[0][0] in [epoch for epoch, _ in told.closed]
            assert json.loads(told.ledger)["telemetry"][5] == lost
            await until(lambda: gateway.ledger()["classes"]["telemetry"]["waiting"] == 0)
        found = gateway.ledger()["classes"]["telemetry"]
        assert found["damaged"] == lost
        assert found["accepted"] == 322 == sum(count for name, count in found.items() if name != "accepted")
    finally:
        gateway.stop()
        upstream.stop()


async def test_damaged_on_a_full_disk_it_says_so_and_salvages_when_there_is_space(
    server_dir: Path, small_disk: Path
) -> None:
    settings = QUIET | {"AGENT_DISK_FLOOR_MIB": "0", "AGENT_OUTBOX_MAX_MIB": "64"}
    gateway = Gateway(server_dir / "gw", IDENTITY, NOWHERE, settings, data_dir=small_disk / "agent")
    gateway.start()
    try:
        async with device(gateway, "d1") as send:
            await asyncio.gather(*(send(reading(n, pad="filling" * 30)) for n in range(500)))
            await until(lambda: len(numbers(gateway).get("d1", [])) == 500)
        gateway.stop_agent()
        (gateway.data_dir / "outbox.db.reserve").unlink()
        spoil(gateway.data_dir / "outbox.db", b"filling")
        ballast = fill(small_disk)
        with pytest.raises(Permanent, match=r"ended with 4"):  # not now: free disk space
            await asyncio.to_thread(gateway.command, "run")
        assert not list(gateway.data_dir.glob("outbox.db.salvage*")), "nothing is left that would take the space"
        ballast.unlink()
        gateway.start_agent()
        found = gateway.ledger()["classes"]["telemetry"]
        assert 0 < found["damaged"] < 500
        assert found["waiting"] == 500 - found["damaged"]
    finally:
        gateway.stop()
