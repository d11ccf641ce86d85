"""The link's manners, with a connection of the test's own; real brokers are in tests/stack/test_uplink.py."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator

import pytest

from edge_agent import hub_link
from edge_agent.dispatch import Outgoing
from edge_agent.hub_link import HubLink, LinkSettings
from edge_agent.mqtt import Incoming, Options
from shared import topics
from shared.backoff import Backoff
from shared.batch import CONTENT_TYPE, Ack, Header, Hint, Lane, decode_header, encode_ack
from shared.config import Secret
from shared.errors import Permanent, Transient
from shared.ids import DeviceId, Epoch

E = Epoch("E" * 22)
GATEWAY = DeviceId("gw1")


class Wire:
    """The broker's end: connections as they come, and what happens on them."""

    def __init__(self) -> None:
        self.options: list[Options] = []
        self.links: list[FakeConnection] = []
        self.refusals: list[Exception] = []
        self.came = asyncio.Condition()

    def connect(self, options: Options) -> "FakeConnection":
        self.options.append(options)
        return FakeConnection(self)

    async def link(self, count: int) -> "FakeConnection":
        async with asyncio.timeout(10), self.came:
            await self.came.wait_for(lambda: len(self.links) >= count)
        return self.links[count - 1]


class FakeConnection:
    def __init__(self, wire: Wire) -> None:
        self.wire = wire
        self.log: list[tuple] = []
        self.pubacks: list[asyncio.Future[int]] = []
        self.inbox: asyncio.Queue[list[Incoming]] = asyncio.Queue()
        self.acked: list[Incoming] = []
        self.changed = asyncio.Event()

    async def __aenter__(self):
        if self.wire.refusals:
            raise self.wire.refusals.pop(0)
        return self

    async def __aexit__(self, *_):
        self.note("closed")

    def note(self, *what) -> None:
        self.log.append(what)
        self.changed.set()

    async def subscribe(self, *filters):
        self.note("subscribe", *filters)

    async def receive(self):
        async with self.wire.came:
            if self not in self.wire.links:
                self.wire.links.append(self)
            self.wire.came.notify_all()
        found = await self.inbox.get()
        if not found:
            raise Transient("broken")
        return found

    def ack(self, message):
        self.acked.append(message)
        self.note("ack")

    def publish(self, topic, payload, *, retain=False, user_properties=(), content_type=None):
        puback = asyncio.get_running_loop().create_future()
        self.pubacks.append(puback)
        self.note("publish", topic, payload, retain, tuple(user_properties), content_type)
        if topic.endswith("status"):
            puback.set_result(0)
        return puback

    def say(self, payload: bytes, topic: str = "gateways/gw1/acks") -> None:
        self.inbox.put_nowait([Incoming(topic, payload, False, (), 1, 1, self)])  # type: ignore[arg-type]

    def break_(self) -> None:
        self.inbox.put_nowait([])

    async def until(self, condition) -> None:
        async with asyncio.timeout(10):
            while not condition():
                self.changed.clear()
                await self.changed.wait()

    def published(self, end: str) -> list[tuple]:
        return [entry for entry in self.log if entry[0] == "publish" and entry[1].endswith(end)]


class FakeWriter:
    def __init__(self) -> None:
        self.log: list[tuple] = []
        self.deliver = None

    def connected(self, deliver):
        self.deliver = deliver
        self.log.append(("connected",))

    def disconnected(self):
        self.log.append(("disconnected",))

    def refused(self, key, reason):
        self.log.append(("refused", key, reason))

    def unheard(self, key):
        self.log.append(("unheard", key))

    def acked(self, keys):
        self.log.append(("acked", keys))

    def hinted(self, hint):
        self.log.append(("hinted", hint.id))


class ManualClock:
    now = 100.0

    def monotonic_s(self) -> float:
        return self.now


