import pytest
from prometheus_client import REGISTRY

from control_plane.analytics import normalizer_events
from control_plane.analytics.normalizer_events import Ledgers, count
from control_plane.analytics.records import GapKind
from shared.batch import Lane
from shared.errors import Reason
from tests.unit.control_plane.analytics.raw_kit import EPOCH, Bench, batched, direct, reading, replay_of


class Moved:
    """What metrics moved by."""

    NAMES = (
        *(("telemetry_raw_records_total", {"fate": fate}) for fate in ("normalized", "rejected", "repeat")),
        *(("telemetry_readings_normalized_total", {"lane": lane.value}) for lane in Lane),
        *(("telemetry_rejected_total", {"reason": reason.value}) for reason in Reason),
        *(("telemetry_gap_batches_total", {"kind": kind.value}) for kind in GapKind),
        *(("telemetry_replayed_total", {"fate": fate}) for fate in ("normalized", "rejected", "repeat")),
        ("telemetry_clock_drift_total", {}),
        ("telemetry_clock_skew_seconds_count", {}),
    )

    def __enter__(self):
        self._before = self._now()
        return self

    def __exit__(self, *_):
        now = self._now()
        self.by = {place: now[place] - self._before[place] for place in now if now[place] != self._before[place]}

    def _now(self):
        return {
            (name, *labels.values()): REGISTRY.get_sample_value(name, labels) or 0.0 for name, labels in self.NAMES
        }


def test_every_raw_record_has_one_fate_and_every_reading_one_place():
    bench = Bench()
    record = batched([reading(), reading("stranger"), reading(skew_ms=9_000)], lane=Lane.REPLAY)
    with Moved() as moved:
        for raw in (record, record, direct(b"nonsense"), batched([reading()], number=9, floor=4)):
            count(bench.judge(raw))
    assert moved.by == {
        ("telemetry_raw_records_total", "normalized"): 2,
        ("telemetry_raw_records_total", "rejected"): 1,
        ("telemetry_raw_records_total", "repeat"): 1,
        ("telemetry_readings_normalized_total", "replay"): 2,
        ("telemetry_readings_normalized_total", "live"): 1,
        ("telemetry_rejected_total", "unknown_device"): 1,
        ("telemetry_rejected_total", "malformed"): 1,
        ("telemetry_gap_batches_total", "gap"): 2,
        ("telemetry_clock_drift_total",): 1,
        ("telemetry_clock_skew_seconds_count",): 1,
    }


def test_dead_letters_that_come_back_are_counted_apart():
    bench = Bench()
    (dead,) = bench.outputs(direct(b"nonsense"))
    with Moved() as moved:
        count(bench.judge(replay_of(dead)))
    assert moved.by[("telemetry_replayed_total", "rejected")] == 1
    assert not any(place[0] == "telemetry_raw_records_total" for place in moved.by)


@pytest.fixture
def ledgers():
    normalizer_events.LEDGER.clear()
    yield Ledgers()
    normalizer_events.LEDGER.clear()


def ledger(accepted, acked):
    return f'{{"telemetry": [{accepted}, {acked}, {accepted - acked}, 0, 0, 0]}}'


def shown(account):
    return REGISTRY.get_sample_value("telemetry_gateway_ledger_records", {"class": "telemetry", "account": account})


def test_the_gateways_newest_ledgers_are_summed(ledgers):
    ledgers.hear("a", ledger(10, 4))
    ledgers.hear("b", ledger(5, 5))
    ledgers.hear("a", ledger(20, 18))
    ledgers.hear("a", ledger(10, 4))  # a resend of old
    assert (shown("accepted"), shown("acked"), shown("waiting")) == (25, 23, 2)


NONSENSE = (
    *("", "x", "[]", "[" * 900, '{"telemetry": [1]}', '{"telemetry": [-1, 0, 0, 0, 0, 0]}'),
    '{"telemetry": [1%s, 0, 0, 0, 0, 0]}' % ("0" * 400),  # beyond a float's range: it would end who shows it
)


def test_nonsense_is_no_ledger(ledgers):
    for text in NONSENSE:
        ledgers.hear("a", text)
    assert [sample for metric in normalizer_events.LEDGER.collect() for sample in metric.samples] == []
    ledgers.hear("a", ledger(1, 1))
    for text in NONSENSE:
        ledgers.hear("a", text)
    assert shown("accepted") == 1


def test_classes_are_an_outboxs_and_doubt_is_no_class(ledgers):
    """What `edge_agent.ledger` writes after damage, and what a gateway in wrong hands could."""
    ledgers.hear("a", '{"telemetry": [1, 1, 0, 0, 0, 0], "lost_with_counters": [3, 9]}')
    ledgers.hear("b", '{"telemetry": [2, 2, 0, 0, 0, 0], "made-up": [7, 7, 0, 0, 0, 0]}')
    assert shown("accepted") == 3
    samples = [sample for metric in normalizer_events.LEDGER.collect() for sample in metric.samples]
    assert {sample.labels["class"] for sample in samples} == {"telemetry"}


def test_of_too_many_gateways_those_heard_last_are_summed(ledgers):
    ledgers._newest.capacity = 2
    ledgers.hear("a", ledger(1, 1))
    ledgers.hear("b", ledger(20, 20))
    ledgers.hear("a", ledger(3, 3))
    ledgers.hear("c", ledger(400, 400))
    assert shown("accepted") == 403


def test_a_lost_range_of_any_size_is_one_step():
    bench = Bench()
    bench.judge(batched([reading()]))
    with Moved() as moved:
        count(bench.judge(batched([reading()], number=10**12, floor=10**12)))
    assert moved.by[("telemetry_gap_batches_total", "gap")] == 10**12 - 2
    assert EPOCH
