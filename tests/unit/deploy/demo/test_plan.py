import pytest

from deploy.demo import plan as plans
from edge_agent.sim.faults import VALUE_FAULTS, Fault
from edge_agent.sim.plan import CsvSource

ROWS = 8_759
BROKERS = {"": "mqtt://127.0.0.1:1"}


def made(seconds=60.0, seed=7):
    people = plans.cast(seed)
    brokers = BROKERS | {gateway: f"mqtt://127.0.0.1:{number}" for number, gateway in enumerate(people.gateways, 2)}
    keys = dict.fromkeys(people.direct, "k:x.secret")
    return people, plans.fleet(people, brokers, keys, CsvSource("s.csv", "t"), ROWS, seconds, seed)


def test_the_cast_is_twenty_devices_and_each_has_its_place():
    people, plan = made()
    assert len(people.gateways) == 2
    assert [len(names) for names in people.behind.values()] == [8, 8]
    assert len(people.direct) == 4
    assert [device.id for device in plan.devices] == list(people.devices)
    assert len(set(people.devices)) == 20
    assert {device.broker for device in plan.devices if device.id in people.direct} == {"mqtt://127.0.0.1:1"}
    assert all((device.key is not None) == (device.id in people.direct) for device in plan.devices)
    assert plan.problems(1_000) == []
    assert plan.interval_s <= 0.2


@pytest.mark.parametrize("seconds", [30.0, 60.0, 300.0])
def test_enough_anomalies_of_every_kind_end_before_the_run_does(seconds):
    _, plan = made(seconds)
    anomalies = [e for e in plan.episodes if e.fault in VALUE_FAULTS]
    assert len(anomalies) >= 20
    assert len({e.device for e in anomalies}) >= 8
    assert {e.fault for e in anomalies} == {Fault.SPIKE, Fault.LEVEL_SHIFT, Fault.NOISE_BURST}
    assert all(0 < e.start_s < e.end_s <= seconds - 15 for e in anomalies)
    assert all(5 <= abs(e.size) <= 8 for e in anomalies)
    assert {Fault.MALFORMED, Fault.DUPLICATES} <= {e.fault for e in plan.episodes}


@pytest.mark.parametrize("seconds", [30.0, 60.0, 1_200.0])
def test_warm_up_lies_before_each_device_and_its_readings_behind(seconds):
    rows = plans.offsets(plans.cast(3).devices, ROWS, seconds, 3).values()
    assert all(plans.WARM_READINGS <= row < ROWS - seconds / plans.INTERVAL_S for row in rows)


def test_the_cut_is_in_the_middle_and_the_kill_within_it():
    moments = plans.moments(60.0)
    assert moments.cut_s < moments.kill_s < moments.restore_s
    assert moments.restore_s - moments.cut_s == pytest.approx(10.0)
    assert moments.cut_s < 30 < moments.restore_s


def test_the_seed_decides():
    assert made(seed=7)[1] == made(seed=7)[1]
    assert made(seed=7)[1].episodes != made(seed=8)[1].episodes
