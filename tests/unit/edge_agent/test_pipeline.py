import hashlib
import json

from hypothesis import given
from hypothesis import strategies as st

from edge_agent.pipeline import LATE_MS, Pipeline, Stamp
from edge_agent.row import Row, RowClass
from edge_agent.skew import SkewBook
from shared import limits
from shared.batch import BytesRecord, ClockQuality, ReadingRecord, Record, decode_record
from shared.errors import Rejected
from shared.reading import Verdict

NOW = 1_790_000_000_000
STAMP = Stamp(NOW, 5_000, "boot", ClockQuality.UNSYNCED)


class Scores:
    """Takes down what it was asked; says of a value above 100 that it is odd."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str, float, float]] = []

    def score(self, device_id: str, metric: str, at_s: float, value: float) -> Verdict | None:
        self.asked.append((device_id, metric, at_s, value))
        if value > 1e300:
            raise OverflowError
        return Verdict(value, metric, "odd", 20.0) if value > 100 else None


def run(payload: object, *, pipeline: Pipeline | None = None, fresh: bool = True) -> list[Row]:
    pipeline = pipeline or Pipeline(SkewBook())
    data = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
    message = pipeline.read("dev-1", data, STAMP, fresh=fresh)
    pipeline.score(message)
    return pipeline.rows(message, "00-" + "a" * 32 + "-" + "b" * 16 + "-01")


def record(row: Row) -> Record:
    decoded = decode_record(row.record)
    assert not isinstance(decoded, Rejected)
    return decoded


def known_skew(offset: int) -> SkewBook:
    book = SkewBook()
    for number in range(10):
        receive = NOW - 10_000 + number * 1_000
        book.observe("dev-1", receive + offset, receive)
    return book


def test_a_reading_is_kept_as_it_was_sent() -> None:
    pipeline = Pipeline(known_skew(250))
    (row,) = run(
        {"ts": NOW + 250, "n": 7, "temperature": 21.5, "on": True, "status": "OK", "seq": 9}, pipeline=pipeline
    )
    assert (row.cls, row.wall_ms, row.boot_ms, row.boot_id) == (RowClass.TELEMETRY, NOW, 5_000, "boot")
    assert row.clock is ClockQuality.UNSYNCED
    assert record(row) == ReadingRecord(
        device="dev-1",
        at_ms=NOW,
        ts_raw=NOW + 250,
        ts_ms=NOW + 250,
        metrics={"n": 7, "temperature": 21.5, "on": True},
        status="OK",
        seq=9,
        clock=ClockQuality.UNSYNCED,
        skew_ms=250,
        score=None,
        traceparent="00-" + "a" * 32 + "-" + "b" * 16 + "-01",
    )


def test_an_implausible_time_is_kept_and_its_skew_left_open() -> None:
    pipeline = Pipeline(known_skew(0))
    (row,) = run({"ts": "1970-01-01T00:00:05Z", "temperature": 1.0}, pipeline=pipeline)
    kept = record(row)
    assert isinstance(kept, ReadingRecord)
    assert (kept.ts_raw, kept.ts_ms, kept.skew_ms) == ("1970-01-01T00:00:05Z", 5_000, None)


def test_one_bad_object_leaves_its_neighbours_alone() -> None:
    good = {"ts": NOW, "temperature": 1.0}
    rows = run(b"[" + json.dumps(good).encode() + b', {"temperature": 2}, ' + json.dumps(good).encode() + b"]")
    first, second, third = map(record, rows)
    assert isinstance(first, ReadingRecord)
    assert isinstance(third, ReadingRecord)
    assert second == BytesRecord(
        "dev-1",
        NOW,
        b'{"temperature": 2}',
        18,
        hashlib.sha256(b'{"temperature": 2}').hexdigest(),
        "00-" + "a" * 32 + "-" + "b" * 16 + "-01",
    )


def test_what_is_too_large_keeps_its_beginning_its_length_and_its_digest() -> None:
    payload = b'{"ts": 1, "x": 1' + b" " * limits.PAYLOAD_BYTES + b"}"
    (row,) = run(payload)
    kept = record(row)
    assert isinstance(kept, BytesRecord)
    assert kept.payload == payload[: limits.KEPT_OF_OVERSIZED_BYTES]
    assert (kept.length, kept.sha256) == (len(payload), hashlib.sha256(payload).hexdigest())


def test_a_large_array_is_read_whole() -> None:
    readings = [{"ts": NOW + number, "temperature": 1.0, "pad": "x" * 150} for number in range(1_000)]
    rows = run(readings)
    assert len(rows) == 1_000
    assert all(isinstance(record(row), ReadingRecord) for row in rows)


def test_an_empty_array_is_a_row_of_bytes_for_the_hub_to_judge() -> None:
    (row,) = run([])
    found = record(row)
    assert isinstance(found, BytesRecord)
    assert found.payload == b"[]"


def test_only_measurements_are_scored() -> None:
    scores = Scores()
    pipeline = Pipeline(SkewBook(), scores, unscored=("n", "hidden"))
    run({"ts": NOW, "n": 1, "hidden": 2.0, "on": True, "mode": "x", "t": 20.5, "count": 3}, pipeline=pipeline)
    assert scores.asked == [("dev-1", "t", NOW / 1_000, 20.5), ("dev-1", "count", NOW / 1_000, 3.0)]


def test_the_worst_verdict_goes_along_and_makes_the_row_an_anomaly() -> None:
    pipeline = Pipeline(SkewBook(), Scores())
    calm, odd = run([{"ts": NOW, "a": 1.0}, {"ts": NOW + 1, "a": 200.0, "b": 300, "c": 150}], pipeline=pipeline)
    assert (calm.cls, odd.cls) == (RowClass.TELEMETRY, RowClass.ANOMALY)
    kept = record(odd)
    assert isinstance(kept, ReadingRecord)
    assert kept.score == Verdict(300.0, "b", "odd", 20.0)


def test_a_measurement_is_never_later_than_its_acceptance() -> None:
    scores = Scores()
    run({"ts": NOW + 500, "t": 1.0}, pipeline=Pipeline(known_skew(0), scores))
    assert scores.asked[0][2] == NOW / 1_000


def test_what_waited_teaches_no_skew() -> None:
    book = SkewBook()
    for number in range(5):
        run({"ts": NOW + number, "t": 1.0}, pipeline=Pipeline(book), fresh=False)
    assert book.observe("dev-1", NOW + 10, NOW) is None


def test_an_alarm_status_outranks_a_verdict() -> None:
    pipeline = Pipeline(SkewBook(), Scores(), alarm_statuses=("Fire",))
    rows = run([{"ts": NOW, "a": 200.0, "status": "FIRE"}, {"ts": NOW, "status": "ALARM"}], pipeline=pipeline)
    assert [row.cls for row in rows] == [RowClass.ALARM, RowClass.TELEMETRY]
    assert run({"ts": NOW, "status": "critical"})[0].cls is RowClass.ALARM


def test_readings_of_one_message_are_scored_as_far_apart_as_they_say() -> None:
    scores = Scores()
    pipeline = Pipeline(SkewBook(), scores)
    run([{"ts": 1_000, "t": 1.0}, {"ts": 4_000, "t": 2.0}], pipeline=pipeline)
    assert [at_s for _, _, at_s, _ in scores.asked] == [NOW / 1_000 - 3, NOW / 1_000]


def test_the_moment_of_measurement_is_the_device_time_without_its_skew() -> None:
    scores = Scores()
    pipeline = Pipeline(known_skew(-2_000), scores)
    run({"ts": NOW - 2_040, "t": 1.0}, pipeline=pipeline)  # 40 ms on the way
    assert scores.asked[0][2] == (NOW - 40) / 1_000


def test_history_among_fresh_readings_is_not_scored_but_what_waited_is() -> None:
    scores = Scores()
    late = {"ts": NOW - LATE_MS - 1, "t": 1.0}
    run([late, {"ts": NOW, "t": 2.0}], pipeline=Pipeline(known_skew(0), scores))
    assert [value for *_, value in scores.asked] == [2.0]
    run([late, {"ts": NOW, "t": 2.0}], pipeline=Pipeline(known_skew(0), scores), fresh=False)
    assert [value for *_, value in scores.asked[1:]] == [1.0, 2.0]


def test_a_value_that_breaks_a_model_is_kept_and_counted() -> None:
    pipeline = Pipeline(SkewBook(), Scores())
    (row,) = run({"ts": NOW, "t": 1e308, "u": 200.0}, pipeline=pipeline)
    assert pipeline.unscorable == 1
    assert row.cls is RowClass.ANOMALY


@given(st.binary(max_size=200) | st.text(max_size=200).map(lambda text: ('{"ts": 5, "x": "' + text + '"}').encode()))
def test_any_bytes_become_rows_that_can_be_read_back(payload: bytes) -> None:
    for row in run(payload):
        assert isinstance(record(row), ReadingRecord | BytesRecord)


@given(
    st.from_regex(
        rb'\{"ts": [0-9]{1,15}, "x": ("(\\\\u[dD][89a-fA-F][0-9]{2}|.){0,9}"|-?[0-9]{1,25}(e[0-9]{1,3})?)\}'
    )
)
def test_near_readings_become_rows_that_can_be_read_back(payload: bytes) -> None:
    for row in run(payload, pipeline=Pipeline(SkewBook(), Scores())):
        assert isinstance(record(row), ReadingRecord | BytesRecord)
