"""What a stream job's process says of itself, whatever the job."""

import logging
from dataclasses import dataclass

from prometheus_client import Gauge

from shared.events import Event

LAG = Gauge("kafka_consumer_lag", "Records of the input that wait to be read", ["job", "topic", "partition"])


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
class JobStopped(Event):
    """The job was asked to stop, committed what it had, and ended."""

    job: str


@dataclass(frozen=True, slots=True)
class JobFailed(Event):
    """The job ends with exit status 1; its supervisor starts it again. What was not committed is done again."""

    LEVEL = logging.ERROR
    job: str
    error: str
