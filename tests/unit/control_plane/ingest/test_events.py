"""The names that monitoring relies on, as they are exposed."""

import prometheus_client

from control_plane.ingest import events


def exposed():
    return prometheus_client.generate_latest().decode().splitlines()


def test_the_fixed_names_have_no_suffix():
    lines = exposed()
    assert any(line.startswith("telemetry_ingest_rate ") for line in lines)
    for kind in ("unreachable", "refused", "timeout", "not_authorised", "protocol_error", "tls", "taken_over"):
        assert any(line.startswith(f'telemetry_mqtt_connect_failures{{kind="{kind}"}} ') for line in lines)


def value(name):
    return next(float(line.rpartition(" ")[2]) for line in exposed() if line.rpartition(" ")[0] == name)


def test_an_event_moves_its_metric():
    before = value('telemetry_mqtt_connect_failures{kind="refused"}')
    events.BrokerConnectFailed("refused", "Not authorized").emit()
    assert value('telemetry_mqtt_connect_failures{kind="refused"}') == before + 1
    events.LeaseTaken(0, resumed=False).emit()
    assert value("telemetry_ingest_lease_held") == 1
    for gone in (events.LeaseLost(0), events.LeaseReleased(0)):
        events.LEASE_HELD.set(1)
        gone.emit()
        assert value("telemetry_ingest_lease_held") == 0


def test_the_rate_is_of_the_last_seconds(monkeypatch):
    monkeypatch.setattr(events.time, "monotonic", lambda: 1_000_000.5)
    events.RATE.add(999_995.0, 1_234)
    assert value("telemetry_ingest_rate") == 123.4
