"""What a read_committed reader sees of a run: every record of the topics that matter, and when it first saw it."""

import asyncio
import base64
import binascii
import time
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any

from deploy.demo.judge import Alarm, Refused, Visible
from deploy.site.installation import Installation
from deploy.site.topics import Record, committed, consumer, record_of
from shared.batch import ReadingRecord, decode_record
from shared.errors import HubError, Transient
from shared.reading import Reading, parse_payload
from shared.topics import Kafka

TOPICS = (Kafka.RAW, Kafka.NORMALIZED, Kafka.REJECTED, Kafka.ANOMALY)


DETECTOR_GROUP = "hub-detector"


class Watch:
    """Collects from the moment it is opened.

    `longest_gap_ms`: the longest time without a new record in `normalized`; whoever measures one sets it to 0 first.
    `changed` is set with every record, `progressed` only with one in `normalized`.
    """

    def __init__(self, devices: Collection[str]) -> None:
        self._devices = frozenset(devices)
        self._next: dict[int, int] = {}  # normalized: by partition, the offset behind the last record
        self._resent: set[str] = set()
        self._seen: list[tuple[Record, int]] = []
        self.counts = dict.fromkeys(TOPICS, 0)
        self.changed = asyncio.Event()
        self.progressed = asyncio.Event()
        self.longest_gap_ms = 0
        self._last_ms: int | None = None

    def take(self, record: Record, at_ms: int) -> None:
        """Keep one record that was first seen at `at_ms`."""
        self.counts[Kafka(record.topic)] += 1
        if record.topic == Kafka.RAW:
            if record.headers.get("resent") == "1":
                self._resent.add(record.headers.get("ce_id", ""))
            return
        self._seen.append((record, at_ms))
        if record.topic == Kafka.NORMALIZED:
            self.longest_gap_ms = max(self.longest_gap_ms, at_ms - (self._last_ms or at_ms))
            self._last_ms = at_ms
            self._next[record.partition] = record.offset + 1
            self.progressed.set()

    def judged_by(self, positions: dict[int, int]) -> bool:
        """Whether a reader of `normalized` that stands at `positions` (by partition) has read all that was seen."""
        return all(positions.get(partition, 0) >= offset for partition, offset in self._next.items())

    def visible(self) -> list[Visible]:
        """The readings in `normalized`."""
        found = []
        for record, at_ms in self._of(Kafka.NORMALIZED):
            data = record.json()
            n = data.get("metrics", {}).get("n")
            ce_id = record.headers["ce_id"]
            resent = ce_id.rpartition(":")[0] in self._resent
            found.append(Visible(data["device_id"], n, ce_id, data["lane"], resent, at_ms))
        return found

    def refused(self) -> list[Refused]:
        """The records in `rejected`."""
        found = []
        for record, _ in self._of(Kafka.REJECTED):
            data = record.json()
            found.append(Refused(record.key, _number(data), record.headers["ce_id"], data["sha256"]))
        return found

    def alarms(self) -> list[Alarm]:
        """The anomalies."""
        return [
            Alarm(data["device_id"], data["metric"], int(datetime.fromisoformat(data["ts"]).timestamp() * 1_000))
            for data in (record.json() for record, _ in self._of(Kafka.ANOMALY))
        ]

    def _of(self, topic: Kafka) -> list[tuple[Record, int]]:
        return [
            (record, at_ms) for record, at_ms in self._seen if record.topic == topic and record.key in self._devices
        ]


class LiveWatch(Watch):
    """A watch that fills itself, and knows how far it and the detector are."""

    def __init__(self, devices: Collection[str], bootstrap: str, client: Any) -> None:
        super().__init__(devices)
        self._bootstrap = bootstrap
        self._client = client  # aiokafka's consumer, which is untyped

    async def fill(self) -> None:
        """Take what comes, for ever."""
        while True:
            batches = await self._client.getmany(timeout_ms=1_000)
            at_ms = time.time_ns() // 1_000_000
            for batch in batches.values():
                for item in batch:
                    self.take(record_of(item), at_ms)
            if batches:
                self.changed.set()

    async def detector_is_done(self) -> bool:
        """Whether the detector has judged every reading seen so far, and its alarms have all been taken here."""
        try:
            positions = await committed(self._bootstrap, DETECTOR_GROUP, Kafka.NORMALIZED)
        except Transient:
            return False  # whoever drains asks again
        if not self.judged_by(positions):
            return False
        # Alarms and position are one transaction, so whatever it found stands before these ends.
        places = [place for place in self._client.assignment() if place.topic == Kafka.ANOMALY]
        ends = await self._client.end_offsets(places)
        return all([await self._client.position(place) >= end for place, end in ends.items()])


@asynccontextmanager
async def watching(bootstrap: str, devices: Collection[str]) -> AsyncIterator[LiveWatch]:
    """A watch from now on, until the block ends. An error of ours leaves the block as it is, not in a group."""
    try:
        async with consumer(bootstrap, TOPICS, "latest") as client, asyncio.TaskGroup() as group:
            watch = LiveWatch(devices, bootstrap, client)
            filling = group.create_task(watch.fill())
            try:
                yield watch
            finally:
                filling.cancel()
    except* HubError as errors:
        raise errors.exceptions[0] from errors


@asynccontextmanager
async def started_and_watched(site: Installation) -> AsyncIterator[LiveWatch]:
    """Start the gateways under a watch.

    In this order: a gateway reads its own health as soon as it runs, and what reached `normalized` before the watch
    was open would count as lost.
    """
    async with watching(site.stack.env()["HUB_KAFKA_BOOTSTRAP"], site.names) as watch:
        for gateway in site.gateways.values():
            await asyncio.to_thread(gateway.start)
        yield watch


def _number(refused: dict[str, Any]) -> int | None:
    """The counter of a refused reading, where it can be read: as its device wrote it, or as a batch's record."""
    try:
        payload = base64.b64decode(refused["payload_base64"])
    except binascii.Error:
        return None
    if refused.get("origin", {}).get("record") == "record":
        record = decode_record(payload)
        n = record.metrics.get("n") if isinstance(record, ReadingRecord) else None
    else:
        items = list(parse_payload(payload))
        n = items[0].metrics.get("n") if len(items) == 1 and isinstance(items[0], Reading) else None
    return n if isinstance(n, int) else None
