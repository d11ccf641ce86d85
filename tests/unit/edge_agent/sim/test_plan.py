import json

import msgspec
import pytest

from edge_agent.sim import plan as plans
from edge_agent.sim.faults import Fault
from edge_agent.sim.plan import CsvSource, DevicePlan, EpisodePlan, Plan
from shared.errors import Permanent

LOCAL = "mqtt://127.0.0.1:1883"


def test_a_plan_is_read_back_equal():
    plan = Plan(
        (DevicePlan("a", LOCAL), DevicePlan("b", LOCAL, "k:x.secret", CsvSource("f.csv", "t", 5))),
        (EpisodePlan("a", Fault.SPIKE, 1.0, 2.0, 5.0),),
        0.2,
        9,
    )
    assert plans.decode(msgspec.json.encode(plan)) == plan
    assert "secret" not in repr(plan)


@pytest.mark.parametrize("data", [b"", b"[]", b'{"devices": [{"id": "a"}]}', b'{"devices": [], "colour": 1}'])
def test_what_is_no_plan_is_refused_with_where_to_read(data):
    with pytest.raises(Permanent, match=r"docs/sim\.md"):
        plans.decode(data)


def test_everything_wrong_is_said_at_once():
    plan = Plan(
        (DevicePlan("a", LOCAL), DevicePlan("a", LOCAL), DevicePlan("_x", LOCAL)),
        (EpisodePlan("z", Fault.SPIKE, 2.0, 1.0),),
        0.0,
    )
    text = "; ".join(plan.problems(2))
    for words in ("SIM_MAX_DEVICES allows (2)", "interval_s", "'_x'", "a is listed twice", "names z", "ends before"):
        assert words in text
    assert Plan(()).problems(1) == ["no devices"]
    assert Plan((DevicePlan("a", LOCAL),)).problems(1) == []


def test_a_device_replays_its_column_distorted_by_the_spread_before_it():
    source = CsvSource("f.csv", "t", offset=4, warm_readings=4)
    plan = Plan((DevicePlan("a", LOCAL, csv=source),), (EpisodePlan("a", Fault.LEVEL_SHIFT, 0.0, 0.5, 5.0),), 0.2)
    values = [0.0, 1.0, 2.0, 3.0, 10.0, 11.0]  # median 1.5, deviations 1.5 0.5 0.5 1.5: sigma 1.4826
    device = plans.device(plan.devices[0], plan, {source: values})
    shifted, plain = (json.loads(device.measure(n, n * 1.0, 0)[0].payload)["temperature"] for n in (0, 1))
    assert shifted == pytest.approx(10.0 + 5 * 1.4826, abs=1e-3)
    assert plain == 11.0


def test_a_device_without_a_column_has_a_model_of_its_own():
    plan = Plan((DevicePlan("a", LOCAL), DevicePlan("b", LOCAL)), (EpisodePlan("a", Fault.SPIKE, 0.0, 1.0, 6.0),))
    payloads = [plans.device(device, plan, {}).measure(0, 5.0, 0)[0].payload for device in plan.devices]
    assert payloads[0] != payloads[1]
    assert all({"ts", "n", "temperature", "voltage", "status"} == set(json.loads(payload)) for payload in payloads)
