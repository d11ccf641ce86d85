"""Intake's order of things, on a scripted connection and store; the real ones are in tests/stack/test_agent.py."""

import asyncio
import itertools
import json
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Self

import pytest

from edge_agent.device_book import Gate, passes_all
from edge_agent.dispatch import HeldRow
from edge_agent.intake import DROPPED, Intake
from edge_agent.mqtt import Incoming, Options
from edge_agent.pipeline import Pipeline
from edge_agent.row import Row
from edge_agent.skew import SkewBook
from shared.backoff import Backoff
from shared.batch import BytesRecord, ClockQuality, ReadingRecord, decode_record
from shared.clock import SystemClock
from shared.errors import Permanent, Transient
from shared.recent import identity
from shared.tracing import NoTracing, Tracing

TOPIC = "devices/d1/telemetry"
NOW = SystemClock().wall_ms()


def payload(n: int) -> bytes:
    return json.dumps({"ts": NOW + n, "n": n}).encode()


class StoppedClock(SystemClock):
    """Its wall stands at `NOW`, so that offsets do not depend on how long ago this file was read."""

    def wall_ms(self) -> int:
        return NOW


class Store:
    """Commits when it is told to; writes down what was submitted."""

    def __init__(self, recent: Sequence[bytes] = ()) -> None:
        self.recent = list(recent)
        self.submitted: list[list[int]] = []
        self.rows: list[Row] = []
        self.identities: list[bytes] = []
        self.waiting: list[asyncio.Future[None]] = []
        self.automatic = True
        self.changed = asyncio.Event()
        self.held: list[HeldRow] = []

    def recent_identities(self) -> list[bytes]:
        return self.recent

    def submit(
        self, rows: Sequence[Row], identities: Sequence[bytes], held: Sequence[HeldRow] = ()
    ) -> asyncio.Future[None]:
        self.held += held
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.submitted.append(numbers(rows))
        self.rows += rows
        self.identities += identities
        if self.automatic:
            future.set_result(None)
        else:
            self.waiting.append(future)
        self.changed.set()
        return future


def numbers(rows: Sequence[Row]) -> list[int]:
    found = []
    for row in rows:
        record = decode_record(row.record)
        found.append(int(record.metrics["n"]) if isinstance(record, ReadingRecord) else -1)
    return found


class Link:
    """A connection that delivers what the test says and writes down what was acknowledged."""

    def __init__(self, session_present: bool = False) -> None:
        self.session_present = session_present
        self.acked: list[int] = []
        self.filters: list[str] = []
        self.secretive = False
        self.open = False
        self.changed = asyncio.Event()
        self._queue: asyncio.Queue[Sequence[Incoming] | Exception] = asyncio.Queue()
        self._mid = 0

    async def __aenter__(self) -> Self:
        self.open = True
        return self

    async def __aexit__(
        self, k: type[BaseException] | None, e: BaseException | None, t: TracebackType | None
    ) -> None:
        self.open = False

    async def subscribe(self, *filters: str, retained_again: bool = False) -> None:
        del retained_again
        if filters == (DROPPED,) and self.secretive:
            raise Permanent("refused")
        self.filters += filters

    async def receive(self, limit: int) -> Sequence[Incoming]:
        found = await self._queue.get()
        if isinstance(found, Exception):
            raise found
        return found

    def ack(self, message: Incoming) -> bool:
        if not self.open or message.connection is not self:  # type: ignore[comparison-overlap]
            return False
        self.acked.append(message.mid)
        self.changed.set()
        return True

    def deliver(
        self,
        *bodies: bytes,
        topic: str = TOPIC,
        redelivered: bool = False,
        trace: str | None = None,
        retained: bool = False,
    ) -> None:
        """Message ids count from 1."""
        messages = []
        pairs = (("other", "x"), ("traceparent", trace)) if trace else ()
        for body in bodies:
            self._mid += 1
            messages.append(Incoming(topic, body, redelivered, pairs, self._mid, 1, self, retained))  # type: ignore[arg-type]
        self._queue.put_nowait(messages)

    def cut(self) -> None:
        self._queue.put_nowait(Transient("cut"))


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0)


