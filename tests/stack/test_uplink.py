"""Outbox, writer and link against real Mosquitto, with a hub that acknowledges as ingest does.

The hub here keeps what it took in a list, as Kafka would, judges it by the reference normaliser, and can be told to
be silent. Kafka itself and the real services are in the tests of the whole way.
"""

import asyncio
import contextlib
import shutil
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from deploy.stack import LocalBroker
from deploy.stack.link import Link
from edge_agent.hub_link import HubLink, LinkSettings
from edge_agent.mqtt import Connection, Options
from edge_agent.outbox_room import Room
from edge_agent.outbox_writer import OutboxWriter, Settings
from edge_agent.row import Row
from edge_agent.uplink_state import Limits
from shared import topics
from shared.backoff import Backoff
from shared.batch import Ack, Lane, decode_header, encode_ack, unpack
from shared.clock import SystemClock
from shared.errors import Rejected, Transient
from shared.ids import DeviceId
from shared.limits import MIB
from shared.topics import Channel
from tests.model.reference_normaliser import Normaliser
from tests.stack.gateway_kit import small_file_system
from tests.unit.edge_agent.outbox_files import new_file, row

pytestmark = pytest.mark.stack

GATEWAY = DeviceId("gw1")
BOUNDS = Limits(replay_start_s=0.0, free_every_s=0.2)


class Hub:
    """Ingest, Kafka and normaliser in one: acknowledges to gateway and broker only what it has kept."""

    def __init__(self) -> None:
        self.normaliser = Normaliser()
        self.numbers: list[tuple[str, int]] = []
        self.lanes: list[Lane] = []
        self.acks = True
        self._changed = asyncio.Event()

    async def serve(self, broker: LocalBroker) -> None:
        """Until cancelled; connects again when the broker went away."""
        while True:
            with contextlib.suppress(Transient):
                options = Options(broker.url, "_ingest", session=True, receive_maximum=1_000)
                async with Connection(options) as connection:
                    await connection.subscribe(topics.subscription(Channel.BATCHES))
                    self._changed.set()
                    while True:
                        await self._take(connection)
            await asyncio.sleep(0.05)

    async def _take(self, connection: Connection) -> None:
        acks: dict[str, list[int]] = {}
        messages = await connection.receive()
        for message in messages:
            header = decode_header(dict(message.user_properties))
            unpacked = unpack(message.payload)
            assert not isinstance(header, Rejected), header
            assert isinstance(unpacked, bytes), unpacked
            records = unpacked[1:-1].replace(b'],["', b']\n["').split(b"\n")
            assert len(records) == header.records
            self.normaliser.take(header, records)
            self.numbers.append((header.epoch, header.number))
            self.lanes.append(header.lane)
            acks.setdefault(header.epoch, []).append(header.number)
        if self.acks:
            connection.publish(topics.build(Channel.ACKS, GATEWAY), encode_ack(Ack(acks)))
            for message in messages:
                connection.ack(message)
        self._changed.set()

    @property
    def rows(self) -> list[bytes]:
        return [record for record, _ in self.normaliser.output]

    async def until(self, condition: Callable[[], bool], seconds: float = 30.0) -> None:
        async with asyncio.timeout(seconds):
            while not condition():
                self._changed.clear()
                with contextlib.suppress(TimeoutError):  # the writer's side moves without the hub's notice
                    await asyncio.wait_for(self._changed.wait(), 0.1)


class Gateway:
    """An agent without intake: writer and link, which may be stopped, killed and started again."""

    def __init__(self, directory: Path, url: str, **settings) -> None:
        self.path = directory / "outbox.db"
        self.settings = {"free_floor_bytes": 0, "reserve_bytes": 4096} | settings
        if not self.path.exists():
            new_file(self.path)
        self.url = url
        self.names = 0
        self.accepted: list[bytes] = []
        self.start()

    def start(self) -> None:
        self.writer = OutboxWriter(Settings(self.path, uplink=BOUNDS, **self.settings), SystemClock())
        self.writer.start()
        self._stopping = asyncio.Event()
        link = LinkSettings(self.url, GATEWAY, first_delay_s=0.0, reconnect=Backoff(0.05, 0.2), keepalive_s=5)
        self.link = HubLink(link, self.writer, SystemClock())
        self._task = asyncio.create_task(self.link.serve(self._stopping))

    async def stop(self) -> None:
        self._stopping.set()
        await asyncio.wait_for(self._task, 20)
        await asyncio.to_thread(self.writer.stop)

    async def accept(self, count: int, size: int = 0) -> list[Row]:
        rows = [row(self.names + index, size=size) for index in range(count)]
        self.names += count
        await self.writer.submit(rows, [])
        self.accepted += [one.record for one in rows]
        return rows

    def drained(self) -> bool:
        ledger = self.writer.ledger()
        return sum(ledger.waiting) == 0 and self.writer.unacknowledged() == 0


