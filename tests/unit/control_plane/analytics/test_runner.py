"""The runner without Kafka; with it, it is part of every job's test in tests/stack."""

import gc
import json
import signal
import threading
import time

import pytest

from control_plane.analytics import quix_job, runner
from control_plane.analytics.job_config import JobConfig
from control_plane.analytics.runner import StopRequested, _lag, _Membership
from shared.topics import Kafka


class Job:
    source = Kafka.RAW
    sinks = (Kafka.GAP,)

    def on_record(self, record, state):
        return []

    def instead_of(self, record, output):
        return None


@pytest.fixture
def config(tmp_path):
    return JobConfig(kafka_bootstrap="127.0.0.1:9", data_dir=tmp_path)


@pytest.fixture(autouse=True)
def as_it_was():
    """Signal handlers and the collector's thresholds belong to the process."""
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    threshold = gc.get_threshold()
    yield
    for number, handler in handlers.items():
        signal.signal(number, handler)
    gc.unfreeze()
    gc.set_threshold(*threshold)


def test_where_kafka_is_away_the_status_is_one(config, monkeypatch):
    monkeypatch.setattr(quix_job, "ASK_KAFKA_S", 0.2)
    asked = []
    monkeypatch.setattr(runner, "_force_end", lambda: asked.append(True))
    assert runner.run("job", config, Job()) == 1
    assert asked  # and what hangs at the end will not hang for ever


def test_a_signal_while_it_waits_ends_it_in_order(config):
    def before():
        run = json.loads((config.data_dir / "run" / "job.json").read_text())
        assert run["health_port"] > 0
        signal.raise_signal(signal.SIGTERM)
        raise AssertionError("the signal did not end the waiting")

    assert runner.run("job", config, Job(), before=before) == 0


def test_our_own_mistake_ends_it_too_and_says_where_but_not_with_what(config, monkeypatch, caplog):
    monkeypatch.setattr(runner, "_force_end", lambda: None)

    def before():
        raise KeyError("dev-1 and what it said")

    assert runner.run("job", config, Job(), before=before) == 1
    (failed,) = (record for record in caplog.records if record.message == "job_failed")
    assert failed.event_fields["error"].startswith("KeyError at analytics/test_runner.py:")
    assert "dev-1" not in caplog.text + str(failed.__dict__)


def test_a_second_instance_has_a_file_of_its_own(config):
    def before():
        raise StopRequested

    second = JobConfig(kafka_bootstrap="127.0.0.1:9", data_dir=config.data_dir, instance="b")
    assert runner.run("job", second, Job(), before=before) == 0
    assert [path.name for path in (config.data_dir / "run").iterdir()] == ["job-b.json"]


@pytest.mark.parametrize(
    ("partition", "lag"),
    [
        ({"ls_offset": 10, "app_offset": 4, "committed_offset": -1001}, 6),
        ({"ls_offset": 10, "app_offset": -1001, "committed_offset": 7}, 3),
        ({"ls_offset": 10, "app_offset": 12}, 0),
        ({"ls_offset": -1, "app_offset": 12}, None),
        ({"ls_offset": 5, "app_offset": -1001, "committed_offset": -1001}, None),
        ({}, None),
    ],
)
def test_the_lag_counts_from_what_was_handed_over(partition, lag):
    assert _lag(partition) == lag


def test_a_place_in_the_group_must_be_steady_and_fresh(monkeypatch):
    membership = _Membership("job", Kafka.RAW)
    assert membership.missing()
    membership.on_stats({"cgrp": {"join_state": "wait-join"}})
    assert membership.missing()
    membership.on_stats({"cgrp": {"join_state": "steady"}})
    assert membership.missing() == []
    later = time.monotonic() + 11
    monkeypatch.setattr(runner.time, "monotonic", lambda: later)
    assert membership.missing()


def test_a_job_that_lost_its_place_for_long_ends_itself(monkeypatch):
    """As after a crash of Kafka in which librdkafka waits for ever: seen once in a hundred kills."""
    over = threading.Event()
    ended = []

    def end(status):
        ended.append(status)
        over.set()

    monkeypatch.setattr(runner.os, "_exit", end)
    monkeypatch.setattr(runner, "_LOOK_S", 0.001)
    membership = runner._Membership("normalizer", "raw")
    membership.on_stats({"cgrp": {"join_state": "steady"}})
    assert membership.lost_s() < runner._GIVE_UP_S
    membership._steady_at -= runner._GIVE_UP_S + 1
    membership.begin()
    assert membership.lost_s() < runner._GIVE_UP_S, "it counts from where it began"
    membership._begun_at -= runner._GIVE_UP_S + 1
    runner._end_if_lost("normalizer", membership, over)
    assert ended == [1]
