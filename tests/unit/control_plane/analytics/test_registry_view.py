"""The view without servers; with them it is part of tests/stack/test_normalizer.py."""

import asyncio
import threading
import time

import pytest

from control_plane.analytics import registry_view
from control_plane.analytics.registry_view import RegistryView
from shared.device import Limits, encode_view
from shared.errors import Transient
from shared.rates import RECORD_KEY, Defaults, encode_defaults
from tests.unit.control_plane.analytics.raw_kit import device, gateway

NOWHERE = "127.0.0.1:9"


class Answering(RegistryView):
    """Asks a dictionary instead of Postgres; its reading thread has nothing to read."""

    def __init__(self, *views):
        super().__init__(NOWHERE, "postgresql://nobody@127.0.0.1:9/none")
        self.known = {view.id: encode_view(view).decode() for view in views}
        self.questions = []
        self.delay_s = 0.0
        self.error = None

    async def _serve(self):
        await self._stopping.wait()

    async def _find(self, wanted):
        self.questions.append(sorted(wanted))
        await asyncio.sleep(self.delay_s)
        if self.error is not None:
            raise self.error
        return [self.known[name] for name in wanted if name in self.known]


@pytest.fixture
def view():
    made = Answering(device("late", version=3))
    made.start()
    yield made
    made.close()


def test_the_newest_version_counts_and_a_tombstone_forgets():
    view = RegistryView(NOWHERE, None)
    view._apply(b"d", encode_view(device("d", version=2)))
    view._apply(b"d", encode_view(gateway("d", version=1)))
    assert view.get("d").version == 2
    view._apply(b"d", encode_view(gateway("d", version=3)))
    assert view.get("d").kind == "gateway"
    assert len(view) == 1
    view._apply(b"d", None)
    view._apply(b"unheard", None)
    assert (view.get("d"), len(view)) == (None, 0)


def test_a_record_that_is_none_is_passed_over():
    view = RegistryView(NOWHERE, None)
    for value in (b"", b"{}", b"\xff", b'{"id": 5}'):
        view._apply(b"d", value)
    assert len(view) == 0


def test_what_is_told_of_limits_is_no_device():
    view = RegistryView(NOWHERE, None)
    assert view.defaults == Defaults()
    for version in (4, 3):
        told = Defaults(version=version, types={"t": Limits(messages_per_s=float(version))})
        view._apply(RECORD_KEY, encode_defaults(told))
    view._apply(RECORD_KEY, b"[]")
    assert (len(view), view.defaults.version) == (0, 4)


def test_each_id_is_asked_for_once_in_a_while(view, monkeypatch):
    view.ask({"late", "nobody"})
    assert view.get("late").version == 3
    assert view.get("nobody") is None
    view.ask({"late", "nobody", "other"})
    assert view.questions == [["late", "nobody"], ["other"]]
    monkeypatch.setattr(registry_view, "ASK_AGAIN_S", 0.0)
    view.ask({"nobody"})
    assert view.questions[-1] == ["nobody"]


def test_what_was_asked_is_remembered_within_bounds(view):
    view._asked.capacity = 3
    for n in range(6):
        view.ask({f"n{n}"})
    assert list(view._asked) == ["n3", "n4", "n5"]


def test_a_slow_answer_is_not_waited_for_and_then_nobody_asks(view):
    view.delay_s = 30.0
    began = time.monotonic()
    view.ask({"late"})
    took = time.monotonic() - began
    assert registry_view.ASK_S <= took < 5.0
    assert view.get("late") is None
    view.delay_s = 0.0
    view.ask({"late"})
    assert len(view.questions) == 1  # quiet


def test_after_the_quiet_time_it_is_asked_again(view, monkeypatch):
    view.error = Transient("Postgres is away")
    view.ask({"late"})
    assert view.get("late") is None
    view.error = None
    view._quiet_until = 0.0
    view.ask({"late"})
    assert view.get("late") is not None


def test_without_an_address_nobody_is_asked():
    view = RegistryView(NOWHERE, None)
    view.ask({"x"})
    assert view.get("x") is None


def test_the_end_of_the_thread_is_told_to_who_depends_on_it():
    class Broken(RegistryView):
        async def _serve(self):
            async with asyncio.TaskGroup():
                raise Transient("no such topic")

    view = Broken(NOWHERE, None)
    assert view.missing() == ["reads the registry"]
    view.start()
    with pytest.raises(Transient, match="no such topic"):
        view.wait()
    assert view.missing() == ["the registry view ended"]
    with pytest.raises(Transient):
        view.check()


def test_it_waits_until_all_was_read_and_close_ends_the_thread():
    view = Answering()
    view.start()
    waiting = threading.Thread(target=view.wait)
    waiting.start()
    view._caught_up.set()
    waiting.join(5)
    assert not waiting.is_alive()
    assert view.missing() == []
    view.close()
    assert not view._thread.is_alive()
    view.close()
