"""What a read_committed reader sees of a run: every record of the topics that matter, and when it first saw it."""

import asyncio
import base64
import binascii
import time
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from datetime import datetime

from deploy.demo.judge import Alarm, Refused, Visible
from deploy.site.topics import Record, consumer, record_of
from shared.reading import Reading, parse_payload
from shared.topics import Kafka

TOPICS = (Kafka.RAW, Kafka.NORMALIZED, Kafka.REJECTED, Kafka.ANOMALY)


class Watch:
    """Collects from the moment it is opened.

    `longest_gap_ms`: the longest time without a new record in `normalized`; whoever measures one sets it to 0 first.
    """

    def __init__(self, devices: Collection[str]) -> None:
        self._devices = frozenset(devices)
        self._resent: set[str] = set()
        self._seen: list[tuple[Record, int]] = []
        self.counts = dict.fromkeys(TOPICS, 0)
        self.changed = asyncio.Event()
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
            found.append(
                Refused(record.key, _number(data["payload_base64"]), record.headers["ce_id"], data["sha256"])
            )
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


@asynccontextmanager
async def watching(bootstrap: str, devices: Collection[str]) -> AsyncIterator[Watch]:
    """A watch that fills itself until the block ends."""
    watch = Watch(devices)
    async with consumer(bootstrap, TOPICS, "latest") as client, asyncio.TaskGroup() as group:

        async def fill() -> None:
            while True:
                batches = await client.getmany(timeout_ms=1_000)
                at_ms = time.time_ns() // 1_000_000
                for batch in batches.values():
                    for item in batch:
                        watch.take(record_of(item), at_ms)
                if batches:
                    watch.changed.set()

        filling = group.create_task(fill())
        try:
            yield watch
        finally:
            filling.cancel()


def _number(payload_base64: str) -> int | None:
    """The counter of a refused payload, where it can be read."""
    try:
        items = list(parse_payload(base64.b64decode(payload_base64)))
    except binascii.Error:
        return None
    n = items[0].metrics.get("n") if len(items) == 1 and isinstance(items[0], Reading) else None
    return n if isinstance(n, int) else None
