"""The misuse matrix at the broker: each row is tried on a real hub; what was refused is nowhere in Kafka either."""

import json
import threading
import time
import uuid
from pathlib import Path

import paho.mqtt.client as paho
import pytest
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.subscribeoptions import SubscribeOptions

from deploy.site.topics import read_all
from shared.topics import Kafka
from tests.security.conftest import World, names_in_logs
from tests.security.mqtt_tries import CONNECTS, PUBLISHES, READS, Outcome, Try

pytestmark = [pytest.mark.stack, pytest.mark.timeout(300)]
WAIT_S = 15.0


class Visitor:
    """A plain MQTT client that remembers what the broker said."""

    def __init__(self, world: World, row: Try) -> None:
        version = paho.MQTTv5 if row.version == 5 else paho.MQTTv311
        clean = {} if row.version == 5 else {"clean_session": True}
        self.client = paho.Client(
            paho.CallbackAPIVersion.VERSION2,
            client_id=world.fill(row.client) or "",
            protocol=version,
            reconnect_on_failure=False,
            **clean,
        )
        user = world.fill(row.user)
        if user is not None:
            self.client.username_pw_set(user, world.fill(row.password))
        self.connected: bool | None = None
        self.answered = threading.Event()
        self.closed = threading.Event()
        self.pubacks: dict[int, int] = {}
        self.subacks: set[int] = set()
        self.messages: list[tuple[str, bytes]] = []
        self.arrived = threading.Condition()
        self.client.on_connect = self._on_connect
        self.client.on_disconnect = self._on_disconnect
        self.client.on_publish = self._on_publish
        self.client.on_subscribe = self._on_subscribe
        self.client.on_message = self._on_message
        host, port = world.env["HUB_MQTT_URL"].removeprefix("mqtt://").split(":")
        self.client.connect(host, int(port))
        self.client.loop_start()

    def _on_connect(self, client, userdata, flags, reason, properties):
        self.connected = not reason.is_failure
        self.answered.set()

    def _on_disconnect(self, *_):
        self.connected = bool(self.connected)
        self.closed.set()
        self.answered.set()

    def _on_publish(self, client, userdata, mid, reason, properties):
        with self.arrived:
            self.pubacks[mid] = reason.value
            self.arrived.notify_all()

    def _on_subscribe(self, client, userdata, mid, reasons, properties):
        with self.arrived:
            self.subacks.add(mid)
            self.arrived.notify_all()

    def _on_message(self, client, userdata, message):
        with self.arrived:
            self.messages.append((message.topic, message.payload))
            self.arrived.notify_all()

    def subscribe(self, topic: str) -> None:
        """Returns when the broker has answered, whatever it said, or has closed the connection."""
        _, mid = self.client.subscribe([(topic, SubscribeOptions(qos=1))])
        with self.arrived:
            assert self.arrived.wait_for(lambda: mid in self.subacks or self.closed.is_set(), WAIT_S)

    def publish(self, topic: str, payload: bytes, **properties: object) -> Outcome:
        wanted = Properties(PacketTypes.PUBLISH)
        for name, value in properties.items():
            setattr(wanted, name, value)
        info = self.client.publish(topic, payload, 1, properties=wanted)
        with self.arrived:
            self.arrived.wait_for(lambda: info.mid in self.pubacks or self.closed.is_set(), WAIT_S)
        return Outcome.TAKEN if self.pubacks.get(info.mid, 0x87) < 0x80 else Outcome.REFUSED

    def end(self) -> None:
        self.client.disconnect()
        self.client.loop_stop()


def names(rows: list[Try]) -> list[str]:
    return [row.name for row in rows]


@pytest.mark.parametrize("row", CONNECTS, ids=names(CONNECTS))
def test_connect(world: World, row: Try) -> None:
    visitor = Visitor(world, row)
    assert visitor.answered.wait(WAIT_S)
    came_to = Outcome.IN if visitor.connected else Outcome.OUT
    visitor.end()
    assert came_to == row.expected


@pytest.mark.parametrize("row", PUBLISHES, ids=names(PUBLISHES))
def test_publish(world: World, row: Try) -> None:
    mark = uuid.uuid4().hex
    world.marks[mark] = row.expected is Outcome.TAKEN and str(row.topic).endswith("telemetry")
    visitor = Visitor(world, row)
    assert visitor.answered.wait(WAIT_S)
    assert visitor.connected
    payload = json.dumps({"ts": int(time.time() * 1000), "temperature": 20.0, "mark": mark}).encode()
    came_to = visitor.publish(world.fill(row.topic) or "", payload)
    visitor.end()
    assert came_to == row.expected


@pytest.mark.parametrize("row", READS, ids=names(READS))
def test_read(world: World, row: Try) -> None:
    """Ingest's own user publishes to everybody's channels, to this one's last: what came before it is all."""
    me = world.fill(row.client) or ""
    own = f"gateways/{me}/acks" if row.client == "{g}" else f"devices/{me}/notices"
    visitor = Visitor(world, row)
    assert visitor.answered.wait(WAIT_S)
    visitor.subscribe(world.fill(row.read) or "")
    visitor.subscribe(own)
    service = Visitor(
        world, Try("", Outcome.IN, f"_visit-{uuid.uuid4().hex[:8]}", "_ingest", secret(world, "_ingest"))
    )
    assert service.answered.wait(WAIT_S)
    b, h = world.people["b"].id, world.people["h"].id
    for topic in (f"devices/{b}/notices", f"devices/{b}/commands", f"gateways/{h}/acks"):
        assert service.publish(topic, b"{}") is Outcome.TAKEN
    sentinel = uuid.uuid4().hex.encode()
    service.publish(own, sentinel)
    with visitor.arrived:
        assert visitor.arrived.wait_for(lambda: any(body == sentinel for _, body in visitor.messages), WAIT_S)
    service.end()
    visitor.end()
    assert {topic for topic, _ in visitor.messages} == {own}


def secret(world: World, user: str) -> str:
    return str(json.loads(Path(world.env["HUB_SERVICE_SECRETS_FILE"]).read_text())[user])


async def test_what_was_refused_is_nowhere_in_kafka(world: World) -> None:
    """Runs after the rows above: of their marks, those that were taken are in `raw`, the others in no topic."""
    assert any(world.marks.values())
    deadline = time.monotonic() + 30
    while True:
        found = b"\n".join(
            record.value for record in await read_all(world.env["HUB_KAFKA_BOOTSTRAP"], [Kafka.RAW, Kafka.REJECTED])
        )
        seen = {mark for mark in world.marks if mark.encode() in found}
        telemetry = {mark for mark, taken in world.marks.items() if taken}
        if seen >= telemetry or time.monotonic() > deadline:
            break
    assert seen == telemetry


def test_no_log_names_anybody(world: World) -> None:
    """After all of the above."""
    assert names_in_logs(world) == []
