"""Who may do what at the broker, as a table. That Mosquitto reads the file so: tests/stack/test_mosquitto.py."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.broker_access import DEVICE_RULES, SERVICE_RULES, acl_file, covers, may

KEY = "k:abc"


@pytest.mark.parametrize(
    ("username", "client_id", "action", "topic", "allowed"),
    [
        (KEY, "dev", "publish", "devices/dev/telemetry", True),
        (KEY, "dev", "publish", "devices/dev/status", True),
        (KEY, "dev", "publish", "gateways/dev/batches", True),
        (KEY, "dev", "subscribe", "devices/dev/commands", True),
        (KEY, "dev", "subscribe", "devices/dev/commands/#", True),
        (KEY, "dev", "subscribe", "devices/dev/commands/reboot", True),
        (KEY, "dev", "subscribe", "devices/dev/commands/+", True),
        (KEY, "dev", "subscribe", "devices/dev/notices", True),
        (KEY, "dev", "subscribe", "gateways/dev/acks", True),
        # another's
        (KEY, "dev", "publish", "devices/other/telemetry", False),
        (KEY, "dev", "publish", "gateways/other/batches", False),
        (KEY, "dev", "subscribe", "devices/other/commands", False),
        (KEY, "dev", "subscribe", "gateways/other/acks", False),
        # the wrong way round
        (KEY, "dev", "subscribe", "devices/dev/telemetry", False),
        (KEY, "dev", "publish", "devices/dev/commands", False),
        (KEY, "dev", "publish", "devices/dev/notices", False),
        (KEY, "dev", "publish", "gateways/dev/acks", False),
        # wildcards
        (KEY, "dev", "subscribe", "#", False),
        (KEY, "dev", "subscribe", "+/+/+", False),
        (KEY, "dev", "subscribe", "devices/#", False),
        (KEY, "dev", "subscribe", "devices/+/commands", False),
        (KEY, "dev", "subscribe", "devices/dev/#", False),
        (KEY, "dev", "subscribe", "devices/dev/+", False),
        (KEY, "dev", "subscribe", "devices/dev/notices/#", False),
        (KEY, "dev", "publish", "devices/+/telemetry", False),
        (KEY, "dev", "publish", "devices/dev/#", False),
        # client ids that are no ids
        (KEY, "+", "publish", "devices/+/telemetry", False),
        (KEY, "+", "subscribe", "devices/+/commands", False),
        (KEY, "#", "subscribe", "devices/#/commands", False),
        (KEY, "a/b", "publish", "devices/a/b/telemetry", False),
        (KEY, "", "publish", "devices//telemetry", False),
        (KEY, "%c", "publish", "devices/%c/telemetry", False),
        # $-topics and shared subscriptions
        (KEY, "dev", "subscribe", "$SYS/#", False),
        (KEY, "dev", "subscribe", "$SYS/broker/log/N", False),
        (KEY, "dev", "publish", "$CONTROL/dynamic-security/v1", False),
        (KEY, "dev", "subscribe", "$share/g/devices/dev/commands", False),
        (KEY, "dev", "subscribe", "$queue/devices/dev/commands", False),
        # our own services
        ("_ingest", "_ingest-0", "subscribe", "devices/+/telemetry", True),
        ("_ingest", "_ingest-0", "subscribe", "gateways/+/batches", True),
        ("_ingest", "_ingest-0", "publish", "gateways/gw/acks", True),
        ("_ingest", "_ingest-0", "publish", "devices/dev/notices", True),
        ("_ingest", "_ingest-0", "subscribe", "#", False),
        ("_ingest", "_ingest-0", "publish", "devices/dev/telemetry", False),
        ("_ingest", "_ingest-0", "publish", "$CONTROL/dynamic-security/v1", False),
        ("_ingest", "dev", "subscribe", "devices/+/telemetry", False),
        ("_registry", "_registry-1", "publish", "$CONTROL/dynamic-security/v1", True),
        ("_registry", "_registry-1", "subscribe", "$CONTROL/dynamic-security/v1/response", True),
        ("_registry", "_registry-1", "publish", "$CONTROL/other/v1", False),
        ("_monitor", "_monitor-1", "subscribe", "$SYS/#", True),
        ("_monitor", "_monitor-1", "subscribe", "$SYS/broker/log/N", True),
        ("_monitor", "_monitor-1", "subscribe", "devices/+/telemetry", False),
        ("_nobody", "_x", "subscribe", "devices/+/telemetry", False),
        # a device that calls itself a service's client, or asks for one's rights
        (KEY, "_ingest-0", "subscribe", "devices/+/telemetry", False),
        (KEY, "_ingest-0", "publish", "devices/_ingest-0/telemetry", False),
        ("", "dev", "publish", "devices/dev/telemetry/", False),
        # what is no topic
        (KEY, "dev", "publish", "", False),
        (KEY, "dev", "publish", "devices/dev/telemetry\0", False),
        (KEY, "dev", "publish", "devices/dev/telemetry/" + "x" * 70_000, False),
        (KEY, "dev", "read", "devices/dev/commands", False),
        (KEY, "dev", "", "devices/dev/telemetry", False),
        (KEY, "dev", "subscribe", "devices/dev/commands/#/x", False),
        (KEY, "dev", "subscribe", "devices/dev/commands/x#", False),
    ],
)
def test_each_row(username: str, client_id: str, action: str, topic: str, allowed: bool) -> None:
    assert may(username, client_id, action, topic) is allowed


@pytest.mark.parametrize(
    ("ours", "theirs", "covered"),
    [
        ("a/#", "a", True),
        ("a/#", "a/b/c", True),
        ("a/+", "a/+", True),
        ("a/+", "a/#", False),
        ("a/+", "a/b/c", False),
        ("+/a", "$SYS/a", False),
        ("#", "$SYS/a", False),
        ("#", "a/+", True),
        ("a/b", "a/+", False),
        ("a/+/c", "a/b/c", True),
    ],
)
def test_a_filter_covers_another(ours: str, theirs: str, covered: bool) -> None:
    assert covers(ours, theirs) is covered


LEVELS = st.lists(st.sampled_from(["a", "b", "+", "$x", ""]), min_size=1, max_size=4)


@given(ours=LEVELS, ours_open=st.booleans(), theirs=LEVELS, theirs_open=st.booleans())
def test_what_is_covered_matches_no_topic_that_is_not_allowed(
    ours: list[str], ours_open: bool, theirs: list[str], theirs_open: bool
) -> None:
    """Against a plain reading of MQTT's matching, over all topics of these levels."""
    allowed, asked = "/".join([*ours, *["#"] * ours_open]), "/".join([*theirs, *["#"] * theirs_open])
    if not covers(allowed, asked):
        return
    for first in ("a", "$x"):
        for rest in ([], ["a"], ["b"], ["a", "b"], ["b", "", "a"], ["a", "a", "a", "a"]):
            topic = [first, *rest]
            assert not _matches(asked, topic) or _matches(allowed, topic), (allowed, asked, topic)


def _matches(filter_: str, topic: list[str]) -> bool:
    levels = filter_.split("/")
    if topic[0].startswith("$") and levels[0] in ("+", "#"):
        return False
    for number, level in enumerate(levels):
        if level == "#":
            return True
        if number >= len(topic) or level not in ("+", topic[number]):
            return number == len(topic) and levels[number:] == ["#"]
    return len(levels) == len(topic)


def test_the_acl_file_says_the_table() -> None:
    lines = acl_file().splitlines()
    assert "pattern write devices/%c/telemetry" in lines
    assert "pattern read devices/%c/commands/#" in lines
    assert sum(line.startswith("pattern") for line in lines) == len(DEVICE_RULES)
    assert [line.removeprefix("user ") for line in lines if line.startswith("user")] == list(SERVICE_RULES)
    assert lines[lines.index("user _monitor") + 1] == "topic read $SYS/#"
    assert sum(line.startswith("topic") for line in lines) == sum(map(len, SERVICE_RULES.values()))
