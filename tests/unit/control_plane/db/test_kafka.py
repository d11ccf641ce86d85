"""Every topic of ours is wanted, each with the settings of its kind. Making them: tests/stack/test_migrations.py."""

import pytest

from control_plane.db.kafka import ensure_topics, wanted
from shared import limits
from shared.errors import Transient
from shared.topics import Kafka

TOPICS = {topic.name: topic for topic in wanted(partitions=4, replication=3, min_isr=2, flow_days=7, event_days=30)}


def test_all_topics_and_no_others() -> None:
    assert set(TOPICS) == {topic.value for topic in Kafka}
    assert {(topic.partitions, topic.replication) for topic in TOPICS.values()} == {(4, 3)}


def test_every_topic_takes_what_ingest_may_send() -> None:
    assert {topic.settings["max.message.bytes"] for topic in TOPICS.values()} == {str(limits.KAFKA_MESSAGE_BYTES)}
    assert {topic.settings["min.insync.replicas"] for topic in TOPICS.values()} == {"2"}


def test_only_the_registry_is_compacted() -> None:
    compacted = {name for name, topic in TOPICS.items() if topic.settings["cleanup.policy"] == "compact"}
    assert compacted == {Kafka.REGISTRY}
    assert "retention.ms" not in TOPICS[Kafka.REGISTRY].settings


def test_no_time_of_a_record_is_refused() -> None:
    """Kafka's default refuses what is an hour ahead of its clock, and a refused record would be cut."""
    for name in ("message.timestamp.before.max.ms", "message.timestamp.after.max.ms"):
        assert {topic.settings[name] for topic in TOPICS.values()} == {"9223372036854775807"}


def test_what_is_kept_of_raw_hangs_on_kafka_s_clock_alone() -> None:
    kinds = {name: topic.settings["message.timestamp.type"] for name, topic in TOPICS.items()}
    assert kinds.pop(Kafka.RAW.value) == "LogAppendTime"
    assert set(kinds.values()) == {"CreateTime"}


def test_retention() -> None:
    day = 86_400_000
    assert TOPICS[Kafka.RAW].settings["retention.ms"] == str(7 * day)
    assert TOPICS[Kafka.REJECTED].settings["retention.ms"] == str(30 * day)


async def test_nobody_listens_is_transient() -> None:
    with pytest.raises(Transient, match="Kafka does not answer"):
        await ensure_topics("127.0.0.1:1", list(TOPICS.values()))