@contextlib.asynccontextmanager
async def running(wire: Wire, writer: FakeWriter, clock=None, **changes) -> AsyncIterator[HubLink]:
    settings = {"first_delay_s": 0.0, "reconnect": Backoff(first_s=0.001, cap_s=0.001), "version": "1.2"} | changes
    link = HubLink(LinkSettings("mqtt://h:1", GATEWAY, **settings), writer, clock or ManualClock(), wire.connect)
    stopping = asyncio.Event()
    task = asyncio.create_task(link.serve(stopping))
    try:
        yield link
    finally:
        stopping.set()
        await asyncio.wait_for(task, 10)


def outgoing(number: int) -> Outgoing:
    header = Header(epoch=E, number=number, floor=1, lane=Lane.LIVE, records=1)
    return Outgoing((E, number), header, b"payload %d" % number)


async def test_acknowledgements_are_subscribed_to_before_anything_is_sent():
    wire, writer = Wire(), FakeWriter()
    async with running(wire, writer) as link:
        connection = await wire.link(1)
        assert link.connected
        assert connection.log[:2] == [
            ("subscribe", "gateways/gw1/acks"),
            ("publish", "devices/gw1/status", b'{"online":true,"version":"1.2"}', True, (), None),
        ]
        assert writer.log == [("connected",)]
        will = wire.options[0].will
        assert (will.topic, json.loads(will.payload)["online"]) == ("devices/gw1/status", False)
        assert wire.options[0].client_id == "gw1"
        assert not wire.options[0].session
    assert connection.log[-2][2] == b'{"online":false,"version":"1.2"}'
    assert connection.log[-1] == ("closed",)
    assert writer.log[-1] == ("disconnected",)
    assert not link.connected


async def test_a_nudge_is_told_and_nothing_else_on_that_topic_is():
    wire, writer, told = Wire(), FakeWriter(), []
    settings = LinkSettings("mqtt://h:1", GATEWAY, first_delay_s=0.0)
    link = HubLink(settings, writer, ManualClock(), wire.connect, nudged=lambda: told.append(1))
    stopping = asyncio.Event()
    task = asyncio.create_task(link.serve(stopping))
    connection = await wire.link(1)
    assert ("subscribe", "gateways/gw1/acks", "devices/gw1/commands") in connection.log
    for payload in (b"", b'{"ask": "everything"}', b"[", topics.NUDGE):
        connection.say(payload, "devices/gw1/commands")
    connection.say(encode_ack(Ack({E: [3]})))
    await connection.until(lambda: ("acked", ((E, 3),)) in writer.log)
    stopping.set()
    await asyncio.wait_for(task, 10)
    assert told == [1]


async def test_batches_leave_in_order_with_their_headers():
    wire, writer = Wire(), FakeWriter()
    async with running(wire, writer):
        connection = await wire.link(1)
        writer.deliver([outgoing(1), outgoing(2)])
        writer.deliver([outgoing(3)])
        await connection.until(lambda: len(connection.published("batches")) == 3)
        published = connection.published("batches")
        assert [entry[2] for entry in published] == [b"payload 1", b"payload 2", b"payload 3"]
        assert [decode_header(dict(entry[4])).number for entry in published] == [1, 2, 3]
        assert {entry[5] for entry in published} == {CONTENT_TYPE}


@pytest.mark.parametrize(
    ("reason", "told"),
    [
        (0, []),
        (0x10, [("unheard", (E, 7))]),
        (0x80, [("refused", (E, 7), 0x80)]),
        (0x97, [("refused", (E, 7), 0x97)]),
    ],
)
async def test_what_the_broker_did_not_take_is_told_to_the_writer(reason, told):
    wire, writer = Wire(), FakeWriter()
    async with running(wire, writer):
        connection = await wire.link(1)
        writer.deliver([outgoing(7)])
        await connection.until(lambda: len(connection.published("batches")) == 1)
        connection.pubacks[-1].set_result(reason)
        await asyncio.sleep(0)
        assert writer.log[1:] == told


