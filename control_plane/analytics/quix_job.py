"""A `StreamJob` on Quix Streams: the only file that knows Quix.

Promises: for each record of the source, in its partition's order, the job's state changes, outputs and the source's
offset are committed in one Kafka transaction; after any crash the record is done again from the state before it.
State, its changelog, recovery, transactions and rebalances are Quix's.

Three liberties, each because of a measurement or a trap (docs/adr/0070):
outputs go to Quix's own transactional producer directly, not through `to_topic` (33k against 135k records/s here);
every state value bears one byte of ours in front, so that Quix never takes a value for one with an expiry stamp;
the state directory bears the Kafka cluster's id, since state of another cluster is worse than none.
"""

import time
import warnings
from collections.abc import Callable, Iterable
from typing import Any

import msgspec
from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient

from control_plane.analytics.job import Incoming, Output, StreamJob
from control_plane.analytics.job_config import JobConfig
from control_plane.analytics.job_events import OutputTooLarge
from shared.errors import Transient
from shared.limits import KAFKA_MESSAGE_BYTES, KIB, MIB

with warnings.catch_warnings(record=True):
    # A library below Quix warns, when imported, of its own next version, whatever the filters: no news for our users.
    from quixstreams import Application, message_context
    from quixstreams.kafka import ConnectionConfig
    from quixstreams.models import TopicAdmin, TopicConfig, TopicManager
    from quixstreams.state.rocksdb import RocksDBOptions

ASK_KAFKA_S = 10.0
_QUEUE_FULL_S = 30.0
_MARK = b"="
_STATE_CACHE_BYTES = 64 * MIB
_LARGEST_OUTPUT_BYTES = KAFKA_MESSAGE_BYTES - 16 * KIB
"""Below what the topics take, by more than Kafka puts around a record: what is refused is refused here, while another
output can take its place, and never by the broker, which would undo the transaction again and again."""

StatsCallback = Callable[[dict[str, Any]], None]


class _Topics(TopicManager):
    """Changelog topics that are compacted soon, so that a cold start reads megabytes and not a week."""

    @classmethod
    def derive_topic_config(cls, topics: Any) -> TopicConfig:
        derived = super().derive_topic_config(topics)
        settings = {
            "segment.bytes": str(64 * MIB),
            "segment.ms": str(6 * 3_600_000),
            "min.cleanable.dirty.ratio": "0.2",
            "max.message.bytes": str(KAFKA_MESSAGE_BYTES),
        }
        return TopicConfig(derived.num_partitions, derived.replication_factor, derived.extra_config | settings)


class _KeyState:
    """The state of the present record's key; what is set is kept only when `keep` is called."""

    def __init__(self, quix: Any) -> None:
        self._quix = quix
        self._changes: dict[bytes, bytes | None] = {}

    def get(self, name: bytes) -> bytes | None:
        if name in self._changes:
            return self._changes[name]
        found: bytes | None = self._quix.get_bytes(name)
        return None if found is None else found[1:]

    def set(self, name: bytes, value: bytes) -> None:
        self._changes[name] = value

    def delete(self, name: bytes) -> None:
        self._changes[name] = None

    def discard(self) -> None:
        self._changes.clear()

    def keep(self) -> None:
        for name, value in self._changes.items():
            if value is None:
                self._quix.delete(name)
            else:
                self._quix.set_bytes(name, _MARK + value)


def application(name: str, config: JobConfig, stats: StatsCallback) -> Application:
    """Quix's application for the job `name`, with the crash settings that were measured.

    `stats` is called about every two seconds, in the processing thread, with librdkafka's statistics of the consumer.
    Raises Transient if Kafka does not answer.
    """
    identity = f"hub-{name}-{config.instance}"
    address = ConnectionConfig(bootstrap_servers=config.kafka_bootstrap)
    cluster = _cluster_id(config.kafka_bootstrap)
    return Application(
        address,
        consumer_group=f"hub-{name}",
        auto_offset_reset="earliest",
        processing_guarantee="exactly-once",
        commit_interval=config.commit_every_ms / 1_000,
        # An idle poll must not outlast the commit interval, or the last record of a burst waits for both.
        consumer_poll_timeout=config.commit_every_ms / 2_000,
        state_dir=config.data_dir / "analytics" / cluster / f"{name}-{config.instance}",
        rocksdb_options=RocksDBOptions(block_cache_size=_STATE_CACHE_BYTES, open_max_retries=20),
        topic_manager=_Topics(TopicAdmin(address), f"hub-{name}", timeout=ASK_KAFKA_S, create_timeout=30),
        request_timeout=ASK_KAFKA_S,
        broker_availability_timeout=15.0,
        loglevel=None,
        consumer_extra_config={
            "group.instance.id": identity,
            "session.timeout.ms": 6_000,
            "heartbeat.interval.ms": 1_000,
            "fetch.wait.max.ms": 10,
            "fetch.message.max.bytes": KAFKA_MESSAGE_BYTES,
            "queued.max.messages.kbytes": 64 * 1_024,
            "statistics.interval.ms": 2_000,
            "stats_cb": lambda text: stats(msgspec.json.decode(text)),
        },
        producer_extra_config={
            "transactional.id": identity,
            "transaction.timeout.ms": 5_000,
            "linger.ms": 5,
            # aiokafka, which our sinks and taps read with, knows lz4 and the like only with a further library.
            "compression.type": "gzip",
            "compression.level": 1,
            "message.max.bytes": _LARGEST_OUTPUT_BYTES,
            "queue.buffering.max.kbytes": 128 * 1_024,
        },
    )


