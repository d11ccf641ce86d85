"""`hub analytics normalizer`: the process that runs the TelemetryNormalizer."""

import logging
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from control_plane.analytics import normalizer_events, runner
from control_plane.analytics.event_time import Rules
from control_plane.analytics.job import Incoming, Output, State
from control_plane.analytics.job_config import JobConfig
from control_plane.analytics.normalizer import Normalizer, Outcome, unjudged
from control_plane.analytics.raw_message import read
from control_plane.analytics.refusal import instead_of
from control_plane.analytics.registry_view import RegistryView
from shared import config as configuration
from shared.config import setting
from shared.errors import HubError
from shared.events import configure_logging
from shared.fault import place_of
from shared.topics import Kafka
from shared.tracing import Tracing, open_tracing

NAME = "normalizer"


@dataclass(frozen=True, slots=True)
class NormalizerConfig(JobConfig):
    """`hub analytics normalizer`."""

    database_url: str | None = setting(
        "HUB_DATABASE_URL", "Postgres, asked before an unknown device is refused", default=None
    )
    skew_correct_ms: int = setting(
        "HUB_SKEW_CORRECT_MS", "a device clock's known offset beyond this is taken off its times", default=2_000
    )
    drift_ms: int = setting("HUB_CLOCK_DRIFT_MS", "an offset beyond this is flagged as drift", default=5_000)

    def problems(self) -> list[str]:
        """Rules that bound the values."""
        found = JobConfig.problems(self)
        if self.skew_correct_ms < 100:
            found.append("HUB_SKEW_CORRECT_MS: at least 100; less is the network's own delay")
        if self.drift_ms < self.skew_correct_ms:
            found.append("HUB_CLOCK_DRIFT_MS: at least HUB_SKEW_CORRECT_MS")
        return found


class NormalizerJob:
    """The normaliser as a stream job: counts, traces, and never lets one record stop the flow."""

    source = Kafka.RAW
    sinks = (Kafka.NORMALIZED, Kafka.REJECTED, Kafka.GAP, Kafka.CONDUCT)

    def __init__(self, registry: RegistryView, rules: Rules, tracing: Tracing) -> None:
        self._registry = registry
        self._tracing = tracing
        self._began_ns = 0
        self._ledgers = normalizer_events.Ledgers()
        self._normalizer = Normalizer(registry, rules, self._stage if tracing.enabled else None)

    def on_record(self, record: Incoming, state: State) -> Iterable[Output]:
        """What this raw record leads to. Raises Transient if the registry can no longer be trusted."""
        self._registry.check()
        self._began_ns = time.time_ns()
        try:
            outcome = self._normalizer.judge(record, state)
        except HubError:
            raise
        except Exception as error:  # noqa: BLE001 - whatever it is, its event tells where
            # Input that we fail to judge is refused like bad input, loudly; standing still would stop everybody.
            state.discard()
            normalizer_events.JudgingFailed(place_of(error), record.partition, record.offset).emit()
            outcome = self._give_up(record, state)
        normalizer_events.count(outcome)
        if outcome.header is not None and outcome.header.ledger:
            self._ledgers.hear(outcome.sender, outcome.header.ledger)
        return outcome.outputs

    def instead_of(self, record: Incoming, output: Output) -> Output | None:
        """A refusal with the beginning of what was too large."""
        return instead_of(read(record), output)

    def _give_up(self, record: Incoming, state: State) -> Outcome:
        try:
            return self._normalizer.give_up(record, state)
        except Exception as error:  # noqa: BLE001 - whatever it is, its event tells where
            # Then it is the sender's state that cannot be judged with: the refusal at least is written.
            state.discard()
            normalizer_events.JudgingFailed(place_of(error), record.partition, record.offset).emit()
            return unjudged(record)

    def _stage(self, traceparent: str) -> str | None:
        return self._tracing.stage("normalize", traceparent, self._began_ns, time.time_ns(), {})


def main(env: Mapping[str, str]) -> int:
    """Run until a signal; the exit status. Raises ConfigError."""
    config = configuration.load(NormalizerConfig, env)
    configure_logging(config.log_level)
    # While Kafka is away this library says so some forty times a second; the job itself ends and says it once.
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    tracing = open_tracing("hub-normalizer", env)
    registry = RegistryView(config.kafka_bootstrap, config.database_url)
    job = NormalizerJob(registry, Rules(config.skew_correct_ms, config.drift_ms), tracing)

    def catch_up() -> None:
        registry.start()
        registry.wait()

    try:
        return runner.run(NAME, config, job, before=catch_up, missing=registry.missing)
    finally:
        registry.close()
        tracing.close()
