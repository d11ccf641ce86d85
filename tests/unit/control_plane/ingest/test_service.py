"""What the process says while it waits. All else of it: tests/stack/ingest."""

import asyncio
from pathlib import Path
from types import SimpleNamespace

from control_plane.ingest import events, service
from control_plane.ingest.config import IngestConfig
from control_plane.ingest.service import Ingest
from control_plane.ingest.tail import Tail
from shared.backoff import Backoff
from shared.config import Secret
from shared.errors import Transient
from shared.tracing import NoTracing

CONFIG = IngestConfig(
    database_url=Secret("x"),
    kafka_bootstrap="h:1",
    mqtt_url="mqtt://h",
    secrets_file=Path("/nowhere"),
    data_dir=Path("/nowhere"),
)


async def test_kafka_away_at_the_start_is_said_once_and_so_is_its_return(monkeypatch):
    said = []
    for name in ("KafkaAway", "KafkaBack", "TailRead"):
        monkeypatch.setattr(getattr(events, name), "emit", lambda self: said.append(type(self).__name__))
    answers = [Transient("away"), Transient("away"), Transient("away"), Tail((0,), [b"x"])]

    async def read_tail(*_, **__):
        answer = answers.pop(0)
        if isinstance(answer, Transient):
            raise answer
        return answer

    monkeypatch.setattr(service, "read_tail", read_tail)
    monkeypatch.setattr(service, "_RETRY", Backoff(first_s=0.001, cap_s=0.001))
    ingest = Ingest(CONFIG, "me", NoTracing())
    ingest._keeper = SimpleNamespace(held=True)
    assert await ingest._tail(asyncio.Event()) == Tail((0,), [b"x"])
    assert said == ["KafkaAway", "KafkaBack", "TailRead"]
