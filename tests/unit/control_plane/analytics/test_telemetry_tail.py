"""A reading as a line for people. The tail itself runs in tests/stack/test_telemetry_tail.py."""

from typing import Any

from control_plane.analytics.records import Flag, NormalizedReading, Quality, Score
from control_plane.analytics.telemetry_tail import as_line
from shared.batch import ClockQuality, Lane

AT = "2026-01-01T00:00:00.000Z"


def line(**changes: Any) -> str:
    facts: dict[str, Any] = {
        "device_id": "dev-1", "ts": AT, "ts_raw": 0, "received_at": AT, "lane": Lane.LIVE, "metrics": {},
        "quality": Quality(ClockQuality.SYNCED, None, ()),
    }  # fmt: skip
    return as_line(NormalizedReading(**(facts | changes)))


def test_an_ordinary_reading() -> None:
    found = line(metrics={"temperature": 24.1, "n": 7, "on": True, "mode": "eco"}, status="OK")
    assert found == f"{AT} dev-1 temperature=24.1 n=7 on=true mode=eco OK"


def test_what_is_out_of_the_ordinary_is_said() -> None:
    found = line(
        metrics={"temperature": 1 / 3},
        lane=Lane.REPLAY,
        quality=Quality(ClockQuality.SYNCED, None, (Flag.DRIFT,)),
        score=Score(6.52, "temperature", "noise"),
    )
    assert found == f"{AT} dev-1 temperature=0.333333 [replay] [drift] [edge: temperature noise 6.5]"


def test_a_devices_text_does_not_steer_the_terminal() -> None:
    found = line(score=Score(1.0, "a\x1b[2J", "b\n"))
    assert found == f"{AT} dev-1 [edge: a\ufffd[2J b\ufffd 1.0]"
    found = line(metrics={"mode": "\x1b[2J\n"}, status="a\rb\x07")
    assert found == f"{AT} dev-1 mode=\ufffd[2J\ufffd a\ufffdb\ufffd"
