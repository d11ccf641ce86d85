import json
import logging
from dataclasses import dataclass
from typing import ClassVar

import pytest
from prometheus_client import CollectorRegistry, Counter

from shared.events import Event, configure_logging

REGISTRY = CollectorRegistry()
FROZEN = Counter("lakes_frozen", "Lakes", ["reason"], registry=REGISTRY)


@dataclass(frozen=True, slots=True)
class LakeFrozen(Event):
    """A lake froze."""

    reason: str
    depth_m: float

    def measure(self) -> None:
        FROZEN.labels(self.reason).inc()


@dataclass(frozen=True, slots=True)
class RippleSeen(Event):
    """Too frequent to log."""

    LEVEL: ClassVar[int] = logging.DEBUG


@pytest.fixture
def restored_logging():
    root = logging.getLogger()
    before = root.handlers[:], root.level, logging.getLogger("events").level
    yield
    root.handlers[:] = before[0]
    root.setLevel(before[1])
    logging.getLogger("events").setLevel(before[2])


@pytest.mark.usefixtures("restored_logging")
def test_one_emit_logs_and_counts(capsys):
    configure_logging()
    LakeFrozen("winter", 1.5).emit()
    RippleSeen().emit()
    logging.getLogger("paho").warning("a %s", "leak")
    first, second = map(json.loads, capsys.readouterr().err.splitlines())
    assert {key: first[key] for key in first.keys() - {"at"}} == {
        "level": "info", "event": "lake_frozen", "reason": "winter", "depth_m": 1.5,
    }  # fmt: skip
    assert second["event"] == "library"
    assert second["message"] == "a leak"
    assert REGISTRY.get_sample_value("lakes_frozen_total", {"reason": "winter"}) == 1.0


@pytest.mark.usefixtures("restored_logging")
def test_an_exception_goes_along(capsys):
    configure_logging("ERROR")
    LakeFrozen("spring", 0.0).emit()
    try:
        raise ValueError("thin ice")
    except ValueError as error:
        logging.getLogger("events").error("traceback", exc_info=error)
    (line,) = map(json.loads, capsys.readouterr().err.splitlines())
    assert "thin ice" in line["exception"]
