"""An anomaly as a line. Reading them from Postgres: tests/stack/test_anomaly_list.py."""

import msgspec

from control_plane.analytics.anomaly_list import StoredAnomaly, as_json, as_line

ANOMALY = StoredAnomaly(
    id="dev-1:temperature:1:0", ts="2026-01-01T00:00:00.000Z", device_id="dev-1", metric="temperature", value=80.25,
    score=12.34, severity="critical", reason="jump", expected=20.5, source="hub", episode_id="dev-1:temperature:1",
    stored_at="2026-01-01T00:00:01.000Z",
)  # fmt: skip


def test_for_people() -> None:
    assert as_line(ANOMALY) == (
        "2026-01-01T00:00:00.000Z critical dev-1 temperature=80.25 expected 20.5 (jump, hub, score 12.3)"
    )
    assert "expected" not in as_line(msgspec.structs.replace(ANOMALY, expected=None))


def test_for_programs() -> None:
    assert msgspec.json.decode(as_json(ANOMALY), type=StoredAnomaly) == ANOMALY
    assert "\n" not in as_json(ANOMALY)


def test_words_of_a_gateway_do_not_steer_the_terminal() -> None:
    hostile = msgspec.structs.replace(ANOMALY, reason="\x1b[2J", metric="a\nb")
    assert as_line(hostile).split(" ", 3)[3] == "a\ufffdb=80.25 expected 20.5 (\ufffd[2J, hub, score 12.3)"
