"""`hub analytics sink`: telemetry and anomalies from Kafka into Postgres, and the tables' time partitions."""

import asyncio
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from control_plane.analytics.announce import announce
from control_plane.analytics.job_events import HealthListening, JobStarted, JobStopped
from control_plane.analytics.partition_keeper import PartitionKeeper, Retention
from control_plane.analytics.sink import RowOf, Sink, SinkSettings
from control_plane.analytics.sink_rows import anomaly_row, telemetry_row
from control_plane.analytics.sink_store import SinkStore
from control_plane.db.connect import pool as open_pool
from shared.config import Secret, load, setting
from shared.events import configure_logging
from shared.health import Beat, Health
from shared.lifecycle import run
from shared.topics import Kafka
from shared.tracing import Tracing, open_tracing

NAME = "sink"
_SINKS: Mapping[str, tuple[Kafka, RowOf]] = {
    "telemetry": (Kafka.NORMALIZED, telemetry_row),
    "anomalies": (Kafka.ANOMALY, anomaly_row),
}


@dataclass(frozen=True, slots=True)
class SinkConfig:
    """What `hub analytics sink` reads."""

    database_url: Secret = setting("HUB_DATABASE_URL", "postgresql://user:password@host:port/database")
    kafka_bootstrap: str = setting("HUB_KAFKA_BOOTSTRAP", "Kafka, host:port")
    data_dir: Path = setting("HUB_DATA_DIR", "where the hub's processes keep what is theirs")
    instance: str = setting(
        "HUB_ANALYTICS_INSTANCE", "this process's name among those of its job, kept over restarts", default="0"
    )
    batch_rows: int = setting("HUB_SINK_BATCH_ROWS", "the most rows of one transaction", default=5_000)
    linger_ms: int = setting(
        "HUB_SINK_LINGER_MS", "the least time between two transactions that are not full", default=200
    )
    telemetry_days: int = setting("HUB_TELEMETRY_DAYS", "days that telemetry is kept in Postgres", default=30)
    anomaly_days: int = setting("HUB_ANOMALY_DAYS", "days that anomalies are kept in Postgres", default=365)
    health_host: str = setting("HUB_HEALTH_HOST", "address of /metrics, /healthz and /readyz", default="127.0.0.1")
    health_port: int = setting("HUB_HEALTH_PORT", "its port; 0 takes a free one", default=0)
    log_level: str = setting("HUB_LOG_LEVEL", "DEBUG, INFO, WARNING or ERROR", default="INFO")

    def problems(self) -> list[str]:
        """Rules that bound the values."""
        found = []
        if not 1 <= self.batch_rows <= 100_000:
            found.append("HUB_SINK_BATCH_ROWS: 1 to 100000")
        if not 0 <= self.linger_ms <= 10_000:
            found.append("HUB_SINK_LINGER_MS: 0 to 10000")
        if self.telemetry_days < 1:
            found.append("HUB_TELEMETRY_DAYS: is not at least 1")
        if self.anomaly_days < 1:
            found.append("HUB_ANOMALY_DAYS: is not at least 1")
        return found


def main(env: Mapping[str, str], *, start_over: bool = False) -> int:
    """Run both sinks until a signal comes. `start_over`: read logs anew that end before what was stored of them."""
    config = load(SinkConfig, env)
    configure_logging(config.log_level)
    # While Kafka is away this library says so some forty times a second; the sinks say it once.
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    tracing = open_tracing("hub-sink", env)
    beat = Beat()
    try:
        # The grace covers one statement's time-out: a batch that is on its way is waited for.
        serve = partial(_serve, config, tracing, beat, start_over=start_over)
        return run({NAME: serve}, grace_s=12.0, beat=beat.stamp)
    finally:
        tracing.close()


async def _serve(
    config: SinkConfig, tracing: Tracing, beat: Beat, stopping: asyncio.Event, *, start_over: bool
) -> None:
    pool = await open_pool(config.database_url, size=2 * len(_SINKS), application="hub sink")
    keeper = PartitionKeeper(pool, Retention(config.telemetry_days, config.anomaly_days))
    sinks = [
        Sink(
            SinkSettings(
                name=name,
                topic=topic,
                bootstrap=config.kafka_bootstrap,
                member=f"hub-sink-{name}-{config.instance}",
                batch_rows=config.batch_rows,
                linger_ms=config.linger_ms,
                start_over=start_over,
            ),
            SinkStore(pool, name, topic.value),
            row_of,
            keeper.keep,
            tracing,
        )
        for name, (topic, row_of) in _SINKS.items()
    ]

    def missing() -> list[str]:
        lacks = [] if keeper.ready else ["the time partitions are not in order yet"]
        return lacks + [lack for sink in sinks for lack in sink.missing()]

    health = Health(config.health_host, config.health_port, missing, beat=beat)
    try:
        HealthListening(NAME, health.port).emit()
        announce(config.data_dir, NAME if config.instance == "0" else f"{NAME}-{config.instance}", health.port)
        JobStarted(NAME, config.instance, ", ".join(topic.value for topic, _ in _SINKS.values())).emit()
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(keeper.serve(stopping))
                for sink in sinks:
                    tasks.create_task(sink.serve(stopping))
        except ExceptionGroup as group:
            raise group.exceptions[0] from group
    finally:
        health.close()
        await pool.close()
    JobStopped(NAME).emit()
