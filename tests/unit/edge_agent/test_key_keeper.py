"""The keeper with a hub of the test's own: what is asked with which key, what is used, what is kept after a cut."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from edge_agent.hub_call import Answer, Call, Hub
from edge_agent.key_files import HeldKey, KeyFiles
from edge_agent.key_keeper import KeyKeeper
from edge_agent.key_rotation import Phase
from shared.config import Secret
from shared.errors import Transient

OLD, NEW = HeldKey("k:old", Secret("s1")), HeldKey("k:new", Secret("s2"))


class FakeHub:
    """Gives out NEW; `due`: tells the device to rotate; `answers` go before all, `asked` is what came."""

    def __init__(self) -> None:
        self.due = False
        self.living = {OLD.key_id, NEW.key_id}
        self.answers: list[Answer | Exception] = []
        self.asked: list[tuple[str, str, str]] = []
        self.came = asyncio.Condition()

    async def ask(self, hub: Hub, call: Call) -> Answer:
        assert call.key is not None
        key = call.key.split(".")[0]
        async with self.came:
            self.asked.append((call.method, key, call.headers.get("Idempotency-Key", "")))
            self.came.notify_all()
        if self.answers:
            answer = self.answers.pop(0)
            if isinstance(answer, Exception):
                raise answer
            return answer
        if call.method == "POST":
            return Answer(201, {"api_key": str(NEW.text)})
        if key not in self.living:
            return Answer(401)
        return Answer(200, {"rotate_due": self.due, "keys": [{"key_id": name} for name in sorted(self.living)]})

    async def requests(self, count: int) -> list[tuple[str, str, str]]:
        async with asyncio.timeout(10), self.came:
            await self.came.wait_for(lambda: len(self.asked) >= count)
        return self.asked


@pytest.fixture
def files(tmp_path: Path) -> KeyFiles:
    path = tmp_path / "key"
    path.touch(mode=0o600)
    path.write_text(OLD.text)
    return KeyFiles(path)


@asynccontextmanager
async def keeper(files: KeyFiles, hub: FakeHub, every_s: float = 0.01) -> AsyncIterator[KeyKeeper]:
    made = KeyKeeper(files, Hub("http://hub"), every_s, hub.ask)
    stopping = asyncio.Event()
    serving = asyncio.ensure_future(made.serve(stopping))
    try:
        yield made
    finally:
        stopping.set()
        await asyncio.wait_for(serving, 10)


async def changed(made: KeyKeeper) -> HeldKey:
    await asyncio.wait_for(made.changed(), 10)
    return made.current()


async def until(condition: Any) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0)


async def test_when_the_hub_says_so_a_new_key_is_asked_for_used_confirmed_and_kept(files: KeyFiles) -> None:
    hub = FakeHub()
    hub.due = True
    async with keeper(files, hub) as made:
        assert made.current() == OLD
        assert await changed(made) == NEW
        disk = files.load()
        assert (disk.present, disk.new, disk.asked) == (OLD, NEW, None), "both, until it was seen"
        hub.due = False
        made.accepted(NEW)
        await until(lambda: files.load().present == NEW)
        assert made.current() == NEW
    kinds = [(method, key) for method, key, _ in hub.asked]
    assert kinds[:3] == [("GET", "k:old"), ("POST", "k:old"), ("GET", "k:new")]


async def test_a_request_that_was_cut_is_sent_again_under_its_own_idempotency_key(files: KeyFiles) -> None:
    files.request("once")
    hub = FakeHub()
    hub.answers = [Transient("away")]
    async with keeper(files, hub) as made:
        assert await changed(made) == NEW
    assert [one for one in hub.asked if one[0] == "POST"] == [("POST", "k:old", "once")] * 2


async def test_after_a_cut_with_a_new_key_on_disk_that_is_tried_first_and_a_refusal_falls_back(
    files: KeyFiles,
) -> None:
    files.keep_new(NEW)
    hub = FakeHub()
    made = KeyKeeper(files, Hub("http://hub"), 0, hub.ask)
    assert (made.current(), made.phase) == (NEW, Phase.TRYING)
    made.refused(NEW)
    assert made.current() == OLD
    assert files.load().new == NEW, "the broker may only be late"
    made.refused(OLD)
    assert made.current() == NEW


async def test_a_new_key_that_the_hub_does_not_know_is_dropped(
    files: KeyFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edge_agent.key_keeper._CONNECT_S", 0.01)
    files.keep_new(NEW)
    hub = FakeHub()
    hub.living = {OLD.key_id}
    async with keeper(files, hub, every_s=0) as made:
        await until(lambda: files.load().new is None)
        assert (made.current(), made.phase) == (OLD, Phase.IDLE)
    assert {key for _, key, _ in hub.asked} == {"k:old"}, "asked with the new one, the hub would end the old"


async def test_with_the_old_key_ended_the_new_one_is_kept_whatever_the_broker_says(
    files: KeyFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edge_agent.key_keeper._CONNECT_S", 0.01)
    files.keep_new(NEW)
    hub = FakeHub()
    hub.living = {NEW.key_id}
    async with keeper(files, hub, every_s=0) as made:
        made.refused(NEW)
        await hub.requests(1)
        await until(lambda: made.current() == NEW)
    assert files.load().new == NEW


@pytest.mark.parametrize("answer", [Answer(409, {"detail": "full"}), Answer(201, {}), Answer(200, {"api_key": None})])
async def test_a_request_that_is_declined_is_given_up_and_the_old_key_stays(files: KeyFiles, answer: Answer) -> None:
    files.request("once")
    hub = FakeHub()
    hub.answers = [answer]
    async with keeper(files, hub, every_s=0) as made:
        await hub.requests(1)
        await until(lambda: files.load().asked is None)
        assert (made.current(), made.phase) == (OLD, Phase.IDLE)


async def test_without_a_hub_to_ask_what_is_on_disk_is_used(files: KeyFiles) -> None:
    files.keep_new(NEW)
    made = KeyKeeper(files, None, 0.01)
    stopping = asyncio.Event()
    stopping.set()
    await made.serve(stopping)
    assert made.current() == NEW
