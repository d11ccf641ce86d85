import pytest

from deploy.bench.__main__ import GOALS, MEASUREMENTS, chosen, machine, versions
from shared.errors import Permanent

NAMES = {
    "ingest_single_msgs_per_s", "ingest_batched_readings_per_s", "ingest_cpu_us_per_msg", "agent_intake_msgs_per_s",
    "agent_drain_records_per_s_at_100ms", "agent_rss_mb_scoring", "agent_rss_mb_plain", "e2e_direct_p50_ms",
    "e2e_direct_p99_ms", "e2e_gateway_p99_ms", "normalizer_readings_per_s", "sink_rows_per_s",
    "bytes_written_per_reading", "wire_bytes_per_reading", "rate_limit_us_per_msg",
    "broker_rebuild_s", "broker_compare_s", "revoke_to_closed_ms", "broker_publish_p99_ms_meanwhile",
    "broker_rotations_per_s",
    "registry_get_p99_ms", "registry_list_p99_ms", "registry_get_p99_ms_100k", "registry_list_p99_ms_100k",
    "registry_get_p99_ms_10k", "registry_list_p99_ms_10k", "registry_get_1m_to_10k", "registry_list_1m_to_10k",
    "registry_import_devices_per_s", "registry_import_keys_per_s",
}  # fmt: skip


def test_every_promised_figure_is_measured_and_every_goal_is_of_one():
    measured = [name for item in MEASUREMENTS for name in item.yields]
    assert set(measured) == NAMES
    assert len(measured) == len(set(measured))
    assert set(GOALS) <= NAMES


def test_without_a_choice_everything_is_measured():
    assert chosen({}) == (list(MEASUREMENTS), 3)


def test_one_figure_chooses_its_measurement():
    (item,), runs = chosen({"ONLY": "agent_rss_mb_plain", "RUNS": "1"})
    assert "agent_rss_mb_plain" in item.yields
    assert runs == 1


def test_a_room_chooses_all_that_it_measures():
    assert [item.measure.__module__ for item in chosen({"ONLY": "limits"})[0]] == ["deploy.bench.limits"]
    assert len(chosen({"ONLY": "agent"})[0]) == 3


def test_sustained_is_run_once():
    (item,), runs = chosen({"ONLY": "sustained", "TARGET": "10", "DURATION_S": "5"})
    assert runs == 1
    assert "sustained_readings_per_s" in item.yields


@pytest.mark.parametrize("env", [{"ONLY": "speed"}, {"RUNS": "0"}, {"TARGET": "fast"}, {"DURATION_S": "-1"}])
def test_a_wrong_call_says_what_is_there(env):
    with pytest.raises(Permanent):
        chosen(env)


def test_the_machine_is_described_without_its_name():
    import platform

    assert platform.node() not in str(machine())
    assert versions()["aiokafka"] == "0.14.0"