async def test_acknowledgements_and_hints_reach_the_writer_and_what_is_none_stops_nothing():
    wire, writer = Wire(), FakeWriter()
    async with running(wire, writer):
        connection = await wire.link(1)
        connection.say(b"nonsense")
        connection.say(encode_ack(Ack({E: [1, 3], "no epoch": [2]})))
        connection.say(encode_ack(Ack({}, Hint("h", 5.0, 6.0))))
        await connection.until(lambda: len(connection.acked) == 3)
        assert writer.log == [("connected",), ("acked", ((E, 1), (E, 3))), ("hinted", "h")]


async def test_a_broken_connection_is_made_anew_and_its_pubacks_say_nothing():
    wire, writer = Wire(), FakeWriter()
    async with running(wire, writer) as link:
        first = await wire.link(1)
        writer.deliver([outgoing(1)])
        await first.until(lambda: len(first.published("batches")) == 1)
        first.pubacks[-1].set_exception(Transient("broken"))
        first.break_()
        second = await wire.link(2)
        assert link.connected
        assert second.published("batches") == []
        assert writer.log == [("connected",), ("disconnected",), ("connected",)]


async def test_a_salvaged_outbox_ends_the_connection():
    wire, writer = Wire(), FakeWriter()
    async with running(wire, writer):
        await wire.link(1)
        writer.deliver(None)
        await wire.link(2)
        assert writer.log == [("connected",), ("disconnected",), ("connected",)]


def test_a_writer_that_delivers_after_the_loop_has_ended_is_not_ended_by_it():
    """Its thread died of it, and with that the outbox's orderly end."""
    wire, writer = Wire(), FakeWriter()

    async def once() -> None:
        async with running(wire, writer):
            await wire.link(1)

    asyncio.run(once())
    writer.deliver([outgoing(1)])


async def test_a_refusal_that_lasts_is_tried_again_too_and_told():
    wire, writer = Wire(), FakeWriter()
    wire.refusals = [Permanent("not authorised"), Transient("no route")]
    async with running(wire, writer) as link:
        await wire.link(1)
        assert link.trouble is None
    assert len(wire.options) == 3


async def test_the_bound_of_the_delay_begins_again_only_after_a_stable_time(monkeypatch):
    wire, writer, clock = Wire(), FakeWriter(), ManualClock()
    attempts: list[int] = []

    class Watched(Backoff):
        def delay_s(self, attempt: int, random_unit: float) -> float:
            attempts.append(attempt)
            return 0.0

    async with running(wire, writer, clock, reconnect=Watched(), stable_s=60.0):
        for count, stood_s in enumerate((1, 1, 61, 1), start=1):
            connection = await wire.link(count)
            clock.now += stood_s
            connection.break_()
        await wire.link(5)
    assert attempts == [0, 1, 0, 1]


async def test_the_first_attempt_waits_a_random_part_of_its_delay(monkeypatch):
    monkeypatch.setattr(hub_link.random, "random", lambda: 0.5)
    waits: list[float] = []
    wait = hub_link._wait

    async def watched(event, seconds):
        waits.append(seconds)
        return await wait(event, 0.0)

    monkeypatch.setattr(hub_link, "_wait", watched)
    wire = Wire()
    async with running(wire, FakeWriter(), first_delay_s=30.0):
        await wire.link(1)
    assert waits[0] == 15.0


async def test_a_bug_ends_the_service():
    wire, writer = Wire(), FakeWriter()

    def bug(deliver):
        raise AssertionError("a bug")

    writer.connected = bug  # type: ignore[method-assign]
    link = HubLink(LinkSettings("mqtt://h:1", GATEWAY, first_delay_s=0.0), writer, ManualClock(), wire.connect)
    with pytest.raises(AssertionError, match="a bug"):
        await asyncio.wait_for(link.serve(asyncio.Event()), 10)


def test_settings_do_not_show_the_secret():
    settings = LinkSettings("mqtt://h:1", GATEWAY, "k:1", Secret("hidden"))
    assert "hidden" not in repr(settings)
