"""The Kafka topics: made if missing, their settings brought in line, their partitions never.

A raised partition count would send a device's later records to another partition than its earlier ones, so a
difference is reported and left alone. Settings that an operator added to a topic stay.

No time of a record is refused (Kafka's default refuses what is an hour ahead): a clock that is wrong costs a record
its true time, never the record. `raw` bears Kafka's own time, so that its retention does not hang on ingest's clock
either; when a message was received is in its header.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import KafkaConnectionError, KafkaError, TopicAlreadyExistsError, for_code

from shared.errors import Permanent, Transient
from shared.limits import KAFKA_MESSAGE_BYTES
from shared.topics import COMPACTED, Kafka

_DAY_MS = 86_400_000
_DYNAMIC = 1  # DescribeConfigs: the source of a setting made on the topic itself
_TIMEOUT_MS = 10_000
_ANY_TIME_MS = str(2**63 - 1)
_FLOW = frozenset({Kafka.RAW, Kafka.NORMALIZED})
"""Every reading passes these; the others hold what is rare."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """One topic as it should be."""

    name: str
    partitions: int
    replication: int
    settings: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Report:
    """What was done: topics created, settings changed, and partition counts that differ and were left."""

    created: list[str] = field(default_factory=list)
    changed: list[str] = field(default_factory=list)
    left: list[str] = field(default_factory=list)


def wanted(partitions: int, replication: int, min_isr: int, flow_days: int, event_days: int) -> list[Wanted]:
    """All of our topics. `flow_days`: how long raw and normalized are kept; `event_days`: the others."""
    found = []
    for topic in Kafka:
        settings = {
            "max.message.bytes": str(KAFKA_MESSAGE_BYTES),
            "min.insync.replicas": str(min_isr),
            "message.timestamp.before.max.ms": _ANY_TIME_MS,
            "message.timestamp.after.max.ms": _ANY_TIME_MS,
            "message.timestamp.type": "LogAppendTime" if topic is Kafka.RAW else "CreateTime",
        }
        if topic in COMPACTED:
            settings |= {
                "cleanup.policy": "compact",
                "segment.ms": str(_DAY_MS),
                "delete.retention.ms": str(7 * _DAY_MS),  # a reader away for longer reads all anew
            }
        else:
            days = flow_days if topic in _FLOW else event_days
            settings |= {"cleanup.policy": "delete", "retention.ms": str(days * _DAY_MS)}
        found.append(Wanted(topic.value, partitions, replication, settings))
    return found


async def ensure_topics(bootstrap: str, topics: list[Wanted]) -> Report:
    """Make and adjust `topics`. Raises Transient if Kafka does not answer, Permanent if it refuses."""
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap, request_timeout_ms=_TIMEOUT_MS, client_id="_migrate")
    try:
        try:
            await admin.start()
            return await _ensure(admin, topics)
        finally:
            await admin.close()
    except (KafkaConnectionError, OSError, TimeoutError) as error:
        raise _away(error) from error
    except KafkaError as error:
        if error.retriable:
            raise _away(error) from error
        raise Permanent(f"Kafka refused: {error}") from error


async def _ensure(admin: Any, topics: list[Wanted]) -> Report:
    report = Report()
    present = {found["topic"]: found for found in await admin.describe_topics()}
    missing = [topic for topic in topics if topic.name not in present]
    await _create(admin, missing, report)
    for topic in topics:
        if topic.name not in present:
            continue
        count = len(present[topic.name]["partitions"])
        if count != topic.partitions:
            report.left.append(f"{topic.name} has {count} partitions, not {topic.partitions}")
        await _adjust(admin, topic, report)
    return report


async def _create(admin: Any, missing: list[Wanted], report: Report) -> None:
    if not missing:
        return
    fresh = [
        NewTopic(topic.name, topic.partitions, topic.replication, topic_configs=dict(topic.settings))
        for topic in missing
    ]
    response = await admin.create_topics(fresh)
    for name, code, *_ in response.topic_errors:
        error = for_code(code)
        if error is TopicAlreadyExistsError:  # another migrator was quicker
            continue
        if code:
            raise error(f"creating {name}")
        report.created.append(name)


async def _adjust(admin: Any, topic: Wanted, report: Report) -> None:
    own = await _own_settings(admin, topic.name)
    differing = {name: value for name, value in topic.settings.items() if own.get(name) != value}
    if not differing:
        return
    # AlterConfigs replaces all of a topic's own settings: what others set is said again.
    resource = ConfigResource(ConfigResourceType.TOPIC, topic.name, configs=own | dict(topic.settings))
    for response in await admin.alter_configs([resource]):
        for code, message, *_ in response.resources:
            if code:
                raise for_code(code)(message or topic.name)
    report.changed.extend(
        f"{topic.name}: {name} {own.get(name, 'unset')} -> {value}" for name, value in sorted(differing.items())
    )


async def _own_settings(admin: Any, name: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for response in await admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, name)]):
        for code, message, _kind, _name, entries in response.resources:
            if code:
                raise for_code(code)(message or name)
            found |= {entry[0]: entry[1] for entry in entries if entry[3] == _DYNAMIC}
    return found


def _away(error: BaseException) -> Transient:
    words = str(error) or type(error).__name__
    return Transient(f"Kafka does not answer ({words})", hint="is the server of HUB_KAFKA_BOOTSTRAP up?")
