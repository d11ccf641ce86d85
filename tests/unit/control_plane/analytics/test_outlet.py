from control_plane.analytics.event_time import Rules
from control_plane.analytics.outlet import Outlet
from control_plane.analytics.raw_message import read
from control_plane.analytics.records import Flag
from control_plane.analytics.refusal import RECORD, Part
from shared.batch import AggregateRecord, ClockQuality, Lane
from shared.envelope import rfc3339
from shared.errors import Reason, Rejected
from shared.reading import Reading
from tests.unit.control_plane.analytics.raw_kit import NOW_MS, batched, device, direct, read_back, reading

VIEW = device("dev-1", "gw")


def outlet(record, **rules):
    return Outlet(read(record), Lane.LIVE, Rules(**rules), None)


def test_thresholds_are_the_rules():
    for limit, flags in ((3_000, (Flag.DRIFT, Flag.SKEW_CORRECTED)), (10_000, ())):
        made = outlet(batched([reading()]), correct_ms=limit, drift_ms=limit)
        made.reading(VIEW, reading(ts_ms=NOW_MS + 4_000), "id", ClockQuality.SYNCED, 4_000, accepted_ms=NOW_MS)
        data = read_back(made.outputs[0]).data
        assert data.quality.flags == flags
        assert data.ts == rfc3339(NOW_MS if flags else NOW_MS + 4_000)
        assert (made.tally.readings, made.tally.drifting, made.tally.skew_ms) == (1, int(bool(flags)), 4_000)


def test_without_a_gateway_the_receipt_is_the_acceptance():
    made = outlet(direct(b"{}", received_ms=NOW_MS + 9))
    made.reading(VIEW, Reading(0, 0, {}), "id", ClockQuality.SYNCED, None)
    data = read_back(made.outputs[0]).data
    assert (data.ts, data.accepted_at, data.gateway_id) == (rfc3339(NOW_MS + 9), None, None)


def test_every_refusal_is_counted():
    made = outlet(direct(b"{}"))
    made.refuse(Rejected(Reason.BOMB, ""), b"{}", "id")
    made.refuse(Rejected(Reason.BAD_TS, ""), b"{}", "id-2")
    assert made.tally.refused == [Reason.BOMB, Reason.BAD_TS]
    assert len(made.outputs) == 2


TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def test_the_trace_of_a_batch_is_not_that_of_its_other_readings():
    made = outlet(batched([reading()], marks={"traceparent": TRACE}))
    made.reading(VIEW, reading(), "id", ClockQuality.SYNCED, None, gateway="gw", accepted_ms=NOW_MS)
    made.reading(VIEW, reading(), "id", ClockQuality.SYNCED, None, gateway="gw", traceparent=TRACE)
    traced = ["traceparent" in dict(output.headers) for output in made.outputs]
    assert traced == [False, True]


def test_an_aggregate_says_how_far_its_times_can_be_trusted():
    made = outlet(batched([reading()]))
    for clock in (ClockQuality.UNSYNCED, None):
        record = AggregateRecord("dev-1", NOW_MS, "t", NOW_MS, NOW_MS, 1, 1.0, 1.0, 1.0, clock)
        made.aggregate(record, "gw", "id")
    assert [read_back(output).data.clock for output in made.outputs] == [ClockQuality.UNSYNCED, None]


def test_a_refused_part_bears_its_own_trace_and_a_whole_batch_its_batchs():
    own = TRACE.replace("0af7", "1bf8")
    made = outlet(batched([reading()], marks={"traceparent": TRACE}))
    why = Rejected(Reason.BAD_TS, "")
    made.refuse(why, b"{}", "id", part=Part(RECORD, "dev-1", index=0, traceparent=own))
    made.refuse(why, b"{}", "id", part=Part(RECORD, "dev-1", index=1))
    made.refuse(why, b"{}", "id")
    assert [dict(output.headers).get("traceparent") for output in made.outputs] == [
        own.encode(),
        None,
        TRACE.encode(),
    ]
