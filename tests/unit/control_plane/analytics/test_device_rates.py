"""Devices behind a gateway that have limits of their own: judged by when their readings were accepted."""

import msgspec
import pytest

from control_plane.analytics.device_rates import REMEMBERED, DeviceRates, _readings_per_s
from control_plane.analytics.job import MemoryState
from shared.batch import Lane
from shared.device import Limits
from shared.errors import Reason
from shared.rates import Defaults
from shared.topics import Kafka
from tests.unit.control_plane.analytics.raw_kit import NOW_MS, Bench, batched, device, house, reading, replay_of

LIMITED = msgspec.structs.replace(device("dev-1", "gw"), limits=Limits(messages_per_s=1.0))


def bench(*views, **types):
    registry = house()
    registry.views |= {view.id: view for view in views}
    registry.defaults = Defaults(types=types)
    return Bench(registry)


def fates(outputs):
    return [output.data.reason if output.topic == Kafka.REJECTED else "normalized" for output in outputs]


def test_beyond_its_burst_a_device_is_throttled_and_its_sibling_is_not():
    made = bench(LIMITED)
    outputs = made.outputs(batched([reading(name) for _ in range(30) for name in ("dev-1", "dev-2")]))
    mine = fates([output for output in outputs if output.key == "dev-1"])
    assert mine == ["normalized"] * 10 + [Reason.THROTTLED] * 20
    assert fates([output for output in outputs if output.key == "dev-2"]) == ["normalized"] * 30
    (later,) = made.outputs(batched([reading("dev-1", NOW_MS + 1_000)], number=2))
    assert later.topic == Kafka.NORMALIZED, "a second later there is room for one more"


def test_a_backlog_is_judged_as_it_was_made():
    made = bench(LIMITED)
    backlog = [reading("dev-1", NOW_MS - 600_000 + number * 1_000) for number in range(600)]
    outputs = made.outputs(batched(backlog[:300], lane=Lane.REPLAY))
    live = made.outputs(batched([reading("dev-1", NOW_MS)], number=2))
    outputs += made.outputs(batched(backlog[300:], number=3, lane=Lane.REPLAY))
    assert fates(outputs + live) == ["normalized"] * 601


def test_a_clock_that_was_set_back_costs_nobody_years():
    made = bench(LIMITED)
    made.outputs(batched([reading("dev-1", NOW_MS + 10**11)]))
    (output,) = made.outputs(batched([reading("dev-1", NOW_MS)], number=2))
    assert output.topic == Kafka.NORMALIZED


def test_a_types_limits_count_and_without_any_nothing_is_kept():
    made = bench(thermometer=Limits(readings_per_s=2.0))
    outputs = made.outputs(batched([reading("dev-2", NOW_MS)] * 30))
    assert fates(outputs).count("normalized") == 20
    free = bench()
    assert fates(free.outputs(batched([reading("dev-2", NOW_MS)] * 500))) == ["normalized"] * 500
    assert free.state.get(b"llive") is None


def test_what_was_throttled_can_be_brought_back_by_hand():
    made = bench(LIMITED)
    outputs = made.outputs(batched([reading("dev-1", NOW_MS)] * 12))
    (again,) = made.outputs(replay_of(outputs[-1]))
    assert (again.topic, again.id) == (Kafka.NORMALIZED, outputs[-1].id)


def test_the_state_is_bounded():
    state = MemoryState()
    rates = DeviceRates(state, Lane.LIVE, Defaults())
    for number in range(2 * REMEMBERED):
        assert rates.allows(msgspec.structs.replace(LIMITED, id=f"d{number}"), NOW_MS)
    rates.save()
    kept = msgspec.msgpack.decode(state.get(b"llive"))
    assert (len(kept), list(kept)[-1]) == (REMEMBERED, f"d{2 * REMEMBERED - 1}")


@pytest.mark.parametrize(
    ("own", "of_type", "expected"),
    [
        (None, None, None),
        (Limits(bytes_per_s=5.0), None, None),
        (Limits(messages_per_s=3.0), Limits(messages_per_s=1.0), 3.0),
        (Limits(messages_per_s=3.0), Limits(readings_per_s=1.0), 1.0),
        (Limits(messages_per_s=3.0, readings_per_s=2.0), None, 2.0),
    ],
)
def test_the_lower_of_messages_and_readings_each_its_own_before_its_types(own, of_type, expected):
    assert _readings_per_s(own, of_type) == expected