@contextlib.asynccontextmanager
async def hub_at(broker: LocalBroker) -> AsyncIterator[Hub]:
    hub = Hub()
    task = asyncio.create_task(hub.serve(broker))
    await hub.until(lambda: hub._changed.is_set() or task.done())
    try:
        yield hub
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


@pytest.fixture
def directory(server_dir: Path) -> Path:
    (server_dir / "agent").mkdir()
    return server_dir / "agent"


def judge(hub: Hub, gateway: Gateway) -> None:
    """Everything accepted came out once; nothing else did; no gap was seen; the ledger balances."""
    assert sorted(hub.rows) == sorted(gateway.accepted)
    assert hub.normaliser.gaps == hub.normaliser.damaged == []
    ledger = gateway.writer.ledger()
    assert ledger.balances()
    assert ledger.acked == ledger.accepted
    assert sum(ledger.accepted) == len(gateway.accepted)


async def test_rows_arrive_and_leave_the_outbox_only_by_the_hubs_word(local_broker, directory):
    async with hub_at(local_broker) as hub:
        hub.acks = False
        gateway = Gateway(directory, local_broker.url)
        await gateway.accept(500)
        await hub.until(lambda: len(hub.rows) == 500)
        assert gateway.writer.unacknowledged() >= 1
        assert sum(gateway.writer.ledger().waiting) == 500
        hub.acks = True
        gateway.writer.disconnected()  # as a reconnect would, everything goes again
        await gateway.stop()
        gateway.start()
        await hub.until(gateway.drained)
        await gateway.stop()
        judge(hub, gateway)
        assert hub.normaliser.repeats >= 1


async def test_links_that_break_lose_and_double_nothing(local_broker, directory):
    async with hub_at(local_broker) as hub, Link("127.0.0.1", local_broker.port, 0.005) as link:
        gateway = Gateway(directory, f"mqtt://127.0.0.1:{link.port}")
        for _ in range(12):
            await gateway.accept(300)
            link.cut()
            await gateway.accept(50)
            link.restore()
            await hub.until(lambda: gateway.link.connected)
        await hub.until(gateway.drained, 60)
        await gateway.stop()
        judge(hub, gateway)
        names = {
            lane: [record for record, its in hub.normaliser.output if its == lane] for lane in ("live", "replay")
        }
        order = {record: place for place, record in enumerate(gateway.accepted)}
        for records in names.values():
            places = [order[record] for record in records]
            assert places == sorted(places)
        assert names["replay"]


async def test_a_killed_broker_that_forgot_what_it_took_loses_and_doubles_nothing(local_broker, directory):
    async with hub_at(local_broker) as hub:
        gateway = Gateway(directory, local_broker.url)
        for _ in range(4):
            await gateway.accept(400)
            local_broker.kill()
            await gateway.accept(100)
            local_broker.start()
            await hub.until(lambda: gateway.link.connected)
        await hub.until(gateway.drained, 60)
        await gateway.stop()
        judge(hub, gateway)


async def test_restarts_of_the_agent_close_its_epochs(local_broker, directory):
    async with hub_at(local_broker) as hub:
        gateway = Gateway(directory, local_broker.url)
        for times in range(1, 5):
            await gateway.accept(50)
            await hub.until(lambda rows=50 * times: len(hub.rows) == rows)
            await gateway.stop()
            gateway.start()
        await gateway.accept(5)
        await hub.until(gateway.drained)
        await gateway.accept(5)
        await hub.until(gateway.drained)
        await gateway.stop()
        judge(hub, gateway)
        still_open = [name for name, state in hub.normaliser.epochs.items() if not state.closed]
        assert len(still_open) == 1
        assert len(hub.normaliser.epochs) >= 3


