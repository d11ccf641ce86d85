"""One stream job a process: start, health, signals, end.

Promises: `run` returns 0 after SIGTERM or SIGINT, with all committed that was done; 1 when the job cannot go on
(Kafka lost, a bug), and then nothing half done is visible to a `read_committed` reader. Starting it again is the
supervisor's part. Must be called in the main thread, since Quix sets the signal handlers.
"""

import gc
import os
import signal
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import FrameType
from typing import Any

import msgspec

from control_plane.analytics import quix_job
from control_plane.analytics.job import StreamJob
from control_plane.analytics.job_config import JobConfig
from control_plane.analytics.job_events import LAG, HealthListening, JobFailed, JobLost, JobStarted, JobStopped
from shared.errors import HubError
from shared.fault import place_of
from shared.health import Beat, Health

_END_S = 20.0
"""How long closing may take before the process is ended by force (then nothing that was open is committed)."""
_STATS_FRESH_S = 10.0
_GIVE_UP_S = 30.0
"""Without a place in its group for so long a job ends itself: after a crash of Kafka librdkafka may wait for ever,
and a supervisor restarts what ends. Nothing half done is visible, as after any kill."""
_LOOK_S = 2.0
_HUNG_S = 60.0  # statistics come every two seconds, but not while one poll's records are worked off


class StopRequested(Exception):  # noqa: N818 - no error: somebody asked
    """A signal came before the job processed anything."""


class _Membership:
    """Whether this process has its place in the consumer group, from librdkafka's own statistics."""

    def __init__(self, job: str, source: str) -> None:
        self._job = job
        self._source = source
        self._steady_at = 0.0
        self._begun_at = time.monotonic()
        self.beat = Beat(_HUNG_S, begins_later=True)
        """Of the processing thread, from its first statistics on."""

    def on_stats(self, stats: Mapping[str, Any]) -> None:
        """Called in the processing thread: fresh statistics also say that this thread is alive."""
        self.beat.stamp()
        if stats.get("cgrp", {}).get("join_state") == "steady":
            self._steady_at = time.monotonic()
        for topic, found in stats.get("topics", {}).items():
            for partition, values in found.get("partitions", {}).items():
                lag = _lag(values)
                if partition != "-1" and lag is not None and topic == self._source:
                    LAG.labels(self._job, topic, partition).set(lag)

    def begin(self) -> None:
        """From here on it should have a place soon."""
        self._begun_at = time.monotonic()

    def lost_s(self) -> float:
        """Seconds since it last had its place, or since it began."""
        return time.monotonic() - max(self._steady_at, self._begun_at)

    def missing(self) -> list[str]:
        """Why this process does no work, if so."""
        if time.monotonic() - self._steady_at > _STATS_FRESH_S:
            return ["has no place in its consumer group, or does not poll Kafka"]
        return []


def _lag(partition: Mapping[str, Any]) -> int | None:
    """Records between what was handed to us and the last stable offset.

    librdkafka's own `consumer_lag` does not know of offsets that a transaction committed.
    """
    end = partition.get("ls_offset", -1)
    done = max(partition.get("app_offset", -1), partition.get("committed_offset", -1))
    return max(0, end - done) if end >= 0 and done >= 0 else None


def run(
    name: str,
    config: JobConfig,
    job: StreamJob,
    *,
    before: Callable[[], None] = lambda: None,
    missing: Callable[[], list[str]] = list,
) -> int:
    """Run `job` until a signal comes or it cannot go on; the exit status.

    `before` is called once health answers and before any record is read; it may wait, and a signal ends it by
    raising StopRequested in it. `missing` adds to what `/readyz` lacks; it is called in another thread.
    """
    membership = _Membership(name, job.source.value)
    apps: list[Any] = []
    over = threading.Event()

    def unready() -> list[str]:
        lacks = missing() + membership.missing()
        return [*lacks, "reads its state back"] if apps and quix_job.recovering(apps[0]) else lacks

    health = Health(config.health_host, config.health_port, unready, beat=membership.beat)
    try:
        HealthListening(name, health.port).emit()
        _announce(config.data_dir, name, config.instance, health.port)
        _stop_by_exception()
        before()
        app = quix_job.application(name, config, membership.on_stats)
        apps.append(app)
        quix_job.attach(app, job)
        _spare_the_collector()
        JobStarted(name, config.instance, job.source.value).emit()
        membership.begin()
        threading.Thread(target=_end_if_lost, args=(name, membership, over), daemon=True).start()
        app.run()
    except StopRequested:
        return 0
    except Exception as error:  # noqa: BLE001 - told, by its place where it is ours
        _force_end()
        JobFailed(name, _told(error)).emit()
        return 1
    finally:
        over.set()
        health.close()
    JobStopped(name).emit()
    return 0


def _end_if_lost(name: str, membership: _Membership, over: threading.Event) -> None:
    while not over.wait(_LOOK_S):
        lost_s = membership.lost_s()
        if lost_s > _GIVE_UP_S:
            JobLost(name, round(lost_s)).emit()
            os._exit(1)  # the thread that works hangs in a library: nothing else reaches it


def _told(error: Exception) -> str:
    if isinstance(error, HubError):
        return str(error)
    # What is ours to mend is shown by its place alone: its text may name devices and what they said.
    return repr(error)[:500] if _is_kafkas(error) else place_of(error)


def _is_kafkas(error: BaseException) -> bool:
    return type(error).__module__.split(".")[0] in ("confluent_kafka", "cimpl", "quixstreams")


def _stop_by_exception() -> None:
    def stop(number: int, frame: FrameType | None) -> None:
        del number, frame
        raise StopRequested

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)


def _spare_the_collector() -> None:
    # A record makes hundreds of small objects and no cycles; at the default threshold the collector takes a tenth.
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)


def _force_end() -> None:
    # librdkafka waits for brokers that may be gone for good; a supervisor waits for us.
    timer = threading.Timer(_END_S, os._exit, (1,))
    timer.daemon = True
    timer.start()


def _announce(data_dir: Path, name: str, instance: str, port: int) -> None:
    directory = data_dir / "run"
    directory.mkdir(parents=True, exist_ok=True)
    stem = name if instance == "0" else f"{name}-{instance}"
    target = directory / f"{stem}.json"
    fresh = target.with_suffix(f".{os.getpid()}")
    fresh.write_bytes(msgspec.json.encode({"pid": os.getpid(), "health_port": port}))
    fresh.replace(target)
