import asyncio
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest

from edge_agent.device_book import Gate
from edge_agent.device_desk import FILE, DeviceDesk
from edge_agent.hub_call import Answer, Call
from edge_agent.local_broker import LocalDevice
from shared.config import Secret
from shared.errors import Permanent, Transient

PAGE: dict[str, object] = {"devices": [{"id": "a", "status": "active"}], "version": "1", "unknown_devices": "pending"}


class Hub:
    """Answers as told; what it was asked."""

    def __init__(self) -> None:
        self.page = PAGE
        self.word = "pending"
        self.calls: list[Call] = []
        self.trouble: Exception | None = None

    async def ask(self, call: Call) -> Answer:
        self.calls.append(call)
        if self.trouble is not None:
            raise self.trouble
        if call.method == "POST":
            assert call.body is not None
            devices: Any = call.body["devices"]
            return Answer(200, {"devices": {one["id"]: self.word for one in devices}})
        if call.headers["If-None-Match"] == f'"{self.page["version"]}"':
            return Answer(304)
        return Answer(200, dict(self.page))


class Writer:
    held_at_start: tuple[str, ...] = ()

    def __init__(self) -> None:
        self.dropped: list[str] = []
        self.passes: Callable[[str], bool] = lambda _: False

    def chore(self, act: Callable[[Any], None]) -> None:
        act(self)

    @property
    def held(self) -> "Writer":
        return self

    def settle(self, passes: Callable[[str], bool]) -> None:
        self.passes = passes

    def drop(self, device: str) -> None:
        self.dropped.append(device)


class Lan:
    def __init__(self) -> None:
        self.followed: list[list[LocalDevice]] = []

    async def follow(self, devices: Iterable[LocalDevice]) -> bool:
        self.followed.append(list(devices))
        return False


def desk(hub: Hub, writer: Writer, tmp_path: Path, lan: Lan | None = None) -> DeviceDesk:
    return DeviceDesk("gw", tmp_path, hub.ask, lambda: Secret("k:a.b"), writer, every_s=3_600, lan=lan)


async def test_an_unknown_device_is_told_and_released_when_it_is_approved(tmp_path: Path) -> None:
    hub, writer = Hub(), Writer()
    one = desk(hub, writer, tmp_path)
    await one._turn()
    assert one.gate("new") is Gate.HOLD
    await one._turn()
    assert hub.calls[-1].body == {"devices": [{"id": "new"}]}
    assert not writer.passes("new")
    hub.page = PAGE | {"version": "2", "devices": [{"id": "new", "status": "provisioned"}]}
    await one._turn()
    assert writer.passes("new")
    assert one.gate("new") is Gate.PASS


async def test_a_refused_device_is_dropped(tmp_path: Path) -> None:
    hub, writer = Hub(), Writer()
    hub.word = "refused"
    one = desk(hub, writer, tmp_path)
    await one._turn()
    one.gate("bad")
    await one._turn()
    assert writer.dropped == ["bad"]
    assert one.gate("bad") is Gate.DROP


async def test_a_device_that_was_refused_before_the_hub_was_asked_again(tmp_path: Path) -> None:
    hub, writer = Hub(), Writer()
    one = desk(hub, writer, tmp_path)
    await one._turn()
    one.gate("bad")
    await one._turn()
    hub.word = "refused"  # retired at the hub, whose list never held it
    await one._turn()
    assert writer.dropped == ["bad"]


async def test_without_the_hub_it_goes_on_as_it_was_told_before(tmp_path: Path) -> None:
    hub, writer = Hub(), Writer()
    await desk(hub, writer, tmp_path)._turn()
    assert (tmp_path / FILE).stat().st_mode & 0o777 == 0o600
    hub.trouble = Transient("away")
    again = desk(hub, writer, tmp_path)
    assert [again.gate(device) for device in ("a", "new")] == [Gate.PASS, Gate.HOLD]
    stopping = asyncio.Event()
    serving = asyncio.ensure_future(again.serve(stopping))
    async with asyncio.timeout(5):
        while len(hub.calls) < 2:
            await asyncio.sleep(0)
        stopping.set()
        await serving


@pytest.mark.parametrize("body", [{}, {"devices": 1}, {"devices": [{"id": 1}]}], ids=range(3))
async def test_an_answer_that_is_none_changes_nothing(tmp_path: Path, body: dict[str, object]) -> None:
    hub, writer = Hub(), Writer()
    one = desk(hub, writer, tmp_path)
    await one._turn()
    hub.page = {"version": "2"} | body
    with pytest.raises(Permanent):
        await one._look()
    assert one.gate("a") is Gate.PASS
    assert one.book.page.version == "1"


async def test_a_device_that_is_heard_for_the_first_time_is_told_soon(tmp_path: Path) -> None:
    hub, writer = Hub(), Writer()
    one = desk(hub, writer, tmp_path)
    stopping = asyncio.Event()
    serving = asyncio.ensure_future(one.serve(stopping))
    async with asyncio.timeout(20):
        while not hub.calls:
            await asyncio.sleep(0)
        await asyncio.sleep(0)
        one.gate("new")
        while hub.calls[-1].method != "POST":
            await asyncio.sleep(0.01)
        stopping.set()
        await serving


async def test_the_local_brokers_records_follow_what_the_hub_says_and_at_a_start_what_is_kept(tmp_path: Path) -> None:
    hub, lan = Hub(), Lan()
    hub.page = PAGE | {"devices": [{"id": "a", "status": "active", "keys": [{"key_id": "k:1", "hash": "h"}]}]}
    one = desk(hub, Writer(), tmp_path, lan)
    await one._follow()
    assert lan.followed == [], "before anybody said who is there nothing is taken away"
    await one._turn()
    await one._turn()
    followed = [LocalDevice("a", "active", (("k:1", "h"),))]
    assert lan.followed == [followed, followed], "an unchanged page too: what failed is tried again"
    hub.trouble = Transient("away")
    lan.followed.clear()
    stopping = asyncio.Event()
    serving = asyncio.ensure_future(desk(hub, Writer(), tmp_path, lan).serve(stopping))
    async with asyncio.timeout(5):
        while len(hub.calls) < 3:
            await asyncio.sleep(0)
        stopping.set()
        await serving
    assert lan.followed == [followed]