async def test_nobody_subscribed_is_not_taken_and_sent_again_before_what_is_new(local_broker, directory):
    gateway = Gateway(directory, local_broker.url)
    await gateway.accept(20)
    while gateway.writer._dispatcher.state.link is None or gateway.writer._dispatcher.state.link.probes < 2:
        await gateway.accept(1)
        await asyncio.sleep(0.01)
    assert gateway.writer.unacknowledged() == 1, "nothing more is formed"
    async with hub_at(local_broker) as hub:
        await gateway.accept(5)
        await hub.until(gateway.drained, 10)
        await gateway.stop()
        judge(hub, gateway)
        assert hub.rows == gateway.accepted


async def test_live_goes_at_once_while_a_backlog_drains_beside_it(local_broker, directory, monkeypatch):
    monkeypatch.setattr(f"{__name__}.BOUNDS", Limits(replay_start_s=0.0, free_every_s=0.2, replay_per_s=5_000.0))
    gateway = Gateway(directory, "mqtt://127.0.0.1:1")  # nobody there
    for _ in range(20):
        await gateway.accept(1_000)
    await gateway.stop()
    async with hub_at(local_broker) as hub:
        gateway.url = local_broker.url
        gateway.start()
        await hub.until(lambda: len(hub.rows) > 0)
        overtook = 0
        for _ in range(20):
            (fresh,) = await gateway.accept(1)
            await hub.until(lambda wanted=fresh.record: wanted in hub.rows)
            overtook += len(hub.rows) < 20_000
        assert overtook >= 3, "fresh rows came while the backlog was on its way"
        await hub.until(gateway.drained, 60)
        await gateway.stop()
        judge(hub, gateway)
        assert set(hub.lanes) == {Lane.LIVE, Lane.REPLAY}


async def test_an_old_copy_of_the_outbox_loses_nothing_and_new_is_never_taken_for_a_repeat(local_broker, directory):
    async with hub_at(local_broker) as hub:
        gateway = Gateway(directory, "mqtt://127.0.0.1:1")
        await gateway.accept(100)
        await gateway.stop()
        shutil.copyfile(gateway.path, directory / "copy")
        gateway.url = local_broker.url
        gateway.start()
        await gateway.accept(100)
        await hub.until(gateway.drained)
        await gateway.stop()
        judge(hub, gateway)
        shutil.copyfile(directory / "copy", gateway.path)
        gateway.start()
        fresh = await gateway.accept(50)
        await hub.until(gateway.drained)
        await gateway.stop()
        assert set(gateway.accepted) == set(hub.rows)
        assert all(hub.rows.count(one.record) == 1 for one in fresh)
        assert hub.normaliser.gaps == []


@pytest.fixture
def small_disk(server_dir: Path) -> Iterator[Path]:
    """A file system of 32 MiB."""
    with small_file_system(server_dir / "small", 32) as place:
        yield place


async def test_a_disk_full_to_the_last_byte_refuses_rows_and_mends_by_itself(local_broker, small_disk, monkeypatch):
    monkeypatch.setattr("edge_agent.outbox_writer._MEASURE_S", 0.2)
    given_up: list[bool] = []

    def drop_reserve(room: Room) -> None:
        given_up.append(room._reserve.exists())
        room._reserve.unlink(missing_ok=True)

    monkeypatch.setattr(Room, "drop_reserve", drop_reserve)
    async with hub_at(local_broker) as hub:
        gateway = Gateway(small_disk, "mqtt://127.0.0.1:1", free_floor_bytes=2 * MIB, reserve_bytes=12 * MIB)
        refused = False
        while not refused:
            try:
                await gateway.accept(500, size=500)
            except Transient:
                refused = True
        assert len(gateway.accepted) >= 10_000
        assert gateway.writer.trouble
        with (small_disk / "somebody-else").open("wb", buffering=0) as file, contextlib.suppress(OSError):
            while True:  # takes what was left, to the last byte
                file.write(b"x" * 4096)
        await gateway.stop()
        gateway.url = local_broker.url
        gateway.start()
        await hub.until(gateway.drained, 60)
        assert any(given_up), "the reserve was needed"
        (small_disk / "somebody-else").unlink()
        while refused:
            try:
                await gateway.accept(10)
                refused = False
            except Transient:
                await asyncio.sleep(0.1)
        await hub.until(lambda: gateway.drained() and gateway.path.with_name("outbox.db.reserve").exists())
        await gateway.stop()
        judge(hub, gateway)