class Run:
    """An intake that serves over these links, one after another."""

    def __init__(
        self,
        *links: Link,
        store: Store | None = None,
        tracing: Tracing | None = None,
        gate: Callable[[str], Gate] = passes_all,
    ) -> None:
        self.links = list(links)
        self.store = store or Store()
        self.skew = SkewBook()
        self.stopping = asyncio.Event()
        left = list(links)
        self.intake = Intake(
            Options("mqtt://127.0.0.1:1", "_agent-g1", session=True),
            Pipeline(self.skew),
            self.store,
            clock=StoppedClock(),
            tracing=tracing or NoTracing(),
            quality=lambda: ClockQuality.SYNCED,
            gate=gate,
            reconnect=Backoff(first_s=0.001, cap_s=0.001),
            connect=lambda _: left.pop(0),  # type: ignore[arg-type,return-value]
        )

    async def __aenter__(self) -> Self:
        self.task = asyncio.ensure_future(self.intake.serve(self.stopping))
        await until(lambda: self.links[0].open)
        return self

    async def __aexit__(
        self, k: type[BaseException] | None, e: BaseException | None, t: TracebackType | None
    ) -> None:
        self.stopping.set()
        async with asyncio.timeout(5):
            await self.task


async def test_nothing_is_acknowledged_before_it_is_durable() -> None:
    link = Link()
    async with Run(link) as run:
        run.store.automatic = False
        link.deliver(payload(1), payload(2))
        await until(lambda: len(run.store.waiting) == 1)
        assert run.store.submitted == [[1, 2]]
        assert link.acked == []
        run.store.waiting[0].set_result(None)
        await until(lambda: link.acked == [1, 2])
    assert link.filters == ["devices/+/telemetry", DROPPED]
    assert run.store.identities == [identity(b"d1", payload(1)), identity(b"d1", payload(2))]


async def test_what_arrives_during_a_commit_joins_the_next_in_order() -> None:
    link = Link()
    async with Run(link) as run:
        run.store.automatic = False
        link.deliver(payload(1))
        await until(lambda: len(run.store.waiting) == 1)
        for n in (2, 3, 4):
            link.deliver(payload(n))
            await asyncio.sleep(0)
        run.store.waiting[0].set_result(None)
        await until(lambda: len(run.store.waiting) == 2)
        assert run.store.submitted == [[1], [2, 3, 4]]
        assert link.acked == [1]
        run.store.waiting[1].set_result(None)
    assert link.acked == [1, 2, 3, 4]


async def test_a_failed_commit_is_repeated_before_anything_later() -> None:
    link = Link()
    async with Run(link) as run:
        run.store.automatic = False
        link.deliver(payload(1))
        await until(lambda: len(run.store.waiting) == 1)
        link.deliver(payload(2))
        run.store.waiting[0].set_exception(Transient("disk full"))
        await until(lambda: run.intake.store_trouble == "disk full")
        await until(lambda: len(run.store.waiting) == 2)
        assert run.store.submitted == [[1], [1]]
        assert link.acked == []
        run.store.automatic = True
        run.store.waiting[1].set_result(None)
        await until(lambda: link.acked == [1, 2])
        assert run.intake.store_trouble is None
    assert run.store.submitted == [[1], [1], [2]]


async def test_a_repeat_is_acknowledged_and_not_stored() -> None:
    known = identity(b"d1", payload(1))
    link = Link()
    async with Run(link, store=Store([known])) as run:
        link.deliver(payload(1), payload(2), payload(2))
        await until(lambda: link.acked == [1, 2, 3])
        assert run.store.submitted == [[2]]
        link.deliver(payload(2))
        await until(lambda: link.acked == [1, 2, 3, 4])
    assert run.store.submitted == [[2]]


async def test_the_same_payload_of_another_device_is_no_repeat() -> None:
    link = Link()
    async with Run(link) as run:
        link.deliver(payload(1))
        link.deliver(payload(1), topic="devices/d2/telemetry")
        await until(lambda: link.acked == [1, 2])
        assert len(run.store.rows) == 2


async def test_a_repeat_over_a_new_connection_waits_for_its_first_copy() -> None:
    first, second = Link(), Link(session_present=True)
    async with Run(first, second) as run:
        run.store.automatic = False
        first.deliver(payload(1))
        await until(lambda: len(run.store.waiting) == 1)
        first.cut()
        await until(lambda: second.open)
        second.deliver(payload(1), redelivered=True)
        for _ in range(20):
            await asyncio.sleep(0)
        assert second.acked == []
        run.store.waiting[0].set_result(None)
        await until(lambda: second.acked == [1])
    assert first.acked == []
    assert run.store.submitted == [[1]]


async def test_what_is_on_no_device_topic_is_acknowledged_in_its_turn() -> None:
    link = Link()
    async with Run(link) as run:
        run.store.automatic = False
        link.deliver(payload(1))
        await until(lambda: len(run.store.waiting) == 1)
        for topic in ("devices/-bad/telemetry", "devices/d1/status", "a", "gateways/g1/batches"):
            link.deliver(payload(9), topic=topic)
        for _ in range(20):
            await asyncio.sleep(0)
        assert link.acked == []
        run.store.waiting[0].set_result(None)
        await until(lambda: link.acked == [1, 2, 3, 4, 5])
    assert run.store.submitted == [[1]]


