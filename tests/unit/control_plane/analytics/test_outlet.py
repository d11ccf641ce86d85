from control_plane.analytics.event_time import Rules
from control_plane.analytics.outlet import Outlet
from control_plane.analytics.raw_message import read
from control_plane.analytics.records import Flag
from shared.batch import ClockQuality, Lane
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
