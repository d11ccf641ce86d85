"""What leaves when, with a session that only takes notes. With real servers: tests/stack/ingest."""

import asyncio
import json
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest

from control_plane.ingest.bridge import FILTERS, Bridge
from control_plane.ingest.config import IngestConfig
from control_plane.ingest.limits import Book, Limiter
from control_plane.ingest.packets import Message
from control_plane.ingest.tail import Tail
from shared import batch
from shared.clock import SystemClock
from shared.config import Secret
from shared.ids import new_epoch
from shared.rates import Defaults, Rates
from shared.tracing import NoTracing

CONFIG = IngestConfig(
    database_url=Secret("x"),
    kafka_bootstrap="h:1",
    mqtt_url="mqtt://h",
    secrets_file=Path("/nowhere"),
    data_dir=Path("/nowhere"),
    receive_maximum=10,
)


class Notes:
    """A session by the contract."""

    session_present = True

    def __init__(self, room):
        self.room, self.acknowledged, self.published, self.reading = room, [], [], True
        self.hints, self.told = [], []

    def acknowledge(self, packet_ids):
        self.acknowledged += packet_ids

    def publish_room(self):
        return self.room

    def publish(self, topic, payload):
        self.room -= 1
        self.published.append((topic, batch.decode_ack(payload).acks))
        self.hints.append(batch.decode_ack(payload).hint)

    def tell(self, topic, payload):
        self.told.append((topic, json.loads(payload)))

    def pause(self):
        self.reading = False

    def resume(self):
        self.reading = True

    async def subscribe(self, filters):
        self.published.append(filters)

    async def ended(self):
        while len(self.published) < 2:
            await asyncio.sleep(0)
        return "the end"


class Keeper:
    def subscribed(self):
        return


def a_bridge(reader, keeper=None, rates=None):
    book = Book()
    if rates is not None:
        book.learn_defaults(Defaults(1, rates, rates))
    return Bridge(
        CONFIG, reader, keeper, Tail((0,), []), limiter=Limiter(book, time.monotonic()), tracing=NoTracing(),
        clock=SystemClock(), random_unit=lambda: 0.0,
    )  # fmt: skip


@pytest.fixture
def bridge():
    made = a_bridge(None)
    made._flow.opened(1)
    made._session = Notes(room=2)
    made._subscribed = True
    return made


def a_batch(gateway, packet_id=1, number=1, epoch="e" * 22):
    header = batch.Header(epoch=epoch, number=number, floor=1, lane=batch.Lane.LIVE, records=1)
    pairs = tuple((name.encode(), value.encode()) for name, value in batch.encode_header(header))
    return Message(packet_id, f"gateways/{gateway}/batches".encode(), b"zip%d" % number, b"zip", pairs)


def waiting(bridge):
    (queue,) = bridge._flow.queues
    taken = list(queue)
    queue.clear()
    return taken


async def test_acknowledgements_wait_for_room_and_leave_as_it_comes(bridge):
    session = bridge._session
    bridge._received(1, [a_batch(f"g{n}", n) for n in range(1, 6)])
    assert (session.acknowledged, session.published) == ([], [])
    bridge._confirmed(waiting(bridge))
    assert session.acknowledged == [1, 2, 3, 4, 5]
    assert [topic for topic, _ in session.published] == ["gateways/g1/acks", "gateways/g2/acks"]
    session.room = 1
    bridge._published(0)
    assert [topic for topic, _ in session.published][2:] == ["gateways/g3/acks"]
    session.room = 100
    bridge._published(0x10)
    assert [topic for topic, _ in session.published][3:] == ["gateways/g4/acks", "gateways/g5/acks"]


async def test_a_gateway_is_told_before_the_broker(bridge):
    """Killed in between, ingest gets the batch again; the other way round nobody would tell the gateway."""
    order = []

    class Ordered(Notes):
        def acknowledge(self, packet_ids):
            order.extend(["broker"] * len(packet_ids))

        def publish(self, topic, payload):
            order.append("gateway")

    bridge._session = Ordered(room=9)
    bridge._received(1, [a_batch("g1", 7)])
    bridge._confirmed(waiting(bridge))
    assert order == ["gateway", "broker"]