def attach(app: Application, job: StreamJob) -> None:
    """Have `app` run `job`. Raises Transient if a topic is missing."""
    _require_topics(app, job)
    source = app.topic(job.source.value, value_deserializer="bytes", key_deserializer="bytes")
    produce = _Produce(app, job)
    topic = job.source.value

    def on_message(value: bytes | None, key: bytes | None, timestamp: int, headers: Any, quix_state: Any) -> None:
        place = message_context()
        record = Incoming(topic, place.partition, place.offset, key or b"", value or b"", headers or [], timestamp)
        state = _KeyState(quix_state)
        outputs = job.on_record(record, state)
        produce(record, outputs)
        state.keep()

    app.dataframe(source).update(on_message, stateful=True, metadata=True)


class _Produce:
    """Outputs into the open transaction, in order, with the record's own time.

    Without a delivery callback a failed record is still no loss: librdkafka then refuses the commit, the job ends.
    An output that is too large is refused before it is anywhere; what the job has instead of it is written.
    """

    def __init__(self, app: Application, job: StreamJob) -> None:
        self._internal = app._producer
        self._job = job

    def __call__(self, record: Incoming, outputs: Iterable[Output]) -> None:
        producer = self._internal._producer._producer  # Quix's own confluent_kafka.Producer, in its transaction
        produce, timestamp = producer.produce, record.timestamp_ms
        for output in outputs:
            try:
                produce(output.topic.value, output.value, output.key, headers=output.headers, timestamp=timestamp)
            except BufferError:
                self._wait_for_room(producer, output, timestamp)
            except KafkaException as error:
                if not _is_too_large(error):
                    raise
                self._shrink(producer, record, output)
        producer.poll(0)

    def _shrink(self, producer: Any, record: Incoming, output: Output) -> None:
        OutputTooLarge(output.topic.value, len(output.value), record.partition, record.offset).emit()
        instead = self._job.instead_of(record, output)
        if instead is None:
            return
        try:
            self._wait_for_room(producer, instead, record.timestamp_ms)
        except KafkaException as error:
            if not _is_too_large(error):
                raise
            # The record itself stands in its topic; to stop here would be to stop for good.
            OutputTooLarge(instead.topic.value, len(instead.value), record.partition, record.offset).emit()

    def _wait_for_room(self, producer: Any, output: Output, timestamp: int) -> None:
        deadline = time.monotonic() + _QUEUE_FULL_S
        while time.monotonic() < deadline:
            try:
                producer.produce(
                    output.topic.value, output.value, output.key, headers=output.headers, timestamp=timestamp
                )
            except BufferError:
                producer.poll(0.1)
                continue
            return
        raise Transient(f"Kafka took nothing for {_QUEUE_FULL_S:.0f} s")


def _is_too_large(error: KafkaException) -> bool:
    return bool(error.args[0].code() == KafkaError.MSG_SIZE_TOO_LARGE)


def recovering(app: Application) -> bool:
    """True while state is read back from the changelog."""
    return bool(app._state_manager.recovery_required)


def _cluster_id(bootstrap: str) -> str:
    try:
        found = AdminClient({"bootstrap.servers": bootstrap}).list_topics(timeout=ASK_KAFKA_S)
    except Exception as error:
        raise Transient(f"Kafka does not answer at {bootstrap}", hint="is it running?") from error
    return "".join(c if c.isalnum() or c in "_-" else "_" for c in found.cluster_id or "cluster")


def _require_topics(app: Application, job: StreamJob) -> None:
    # Quix would make a missing topic with its own defaults: one partition, one replica.
    wanted = [topic.value for topic in (job.source, *job.sinks)]
    found = TopicAdmin(app.config.broker_address).list_topics(timeout=ASK_KAFKA_S)
    missing = [topic for topic in wanted if topic not in found]
    if missing:
        raise Transient(f"Kafka has no topic {', '.join(missing)}", hint="run `hub migrate`")