async def test_what_cannot_be_parsed_is_stored_as_bytes() -> None:
    link = Link()
    async with Run(link) as run:
        link.deliver(b"\xff\x00", b"[]", payload(3))
        await until(lambda: link.acked == [1, 2, 3])
    first, second, third = (decode_record(row.record) for row in run.store.rows)
    assert isinstance(first, BytesRecord)
    assert first.payload == b"\xff\x00"
    assert isinstance(second, BytesRecord)
    assert second.payload == b"[]", "what holds nothing is for the hub to judge too"
    assert isinstance(third, ReadingRecord)


async def test_own_readings_are_stored_in_the_same_order_without_connection() -> None:
    link = Link()
    async with Run(link) as run:
        run.intake.offer("g1", payload(7))
        await until(lambda: run.store.submitted == [[7]])
        record = decode_record(run.store.rows[0].record)
        assert isinstance(record, ReadingRecord)
        assert record.device == "g1"
    assert run.store.identities == []


async def test_while_commits_fail_only_the_newest_own_readings_are_kept() -> None:
    """They piled up without bound, as nobody holds them back."""
    link = Link()
    async with Run(link) as run:
        run.store.automatic = False
        run.intake.offer("g1", payload(0))
        await until(lambda: len(run.store.waiting) == 1)
        for n in range(1, 100):
            run.intake.offer("g1", payload(n))
        link.deliver(payload(1_000))
        run.store.automatic = True
        run.store.waiting[0].set_result(None)
        await until(lambda: link.acked == [1])
    assert run.store.submitted == [[0], [1_000, *range(84, 100)]]


async def test_the_brokers_own_count_of_what_it_dropped_is_no_message(caplog: pytest.LogCaptureFixture) -> None:
    link = Link()
    async with Run(link) as run:
        with caplog.at_level("CRITICAL", "events"):
            link.deliver(b"0", b"7", b"7", b"nonsense", b"3", topic=DROPPED, retained=True)
            link.deliver(payload(1))
            await until(lambda: link.acked == [1, 2, 3, 4, 5, 6])
    assert run.store.submitted == [[1]]
    assert [(record.msg, record.event_fields) for record in caplog.records] == [
        ("local_broker_dropped", {"more": 7, "since_its_start": 7}),
        ("local_broker_dropped", {"more": 3, "since_its_start": 3}),  # it began again
    ]


async def test_a_broker_that_does_not_tell_what_it_dropped_is_served_too() -> None:
    link = Link()
    link.secretive = True
    async with Run(link) as run:
        link.deliver(payload(1))
        await until(lambda: link.acked == [1])
        assert run.intake.trouble is None


async def test_a_large_payload_is_let_go_once_its_rows_are_made() -> None:
    link = Link()
    async with Run(link) as run:
        run.store.automatic = False
        link.deliver(payload(1))
        await until(lambda: len(run.store.waiting) == 1)
        link.deliver(b"x" * 1_000_000, payload(2))
        await until(lambda: len(run.intake._pending.messages) == 2)
        assert [len(message.payload) for message in run.intake._pending.messages] == [0, len(payload(2))]
        run.store.automatic = True
        run.store.waiting[0].set_result(None)
        await until(lambda: link.acked == [1, 2, 3])


async def test_stopping_commits_and_acknowledges_what_was_taken() -> None:
    link = Link()
    async with Run(link) as run:
        run.store.automatic = False
        link.deliver(payload(1))
        await until(lambda: len(run.store.waiting) == 1)
        link.deliver(payload(2))
        await until(lambda: run.intake._pending.taken == 1)
        run.stopping.set()
        for _ in range(20):
            await asyncio.sleep(0)
        assert link.open
        run.store.automatic = True
        run.store.waiting[0].set_result(None)
    assert link.acked == [1, 2]
    assert not link.open


async def test_stopping_gives_up_a_commit_that_cannot_be_done() -> None:
    link = Link()
    async with Run(link) as run:
        run.store.automatic = False
        link.deliver(payload(1))
        await until(lambda: len(run.store.waiting) == 1)
        run.stopping.set()
        run.store.waiting[0].set_exception(Transient("disk full"))
    assert link.acked == []
    assert run.store.submitted == [[1]]


async def test_a_broken_connection_is_replaced_and_readiness_says_so() -> None:
    first, second = Link(), Link()
    async with Run(first, second) as run:
        await until(lambda: run.intake.connected)
        assert run.intake.trouble is None
        first.cut()
        await until(lambda: run.intake.trouble == "local broker: cut")
        await until(lambda: run.intake.connected)
        second.deliver(payload(1))
        await until(lambda: second.acked == [1])


