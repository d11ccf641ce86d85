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
    EPOCH,
    DictRegistry,
    batched,
    direct,
    gateway,
    house,
    read_back,
    reading,
    replay_of,
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
    assert set(job().sinks) == {Kafka.NORMALIZED, Kafka.REJECTED, Kafka.GAP, Kafka.CONDUCT}
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


class FailsOnce(Registry):
    """Answers as the house does, but for one time in which a bug of ours comes up."""

    failing = False

    def get(self, device_id):
        if self.failing:
            raise ZeroDivisionError(device_id)
        return super().get(device_id)


def kept(made, record, state):
    """What a record leads to when all goes as it does with Kafka: the state is kept with it."""
    outputs = [read_back(output) for output in made.on_record(record, state)]
    state.keep()
    return outputs


def test_a_batch_that_we_fail_to_judge_still_tells_what_is_lost_and_is_no_gap_itself():
    registry, state = FailsOnce(), MemoryState()
    registry.views = house().views
    made = job(registry)
    kept(made, batched([reading()]), state)
    registry.failing = True
    gap, refused = kept(made, batched([reading()], number=5, floor=4), state)
    assert (gap.data.ranges, refused.data.reason) == (((2, 3),), Reason.UNJUDGED)
    assert (refused.data.origin.number, refused.id) == (5, f"gw:{EPOCH}:5")
    registry.failing = False
    assert kept(made, batched([reading()], number=5, floor=4), state) == []  # a repeat
    (again,) = kept(made, replay_of(refused), state)
    assert (again.topic, again.data.device_id) == (Kafka.NORMALIZED, "dev-1")
    (ordinary,) = kept(made, batched([reading()], number=6, floor=4), state)
    assert ordinary.topic == Kafka.NORMALIZED


def test_of_what_we_gave_up_nothing_is_left_in_the_state(monkeypatch):
    made, state = job(), MemoryState()
    kept(made, direct({"ts": 1}), state)
    before = dict(state.values)

    def half_done(record, state):
        state.set(b"x", b"half")
        state.delete(next(iter(before)))
        raise ZeroDivisionError

    monkeypatch.setattr(made._normalizer, "judge", half_done)
    assert [letter.data.reason for letter in kept(made, direct({"ts": 2}), state)] == [Reason.UNJUDGED]
    assert state.values == before


def test_a_state_that_cannot_be_read_costs_the_record_and_not_the_flow():
    made, state = job(), MemoryState({b"g": b"\xff no msgpack"})
    assert [letter.data.reason for letter in kept(made, batched([reading()]), state)] == [Reason.UNJUDGED]
    assert state.values == {b"g": b"\xff no msgpack"}


def test_the_log_of_a_bug_names_neither_device_nor_payload(caplog):
    class Buggy(Registry):
        def get(self, device_id):
            raise KeyError(device_id)

    job(Buggy()).on_record(direct({"ts": 1, "secret": "xyzzy"}), MemoryState())
    fields = [record.event_fields for record in caplog.records]
    assert any("KeyError at" in str(field) for field in fields)
    assert "solo" not in str(fields) + caplog.text
    assert "xyzzy" not in str(fields) + caplog.text


def test_instead_of_what_is_too_large_there_is_a_refusal():
    made = job()
    output, _ = made.on_record(direct({"ts": 1}), MemoryState())
    letter = read_back(made.instead_of(direct({"ts": 1}), output))
    assert (letter.topic, letter.data.reason, letter.id) == (
        Kafka.REJECTED,
        Reason.TOO_LARGE,
        dict(output.headers)["ce_id"].decode(),
    )


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

    output, _ = job(tracing=Collecting()).on_record(direct({"ts": 1}, traceparent=parent), MemoryState())
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
