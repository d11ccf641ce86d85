"""What a stream job's process says of itself, whatever the job."""

import logging
from dataclasses import dataclass

from prometheus_client import Counter, Gauge

from shared.events import Event

LAG = Gauge("kafka_consumer_lag", "Records of the input that wait to be read", ["job", "topic", "partition"])
_TOO_LARGE = Counter("stream_outputs_too_large", "Outputs over Kafka's size limit, replaced by a cut one", ["topic"])


@dataclass(frozen=True, slots=True)
class HealthListening(Event):
    """Where this process answers for its health."""

    service: str
    port: int


@dataclass(frozen=True, slots=True)
class JobStarted(Event):
    """The job joins its consumer group."""

    job: str
    instance: str
    source: str


@dataclass(frozen=True, slots=True)
class JobLost(Event):
    """A job had no place in its consumer group for so long that it ends itself, to be started again."""

    LEVEL = logging.ERROR
    job: str
    lost_s: int


@dataclass(frozen=True, slots=True)
class JobStopped(Event):
    """The job was asked to stop, committed what it had, and ended."""

    job: str


@dataclass(frozen=True, slots=True)
class JobFailed(Event):
    """The job ends with exit status 1; its supervisor starts it again. What was not committed is done again."""

    LEVEL = logging.ERROR
    job: str
    error: str


@dataclass(frozen=True, slots=True)
class OutputTooLarge(Event):
    """A bug of ours: what a record led to is larger than Kafka takes. The job says what is written instead."""

    LEVEL = logging.ERROR
    topic: str
    bytes: int
    partition: int
    offset: int

    def measure(self) -> None:
        _TOO_LARGE.labels(self.topic).inc()
