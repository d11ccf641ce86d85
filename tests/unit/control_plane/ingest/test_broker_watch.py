"""The broker's own count of what it dropped."""

import pytest

from control_plane.ingest import events
from control_plane.ingest.broker_watch import BrokerWatch
from shared.config import Secret


@pytest.fixture
def told(monkeypatch):
    emitted = []
    monkeypatch.setattr(events.BrokerDropped, "emit", lambda self: emitted.append(self.messages))
    return emitted


def test_growth_is_a_warning_and_a_restart_is_none(told):
    watch = BrokerWatch("h", 1, Secret("s"), "x")
    for payload in (b"0", b"5", b"5", b"12", b"0", b"3", b"nonsense"):
        watch.told(payload)
    assert told == [5, 7, 3]
    assert events.BROKER_DROPPED._value.get() == 3


def test_what_was_dropped_before_we_listened_is_no_news(told):
    watch = BrokerWatch("h", 1, Secret("s"), "x")
    for payload in (b"40", b"40", b"41"):
        watch.told(payload)
    assert told == [1]