async def test_what_was_confirmed_while_disconnected_is_told_to_gateways_and_not_to_the_broker(bridge):
    """The broker delivers it again by the new connection, and is answered there."""
    epoch = new_epoch()
    bridge._received(1, [a_batch("g1", 7, epoch=epoch)])
    bridge._session = None
    bridge._confirmed(waiting(bridge))
    bridge._flow.opened(2)
    session = bridge._session = Notes(room=10)
    bridge._acknowledge()
    assert session.acknowledged == []
    assert session.published == [("gateways/g1/acks", {epoch: [1]})]
    bridge._received(2, [a_batch("g1", 3, epoch=epoch)])
    assert session.acknowledged == [3]
    assert session.published == [("gateways/g1/acks", {epoch: [1]})] * 2


async def test_a_gateway_hears_nothing_before_the_subscription_stands():
    """What it hears it takes for the word that somebody listens, and sends on."""
    bridge = a_bridge(None, Keeper())
    bridge._flow.opened(1)
    bridge._received(1, [a_batch("g1", 7)])
    bridge._confirmed(waiting(bridge))
    session = bridge._session = Notes(room=10)
    bridge._acknowledge()
    assert session.published == []
    assert await bridge._until_ended(session, 1) == "the end"
    assert session.published == [FILTERS, ("gateways/g1/acks", {"e" * 22: [1]})]


async def test_reading_pauses_only_beyond_twice_receive_maximum(bridge):
    session = bridge._session
    messages = [Message(n, b"devices/d/telemetry", b"%d" % n) for n in range(1, 22)]
    bridge._received(1, messages[:20])
    assert session.reading
    bridge._received(1, messages[20:])
    assert not session.reading
    taken = waiting(bridge)
    bridge._confirmed(taken[:11])
    assert not session.reading
    bridge._confirmed(taken[11:12])
    assert session.reading


async def test_a_device_over_its_limit_is_told_once_and_its_excess_is_marked():
    bridge = a_bridge(None, rates=Rates(1.0, 1e6, 1.0, 2.0))
    bridge._flow.opened(1, time.monotonic())
    bridge._subscribed = True
    bridge._session = session = Notes(room=2)
    bridge._received(1, [Message(n, b"devices/d/telemetry", b"%d" % n) for n in range(1, 6)])
    marks = [dict(arrival.headers(None)).get("throttled") for arrival in waiting(bridge)]
    assert (marks[:2], marks[3:]) == ([None, None], [b"1", b"1"])  # the third is within by microseconds
    ((topic, notice),) = session.told
    assert (topic, notice["notice"]) == ("devices/d/notices", "throttled")
    ahead = datetime.fromisoformat(notice["until"]) - datetime.now(UTC)
    assert 0 < ahead.total_seconds() <= 3.0
    bridge._received(1, [Message(6, b"devices/d/telemetry", b"6")])
    assert len(session.told) == 1
    bridge._session = None
    bridge._received(1, [Message(7, b"devices/d/telemetry", b"7")])


async def test_a_gateway_over_its_limit_gets_a_hint_with_its_acknowledgement():
    bridge = a_bridge(None, rates=Rates(1e6, 1e6, 1.0, 1.0))
    bridge._flow.opened(1, time.monotonic())
    bridge._subscribed = True
    bridge._session = session = Notes(room=9)
    bridge._received(1, [a_batch("quiet")])
    bridge._confirmed(waiting(bridge))
    bridge._received(1, [a_batch("noisy", number, number) for number in range(1, 9)])
    bridge._confirmed(waiting(bridge))
    assert [hint is not None for hint in session.hints] == [False, True]
    assert session.hints[1].readings_per_s == 1.0