async def test_what_waited_in_the_broker_teaches_no_skew() -> None:
    link = Link(session_present=True)
    async with Run(link) as run:
        for n in range(5):
            link.deliver(payload(n))
        await until(lambda: len(link.acked) == 5)
        assert run.skew.observe("d1", NOW + 99, NOW, fresh=False) is None
    fresh = Link()
    async with Run(fresh) as run:
        for n in range(5):
            fresh.deliver(payload(n))
        await until(lambda: len(fresh.acked) == 5)
        assert run.skew.observe("d1", NOW + 99, NOW, fresh=False) is not None


@pytest.mark.parametrize("how", ["redelivered", "retained"])
async def test_a_message_that_waited_at_the_broker_teaches_no_skew(how: str) -> None:
    link = Link()
    async with Run(link) as run:
        link.deliver(*map(payload, range(5)), **{how: True})  # type: ignore[arg-type]
        await until(lambda: len(link.acked) == 5)
        assert run.skew.observe("d1", NOW + 99, NOW, fresh=False) is None


class Traces:
    enabled = True

    def __init__(self) -> None:
        self.stages: list[tuple[str, str | None]] = []

    def start(self) -> str | None:
        return "00-" + "1" * 32 + "-" + "2" * 16 + "-01"

    def stage(self, name: str, parent: str | None, start_ns: int, end_ns: int, attributes: object) -> str | None:
        assert start_ns <= end_ns
        self.stages.append((name, parent))
        assert parent is not None
        return parent[:-4] + f"{len(self.stages)}-01"

    def close(self) -> None:
        return


@pytest.mark.parametrize("sampled", [True, False])
async def test_stages_are_traced_from_the_device_on_if_it_is_sampled(sampled: bool) -> None:
    link, traces = Link(), Traces()
    flag = "-01" if sampled else "-00"
    device = "00-" + "a" * 32 + "-" + "b" * 16 + flag
    async with Run(link, tracing=traces) as run:
        link.deliver(payload(1), trace=device)
        await until(lambda: link.acked == [1])
        record = decode_record(run.store.rows[0].record)
    assert isinstance(record, ReadingRecord)
    if sampled:
        assert [name for name, _ in traces.stages] == ["intake", "score", "commit"]
        assert traces.stages[0][1] == device
        assert record.traceparent == traces.stages[2][1]
        assert record.traceparent is not None
        assert record.traceparent.startswith("00-" + "a" * 32)
    else:
        assert traces.stages == []
        assert record.traceparent == device


async def test_a_traceparent_passes_when_nobody_collects() -> None:
    link = Link()
    device = "00-" + "a" * 32 + "-" + "b" * 16 + "-01"
    async with Run(link) as run:
        link.deliver(payload(1), trace=device)
        link.deliver(payload(2), trace="nonsense")
        await until(lambda: link.acked == [1, 2])
    first, second = (decode_record(row.record) for row in run.store.rows)
    assert isinstance(first, ReadingRecord)
    assert isinstance(second, ReadingRecord)
    assert (first.traceparent, second.traceparent) == (device, None)


async def test_reconnecting_while_the_disk_is_full_piles_nothing_up() -> None:
    links = [Link(session_present=number > 0) for number in range(6)]
    async with Run(*links) as run:
        run.store.automatic = False
        links[0].deliver(payload(0))
        await until(lambda: len(run.store.waiting) == 1)
        for before, after in itertools.pairwise(links):
            before.cut()
            await until(lambda link=after: link.open)  # type: ignore[misc]
            after.deliver(payload(0), payload(1), redelivered=True)
            await until(lambda: run.intake._pending.repeats > 0)
            assert len(run.intake._pending.messages) <= 2
        run.store.automatic = True
        run.store.waiting[0].set_result(None)
        await until(lambda: links[-1].acked == [1, 2])
    assert run.store.submitted == [[0], [1]]


async def test_what_the_gate_says_of_a_device_is_done_with_its_messages() -> None:
    link, store = Link(), Store()
    gates = {"d1": Gate.HOLD}
    async with Run(link, store=store, gate=lambda device: gates[device]):
        link.deliver(payload(1), payload(2))
        await until(lambda: len(link.acked) == 2)
        gates["d1"] = Gate.PASS
        link.deliver(payload(3))
        await until(lambda: len(link.acked) == 3)
        gates["d1"] = Gate.DROP
        link.deliver(payload(4))
        await until(lambda: len(link.acked) == 4)
    assert [(one.device, numbers([one.row]), one.waits) for one in store.held] == [
        ("d1", [1], True), ("d1", [2], True), ("d1", [3], False),
    ]  # fmt: skip
    assert store.rows == []
    assert len(store.identities) == 3, "what is dropped is not remembered"
