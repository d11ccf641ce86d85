import pytest

from control_plane.analytics.event_time import Rules
from control_plane.analytics.job import MemoryState
from control_plane.analytics.normalizer_job import NormalizerConfig, NormalizerJob
from shared import config as configuration
from shared.config import ConfigError
from shared.errors import Reason, Transient
from shared.topics import Kafka
from shared.tracing import NoTracing
from tests.unit.control_plane.analytics.raw_kit import (
    DictRegistry,
    batched,
    direct,
    gateway,
    house,
    read_back,
    reading,
)

LEAST = {"HUB_KAFKA_BOOTSTRAP": "127.0.0.1:9", "HUB_DATA_DIR": "/nowhere"}


class Registry(DictRegistry):
    failure = None

    def check(self):
        if self.failure is not None:
            raise self.failure


def job(registry=None, tracing=None):
    found = house()
    made = Registry()
    made.views = found.views
    return NormalizerJob(registry or made, Rules(), tracing or NoTracing())


def test_what_it_reads_and_writes():
    assert job().source == Kafka.RAW
    assert set(job().sinks) == {Kafka.NORMALIZED, Kafka.REJECTED, Kafka.GAP}
    outputs = [read_back(output) for output in job().on_record(batched([reading()]), MemoryState())]
    assert [output.topic for output in outputs] == [Kafka.NORMALIZED]


def test_a_record_that_we_fail_to_judge_is_refused_and_the_flow_goes_on():
    class Buggy(Registry):
        def get(self, device_id):
            raise ZeroDivisionError(device_id)

    registry = Buggy(gateway("gw"))
    failing = job(registry)
    outputs = [read_back(output) for output in failing.on_record(direct({"ts": 1}), MemoryState())]
    assert [output.data.reason for output in outputs] == [Reason.UNJUDGED]


def test_a_registry_that_ended_ends_the_job():
    failing = job()
    failing._registry.failure = Transient("gone")
    with pytest.raises(Transient):
        failing.on_record(direct({"ts": 1}), MemoryState())


def test_a_stage_is_recorded_where_traces_are_collected():
    parent = "00-" + "1" * 32 + "-" + "1" * 16 + "-01"
    stages = []

    class Collecting(NoTracing):
        enabled = True

        def stage(self, name, parent, start_ns, end_ns, attributes):
            stages.append((name, parent, 0 < start_ns <= end_ns, dict(attributes)))
            return parent.replace("1" * 16, "2" * 16)

    (output,) = job(tracing=Collecting()).on_record(direct({"ts": 1}, traceparent=parent), MemoryState())
    assert stages == [("normalize", parent, True, {})]
    assert dict(output.headers)["traceparent"] == parent.replace("1" * 16, "2" * 16).encode()


def test_its_settings():
    made = configuration.load(NormalizerConfig, LEAST)
    assert (made.database_url, made.skew_correct_ms, made.drift_ms, made.commit_every_ms) == (None, 2_000, 5_000, 50)
    with pytest.raises(ConfigError) as error:
        configuration.load(
            NormalizerConfig,
            LEAST | {"HUB_SKEW_CORRECT_MS": "50", "HUB_CLOCK_DRIFT_MS": "10", "HUB_ANALYTICS_INSTANCE": "a b"},
        )
    assert len(error.value.mistakes) == 3
