import dataclasses
import inspect

from prometheus_client import REGISTRY

from edge_agent import uplink_events
from edge_agent.ledger import Ledger
from edge_agent.uplink_events import BatchAcked, BatchRefused, BatchSent, HubLost, OutboxMeasured, lines
from shared.events import Event


def value(name: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(name, labels) or 0.0


def test_events_move_their_metrics():
    sent = value("agent_batches_sent_total", lane="live", kind="resent")
    refused = value("agent_publish_refused_total", reason="0x10")
    latency = value("agent_ack_latency_seconds_count", lane="live")
    BatchSent("live", True, 10, 99).emit()
    BatchRefused("0x10").emit()
    BatchAcked("live", 10, 0.2).emit()
    BatchAcked("live", 10, None).emit()
    assert value("agent_batches_sent_total", lane="live", kind="resent") == sent + 1
    assert value("agent_publish_refused_total", reason="0x10") == refused + 1
    assert value("agent_ack_latency_seconds_count", lane="live") == latency + 1


def test_the_ledger_is_shown_by_class_and_column():
    ledger = Ledger().append((0, 0, 0, 7, 0)).ack((0, 0, 0, 2, 0))
    OutboxMeasured(lines(ledger), 3, 1.5, 4096, 2, 16).emit()
    assert value("agent_ledger_rows", cls="telemetry", column="acked") == 2
    assert value("agent_outbox_rows", cls="telemetry") == 5
    assert value("agent_outbox_oldest_age_seconds") == 1.5
    assert value("agent_ledger_lost_with_counters_at_most") == 3


def test_a_failed_connection_to_the_hub_is_counted_apart_from_the_local_brokers():
    before = value("agent_broker_connect_failures_total", broker="hub")
    HubLost("no route", 1.0).emit()
    assert value("agent_broker_connect_failures_total", broker="hub") == before + 1


def test_every_event_says_what_it_is():
    for _, cls in inspect.getmembers(uplink_events, inspect.isclass):
        if issubclass(cls, Event) and cls is not Event:
            assert cls.__doc__
            assert dataclasses.is_dataclass(cls)
