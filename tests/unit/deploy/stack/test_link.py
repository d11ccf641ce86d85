"""The link keeps order and bandwidth under delay, and a cut is a cut."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from deploy.stack.link import Link

PAYLOAD = bytes(range(256)) * 4096  # 1 MiB, every position recognisable


async def _echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while chunk := await reader.read(65536):
            writer.write(chunk)
            await writer.drain()
    except ConnectionError:
        pass
    finally:
        writer.close()


@pytest.fixture
async def link() -> AsyncIterator[Link]:
    server = await asyncio.start_server(_echo, "127.0.0.1", 0)
    async with Link("127.0.0.1", server.sockets[0].getsockname()[1]) as link:
        yield link
    server.close()
    await server.wait_closed()


async def _round_trip(link: Link, payload: bytes) -> tuple[bytes, float]:
    """What came back until the end, and after how many seconds."""
    clock = asyncio.get_running_loop()
    reader, writer = await asyncio.open_connection("127.0.0.1", link.port)
    started = clock.time()
    async with asyncio.TaskGroup() as group:
        back = group.create_task(reader.read(-1))
        writer.write(payload)
        await writer.drain()
        writer.write_eof()
    writer.close()
    await writer.wait_closed()
    return back.result(), clock.time() - started


async def test_passes_everything_in_order_and_counts(link: Link) -> None:
    back, _ = await _round_trip(link, PAYLOAD)
    assert back == PAYLOAD
    assert (link.bytes_up, link.bytes_down) == (len(PAYLOAD), len(PAYLOAD))


async def test_delay_is_paid_once_each_way_not_per_chunk(link: Link) -> None:
    link.delay_s = 0.1
    back, seconds = await _round_trip(link, PAYLOAD)
    assert back == PAYLOAD
    assert 0.2 <= seconds < 0.8  # 1 MiB is many chunks: a delay for each would take longer


async def test_a_shorter_delay_does_not_overtake(link: Link) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", link.port)
    link.delay_s = 0.15
    writer.write(b"first")
    await asyncio.sleep(0.05)  # the first must be in the link before the delay changes
    link.delay_s = 0.0
    writer.write(b"second")
    assert await reader.readexactly(11) == b"firstsecond"
    writer.close()
    await writer.wait_closed()


async def test_cut_resets_and_refuses_until_restored(link: Link) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", link.port)
    writer.write(b"x")
    assert await reader.readexactly(1) == b"x"
    link.cut()
    with pytest.raises(ConnectionResetError):
        await reader.readexactly(1)
    writer.close()
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection("127.0.0.1", link.port)
    link.restore()
    assert (await _round_trip(link, b"again"))[0] == b"again"


async def test_cut_loses_what_is_in_flight(link: Link) -> None:
    link.delay_s = 5.0
    reader, writer = await asyncio.open_connection("127.0.0.1", link.port)
    writer.write(b"lost")
    await writer.drain()
    link.cut()
    with pytest.raises(ConnectionResetError):
        await reader.read(1)
    writer.close()
    assert link.bytes_up == 0


async def test_an_absent_target_resets_the_client() -> None:
    async with Link("127.0.0.1", 1) as link:
        reader, writer = await asyncio.open_connection("127.0.0.1", link.port)
        with pytest.raises(ConnectionResetError):
            await reader.readexactly(1)
        writer.close()
