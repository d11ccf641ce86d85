"""The seams to Quix without Kafka; with it, they are part of every job's test in tests/stack."""

import pytest
import quixstreams
from confluent_kafka import KafkaError, KafkaException

from control_plane.analytics import quix_job
from control_plane.analytics.job import Incoming, Output
from control_plane.analytics.job_config import JobConfig
from control_plane.analytics.quix_job import _KeyState, _Produce
from shared.errors import Transient
from shared.topics import Kafka


class QuixState:
    def __init__(self):
        self.kept = {}

    def get_bytes(self, name):
        return self.kept.get(name)

    def set_bytes(self, name, value):
        self.kept[name] = value

    def delete(self, name):
        self.kept.pop(name, None)


def test_nothing_is_kept_before_the_record_is_done():
    quix = QuixState()
    state = _KeyState(quix)
    state.set(b"a", b"1")
    state.set(b"b", b"2")
    state.delete(b"b")
    assert (state.get(b"a"), state.get(b"b"), state.get(b"c")) == (b"1", None, None)
    assert quix.kept == {}
    state.keep()
    assert _KeyState(quix).get(b"a") == b"1"
    assert _KeyState(quix).get(b"b") is None


def test_what_is_discarded_is_not_kept():
    quix = QuixState()
    quix.kept[b"a"] = b"=0"
    state = _KeyState(quix)
    state.set(b"a", b"1")
    state.delete(b"b")
    state.discard()
    assert state.get(b"a") == b"0"
    state.set(b"c", b"2")
    state.keep()
    assert quix.kept == {b"a": b"=0", b"c": b"=2"}


def test_no_value_can_look_like_an_expiry_stamp():
    quix = QuixState()
    state = _KeyState(quix)
    state.set(b"a", (1_790_000_000_000).to_bytes(8, "big") + b"payload")
    state.keep()
    from quixstreams.state.rocksdb.transaction import _stamp_evidence_for

    assert _stamp_evidence_for(quix.kept[b"a"], 1_790_000_000_000) == "unstamped"
    assert _stamp_evidence_for(quix.kept[b"a"][1:], 1_790_000_000_000) == "stamped"  # without our mark it would


OUTPUTS = [Output(Kafka.GAP, b"k", b"%d" % n, [("a", b"b")]) for n in range(3)]


class Producer:
    def __init__(self, full=0, code=KafkaError.MSG_SIZE_TOO_LARGE):
        self.full = full
        self.code = code
        self.got = []
        self.polled = 0

    def produce(self, topic, value, key, *, headers, timestamp):
        if self.full:
            self.full -= 1
            raise BufferError
        if len(value) > 10:
            raise KafkaException(KafkaError(self.code))
        self.got.append((topic, value, key, headers, timestamp))

    def poll(self, _):
        self.polled += 1


RECORD = Incoming(Kafka.RAW, 0, 5, b"k", b"v", [], 7)


class Job:
    """Has `instead` for what is too large."""

    def __init__(self, instead=None):
        self.instead = instead
        self.asked = []

    def instead_of(self, record, output):
        self.asked.append((record, output))
        return self.instead


def produce(producer, job=None, outputs=OUTPUTS):
    class App:
        class _producer:  # noqa: N801 - Quix's own names
            class _producer:  # noqa: N801
                _producer = producer

    _Produce(App, job or Job())(RECORD, outputs)


def test_outputs_go_out_in_order_however_full_the_queue_is():
    producer = Producer(full=4)
    produce(producer)
    assert producer.got == [(Kafka.GAP, output.value, b"k", output.headers, 7) for output in OUTPUTS]
    assert producer.polled >= 1


LARGE = OUTPUTS[0]._replace(value=b"x" * 11)


def test_what_is_too_large_is_replaced_in_its_place():
    producer, job = Producer(), Job(OUTPUTS[1]._replace(value=b"cut"))
    produce(producer, job, [OUTPUTS[0], LARGE, OUTPUTS[2]])
    assert [value for _, value, *_ in producer.got] == [OUTPUTS[0].value, b"cut", OUTPUTS[2].value]
    assert job.asked == [(RECORD, LARGE)]


@pytest.mark.parametrize("instead", [None, LARGE])
def test_what_is_too_large_whatever_the_job_does_is_left_and_said(instead, caplog):
    producer = Producer()
    produce(producer, Job(instead), [LARGE, OUTPUTS[2]])
    assert [value for _, value, *_ in producer.got] == [OUTPUTS[2].value]
    assert "output_too_large" in caplog.text


def test_another_refusal_ends_the_job():
    with pytest.raises(KafkaException):
        produce(Producer(code=KafkaError._FATAL), Job(OUTPUTS[1]), [LARGE])


def test_a_queue_that_stays_full_ends_the_job(monkeypatch):
    monkeypatch.setattr(quix_job, "_QUEUE_FULL_S", 0.01)
    with pytest.raises(Transient):
        produce(Producer(full=10**9))


def test_the_crash_settings_that_were_measured(tmp_path, monkeypatch):
    monkeypatch.setattr(quix_job, "_cluster_id", lambda _: "cluster-1")
    config = JobConfig(kafka_bootstrap="127.0.0.1:9", data_dir=tmp_path, instance="7")
    made = quix_job.application("normalizer", config, lambda _: None).config
    assert made.exactly_once
    assert made.auto_offset_reset == "earliest"
    assert made.commit_interval == 0.05
    assert made.consumer_extra_config["session.timeout.ms"] == 6_000
    assert made.consumer_extra_config["heartbeat.interval.ms"] == 1_000
    assert made.consumer_extra_config["group.instance.id"] == "hub-normalizer-7"
    assert made.producer_extra_config["transactional.id"] == "hub-normalizer-7"
    assert made.producer_extra_config["transaction.timeout.ms"] == 5_000
    assert made.state_dir == tmp_path / "analytics" / "cluster-1" / "normalizer-7"


def test_an_address_where_nobody_answers_is_transient(monkeypatch):
    monkeypatch.setattr(quix_job, "ASK_KAFKA_S", 0.2)
    with pytest.raises(Transient):
        quix_job._cluster_id("127.0.0.1:9")


def test_the_version_whose_inner_parts_are_used():
    """`_Produce` and `recovering` reach into Quix: look at both when this fails, then raise the number."""
    assert quixstreams.__version__ == "3.28.1"
    assert {"_producer", "_state_manager"} <= set(quixstreams.Application.__init__.__code__.co_names)
