"""What a stream job is, seen without Kafka. PURE.

A job judges one record at a time: it gets the record and the state that belongs to the record's key, changes that
state, and answers with what is to be written. `control_plane.analytics.runner` makes state, outputs and the input's
offset one transaction, so a job needs no thought for crashes: what it did for a record happened once or not at all.
"""

from collections.abc import Iterable, MutableMapping
from typing import NamedTuple, Protocol

from control_plane.analytics.records import AnalyticsRecord, EventType, encode
from shared import envelope
from shared.topics import Kafka

Headers = list[tuple[str, bytes]]


class Incoming(NamedTuple):
    """One record as Kafka gave it. `timestamp_ms` is the Kafka timestamp."""

    topic: str
    partition: int
    offset: int
    key: bytes
    value: bytes
    headers: Headers
    timestamp_ms: int


class Output(NamedTuple):
    """One record to write."""

    topic: Kafka
    key: bytes
    value: bytes
    headers: Headers


class State(Protocol):
    """The state of one key (of the incoming record), bytes by name.

    Keep a value small: each one that is set goes to the changelog topic at every commit. Nothing set during a
    record is kept if the job raises.
    """

    def get(self, name: bytes) -> bytes | None:
        """The value, or None."""
        ...

    def set(self, name: bytes, value: bytes) -> None:
        """Keep a value."""
        ...

    def delete(self, name: bytes) -> None:
        """Forget a value; no matter if there is none."""
        ...

    def discard(self) -> None:
        """Undo what this record set and deleted: for a job that gives the record up and goes on."""
        ...


class StreamJob(Protocol):
    """One step of the stream. `source` and all of `sinks` must exist."""

    @property
    def source(self) -> Kafka:
        """The topic that is read."""
        ...

    @property
    def sinks(self) -> tuple[Kafka, ...]:
        """The topics that are written."""
        ...

    def on_record(self, record: Incoming, state: State) -> Iterable[Output]:
        """What this record leads to, in order."""
        ...

    def instead_of(self, record: Incoming, output: Output) -> Output | None:
        """What is written in the place of an output that is larger than Kafka takes; None: nothing.

        One record must not end the job: it would be read again, and nobody's would be read after it.
        """
        ...


class MemoryState:
    """A `State` in a dictionary, for tests and for trying a job by hand. `keep` ends a record."""

    def __init__(self, values: MutableMapping[bytes, bytes] | None = None) -> None:
        self.values: MutableMapping[bytes, bytes] = {} if values is None else values
        self._before: dict[bytes, bytes | None] = {}

    def get(self, name: bytes) -> bytes | None:
        return self.values.get(name)

    def set(self, name: bytes, value: bytes) -> None:
        self._before.setdefault(name, self.values.get(name))
        self.values[name] = value

    def delete(self, name: bytes) -> None:
        self._before.setdefault(name, self.values.get(name))
        self.values.pop(name, None)

    def keep(self) -> None:
        self._before.clear()

    def discard(self) -> None:
        """Back to what was kept last."""
        for name, value in self._before.items():
            if value is None:
                self.values.pop(name, None)
            else:
                self.values[name] = value
        self._before.clear()


_SPEC = ("ce_specversion", b"1.0")
_MEDIA = ("content-type", envelope.JSON.encode())


class Writer:
    """Puts records of one type into their envelope.

    The headers are those of `shared.envelope.headers`, from constants, because this runs once per reading.
    """

    def __init__(self, topic: Kafka, event_type: EventType, source: str) -> None:
        self._topic = topic
        self._source = ("ce_source", source.encode())
        self._type = ("ce_type", event_type.encode())
        self._schema = ("ce_dataschema", envelope.dataschema(event_type).encode())

    def __call__(
        self,
        ce_id: str,
        subject: str,
        time: str,
        record: AnalyticsRecord,
        traceparent: str | None = None,
        key: str | None = None,
    ) -> Output:
        """The record to write, keyed by `key` (the subject if None). `time` is RFC 3339 text."""
        named = subject.encode()
        headers = [
            _SPEC,
            ("ce_id", ce_id.encode()),
            self._source,
            self._type,
            ("ce_time", time.encode()),
            ("ce_subject", named),
            _MEDIA,
            self._schema,
        ]
        if traceparent is not None:
            headers.append(("traceparent", traceparent.encode()))
        return Output(self._topic, named if key is None else key.encode(), encode(record), headers)


def output(
    topic: Kafka,
    event_type: EventType,
    *,
    source: str,
    ce_id: str,
    subject: str,
    time: str,
    record: AnalyticsRecord,
    traceparent: str | None = None,
    key: str | None = None,
) -> Output:
    """One record in its envelope; a `Writer` does it faster for many."""
    return Writer(topic, event_type, source)(ce_id, subject, time, record, traceparent, key)


def header(record: Incoming, name: str) -> str | None:
    """A header's text, the last of equal names; None if there is none."""
    for found, value in reversed(record.headers):
        if found == name:
            return None if value is None else value.decode("utf-8", "replace")
    return None
