"""`hub analytics detector`: the process that runs the AnomalyDetector."""

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import msgspec

from control_plane.analytics import runner
from control_plane.analytics.detector import Detector, Limits
from control_plane.analytics.detector_events import READINGS, AnomalyDetected, DetectionFailed, ReadingUnreadable
from control_plane.analytics.job import Incoming, Output, State, Writer, header
from control_plane.analytics.job_config import JobConfig
from control_plane.analytics.limits_view import LimitsView
from control_plane.analytics.pseudonym_key import read_pseudonym_key
from control_plane.analytics.records import EventType, decode_reading
from shared import config as configuration
from shared.config import Secret, setting
from shared.events import configure_logging
from shared.fault import place_of
from shared.pseudonym import pseudonym
from shared.topics import Kafka
from shared.tracing import Tracing, open_tracing

NAME = "detector"
SOURCE = "/analytics/detector"
_ANOMALY = Writer(Kafka.ANOMALY, EventType.ANOMALY, SOURCE)


@dataclass(frozen=True, slots=True)
class DetectorConfig(JobConfig):
    """`hub analytics detector`."""

    database_url: Secret = setting(
        "HUB_DATABASE_URL", "Postgres, which has the device types' limits", default=Secret()
    )
    pseudonym_key_file: Path | None = setting(
        "HUB_PSEUDONYM_KEY_FILE", "the pseudonyms' key; default pseudonym.key in HUB_DATA_DIR", default=None
    )

    def problems(self) -> list[str]:
        """Rules that bound the values."""
        found = JobConfig.problems(self)
        if not self.database_url:
            found.append("HUB_DATABASE_URL: missing (Postgres, which has the device types' limits)")
        return found


class LimitsSource(Protocol):
    """What the job must know of device types' limits; `LimitsView` is one."""

    def check(self) -> None:
        """Raises if what is known grows old for good."""
        ...

    def limits_of(self, device_type: str) -> Limits:
        """The type's limits as far as they are known; never waits."""
        ...


class DetectorJob:
    """The detector as a stream job: counts, traces, and never lets one record stop the flow."""

    source = Kafka.NORMALIZED
    sinks = (Kafka.ANOMALY,)

    def __init__(self, limits: LimitsSource, pseudonym_key: bytes, tracing: Tracing) -> None:
        self._limits = limits
        self._detector = Detector(limits.limits_of)
        self._key = pseudonym_key
        self._tracing = tracing

    def on_record(self, record: Incoming, state: State) -> Iterable[Output]:
        """The anomalies that one record of `normalized` begins. Raises what ended the view of the limits."""
        self._limits.check()
        if header(record, "ce_type") != EventType.READING:
            return ()
        began_ns = time.time_ns()
        try:
            reading = decode_reading(record.value)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            ReadingUnreadable(record.partition, record.offset, str(error)[:200]).emit()
            return ()
        try:
            found = self._detector.judge(reading, state)
        except Exception as error:  # noqa: BLE001 - whatever it is, its event tells where
            # The reading itself is safe in its topic; standing still would end detection for everybody.
            state.discard()
            DetectionFailed(record.partition, record.offset, place_of(error)).emit()
            return ()
        READINGS.inc()
        parent = header(record, "traceparent")
        if parent is not None and self._tracing.enabled:
            parent = self._tracing.stage("detect", parent, began_ns, time.time_ns(), {"anomalies": len(found)})
        outputs = []
        for anomaly, ce_id, _ in found:
            AnomalyDetected(
                pseudonym(self._key, anomaly.device_id),
                anomaly.metric,
                anomaly.severity.value,
                anomaly.source.value,
                anomaly.reason,
            ).emit()
            outputs.append(_ANOMALY(ce_id, anomaly.device_id, anomaly.ts, anomaly, parent))
        return outputs

    def instead_of(self, record: Incoming, output: Output) -> Output | None:
        """Nothing: what is written here has a bounded size, by the limits of a reading and of the rules."""
        del record, output
        return None


def main(env: Mapping[str, str]) -> int:
    """Run until a signal; the exit status. Raises ConfigError."""
    config = configuration.load(DetectorConfig, env)
    key = read_pseudonym_key(config.data_dir, config.pseudonym_key_file)
    configure_logging(config.log_level)
    tracing = open_tracing("hub-detector", env)
    limits = LimitsView(config.database_url)
    job = DetectorJob(limits, key, tracing)

    def know_limits() -> None:
        limits.start()
        limits.wait()

    try:
        return runner.run(NAME, config, job, before=know_limits, missing=limits.missing)
    finally:
        limits.close()
        tracing.close()
