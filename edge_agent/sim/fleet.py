"""The fleet's shell: a connection and a clock for each device.

A device keeps what its broker has not acknowledged, as a real one with a QoS 1 store does, and sends it again after
a reconnect, up to WAITING messages; beyond that the oldest that is not under way is forgotten and counted.
"""

import asyncio
import contextlib
import random
import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from edge_agent.mqtt import REFUSED_FROM, Connection, Options, Will
from edge_agent.sim.device import Device, Kind, Message
from edge_agent.sim.faults import happened
from edge_agent.sim.journal import Journal
from shared.backoff import Backoff
from shared.config import Secret
from shared.errors import Transient
from shared.ids import DeviceId
from shared.topics import Channel, build

WAITING = 100_000  # messages a device holds while its broker is away
INFLIGHT = 20
_BACKOFF = Backoff(first_s=0.2, cap_s=5.0)


@dataclass(slots=True)
class Totals:
    """What the fleet did so far, in messages."""

    measured: int = 0
    acknowledged: int = 0
    refused: int = 0
    repeats: int = 0
    malformed: int = 0
    forgotten: int = 0
    connects: int = 0


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where one device connects, and as whom."""

    broker: str
    username: str | None = None
    password: Secret | None = None


class Fleet:
    """All devices of a run. `run` once."""

    def __init__(self, devices: Sequence[Device], endpoints: Mapping[str, Endpoint], journal: Journal) -> None:
        self.totals = Totals()
        self.started_ms = 0
        self.journal = journal
        self._members = [_Member(device, endpoints[device.name], self) for device in devices]

    @property
    def waiting(self) -> int:
        """Messages that no broker has acknowledged yet."""
        return sum(len(member.waiting) for member in self._members)

    @property
    def strangers(self) -> int:
        """Devices that never reached their broker."""
        return sum(not member.met for member in self._members)

    async def run(self, duration_s: float, stopping: asyncio.Event, *, drain_s: float = 30.0) -> None:
        """Measure for `duration_s` or until `stopping`, then give the brokers `drain_s` to acknowledge the rest.

        At the end the faults are written down, as far as they came.
        Raises Permanent if a broker refuses a device for good (a wrong key).
        """
        loop = asyncio.get_running_loop()
        started = loop.time()
        self.started_ms = time.time_ns() // 1_000_000
        done = asyncio.Event()
        async with asyncio.TaskGroup() as group:
            speakers = [group.create_task(member.speak(started, done)) for member in self._members]
            async with asyncio.TaskGroup() as measuring:
                for member in self._members:
                    measuring.create_task(member.measure(started, duration_s, stopping))
            self._write_faults(loop.time() - started)
            done.set()
            for member in self._members:
                member.stirred.set()
            _, late = await asyncio.wait(speakers, timeout=drain_s)
            for task in late:
                task.cancel()
        for member in self._members:
            member.give_up()

    def _write_faults(self, ended_s: float) -> None:
        faults = [e for m in self._members for e in happened(m.device.episodes, m.last_s, ended_s)]
        self.journal.faults(faults, self.started_ms)


class _Member:
    """One device with its queue and its connection."""

    def __init__(self, device: Device, endpoint: Endpoint, fleet: Fleet) -> None:
        self.device = device
        self.waiting: deque[tuple[Message, int]] = deque()
        self.stirred = asyncio.Event()
        self.met = False
        self.last_s = -1.0  # when its latest reading was due
        self._sent: deque[asyncio.Future[int]] = deque()  # of the first messages of `waiting`, in their order
        self._endpoint = endpoint
        self._fleet = fleet
        self._n = 0
        self._first_sent: dict[tuple[int, Kind], int] = {}

    async def measure(self, started: float, duration_s: float, stopping: asyncio.Event) -> None:
        """Take readings at a steady pace, the first at a random moment of the first interval."""
        loop = asyncio.get_running_loop()
        turn = random.random()  # noqa: S311 - so that a fleet does not speak in one voice
        while True:
            due_s = turn * self.device.interval_s
            turn += 1
            if due_s >= duration_s:
                return
            wait_s = started + due_s - loop.time()
            if wait_s > 0:
                with contextlib.suppress(TimeoutError):  # the next reading is due
                    await asyncio.wait_for(stopping.wait(), wait_s)
            if stopping.is_set():
                return
            for _ in range(self.device.readings_at(due_s)):
                self._take(due_s)

    def _take(self, at_s: float) -> None:
        totals = self._fleet.totals
        now_ms = time.time_ns() // 1_000_000
        self.last_s = at_s
        for message in self.device.measure(self._n, at_s, now_ms):
            if len(self.waiting) >= WAITING:
                self._forget()
            self.waiting.append((message, now_ms))
            totals.measured += message.kind is Kind.READING
            totals.repeats += message.kind is Kind.REPEAT
            totals.malformed += message.kind is Kind.MALFORMED
        self._n += 1
        self.stirred.set()

    def _forget(self) -> None:
        """Give up the oldest message that is not under way: an acknowledgement is told by its place in the line."""
        place = len(self._sent)
        message, taken_ms = self.waiting[place]
        del self.waiting[place]
        self._journal(message, taken_ms, None)
        self._fleet.totals.forgotten += 1

    async def speak(self, started: float, done: asyncio.Event) -> None:
        """Send what waits, in order, over one connection after the other, until `done` and nothing waits."""
        attempt = 0
        loop = asyncio.get_running_loop()
        while not (done.is_set() and not self.waiting):
            offline_s = self.device.offline_for(loop.time() - started)
            if offline_s > 0:
                await asyncio.sleep(offline_s)
                continue
            try:
                async with self._connection() as connection:
                    self._fleet.totals.connects += 1
                    self.met = True
                    attempt = 0
                    await self._converse(connection, started, done)
            except Transient:
                await asyncio.sleep(_BACKOFF.delay_s(attempt, random.random()))  # noqa: S311
                attempt += 1

    async def _converse(self, connection: Connection, started: float, done: asyncio.Event) -> None:
        loop = asyncio.get_running_loop()
        topic = build(Channel.TELEMETRY, DeviceId(self.device.name))
        self._sent.clear()  # what an earlier connection left open is sent again
        while not (done.is_set() and not self.waiting):
            if self.device.offline_for(loop.time() - started) > 0:
                return
            while len(self._sent) < min(INFLIGHT, len(self.waiting)):
                message, _ = self.waiting[len(self._sent)]
                self._first_sent.setdefault((message.n, message.kind), time.time_ns() // 1_000_000)
                self._sent.append(connection.publish(topic, message.payload))
            if not self._sent:
                self.stirred.clear()
                await self.stirred.wait()
                continue
            code = await self._sent[0]
            self._sent.popleft()
            self._answered(code)

    def _answered(self, code: int) -> None:
        message, taken_ms = self.waiting.popleft()
        self._journal(message, taken_ms, code)
        if code < REFUSED_FROM:
            self._fleet.totals.acknowledged += 1
        else:
            self._fleet.totals.refused += 1

    def give_up(self) -> None:
        """Write down what no broker acknowledged."""
        for message, taken_ms in self.waiting:
            self._journal(message, taken_ms, None)

    def _journal(self, message: Message, taken_ms: int, code: int | None) -> None:
        sent_ms = self._first_sent.pop((message.n, message.kind), taken_ms)
        acked_ms = None if code is None else time.time_ns() // 1_000_000
        self._fleet.journal.sent(self.device.name, message, sent_ms, code, acked_ms)

    def _connection(self) -> Connection:
        owner = DeviceId(self.device.name)
        return Connection(
            Options(
                self._endpoint.broker,
                client_id=self.device.name,
                username=self._endpoint.username,
                password=self._endpoint.password,
                inflight=INFLIGHT,
                will=Will(build(Channel.STATUS, owner), b'{"online": false}'),
            )
        )
