import dataclasses
import inspect

import prometheus_client

from edge_agent import events
from shared.events import Event

EVENTS = [
    cls for _, cls in inspect.getmembers(events, inspect.isclass) if issubclass(cls, Event) and cls is not Event
]


def value(name: str, **labels: str) -> float:
    return prometheus_client.REGISTRY.get_sample_value(name, labels) or 0.0


def test_a_commit_moves_its_counters_by_what_it_holds() -> None:
    before = value("agent_accepted_rows_total", cls="telemetry"), value("agent_intake_messages_total")
    events.Committed(7, 2, 1, {"telemetry": 5, "alarm": 1}, {"bad_ts": 3}).measure()
    assert value("agent_accepted_rows_total", cls="telemetry") == before[0] + 5
    assert value("agent_intake_messages_total") == before[1] + 7
    assert value("agent_intake_repeats_total") >= 2
    assert value("agent_unparsed_total", reason="bad_ts") >= 3


def test_a_lost_broker_is_counted_and_shown() -> None:
    events.LocalBrokerConnected(session=True).measure()
    assert value("agent_local_broker_connected") == 1
    before = value("agent_broker_connect_failures_total", broker="local")
    events.LocalBrokerLost("refused", 1.0).measure()
    assert value("agent_local_broker_connected") == 0
    assert value("agent_broker_connect_failures_total", broker="local") == before + 1


def test_device_clocks_are_shown_in_seconds() -> None:
    events.DeviceClocks(2_500, 3, 1, 1).measure()
    assert value("agent_device_clock_skew_worst_seconds") == 2.5
    assert value("agent_device_clocks_in_doubt") == 3


def test_no_event_names_a_device() -> None:
    assert EVENTS
    for cls in EVENTS:
        fields = {field.name for field in dataclasses.fields(cls)}
        assert not fields & {"device", "device_id", "gateway", "key", "serial"}, cls
