"""Changes and moves as a user types them."""

import json

import pytest

from tests.unit.control_plane.registry.conftest import Hub

FOUND = {"id": "dev", "status": "suspended", "labels": {}}


def test_moves_of_several(hub: Hub) -> None:
    answers = [(200, FOUND), (200, FOUND | {"id": "b"})]
    status, out, _ = hub("device", "suspend", "dev", "b", "--reason", "odd", answers=answers)
    assert (status, out) == (0, "dev is suspended\nb is suspended\n")
    assert [asked["path"] for asked in hub.asked] == ["/v1/devices/dev:suspend", "/v1/devices/b:suspend"]
    assert hub.asked[0]["body"] == {"reason": "odd"}
    _, out, _ = hub("gateway", "retire", "dev", "--json", answers=[(200, FOUND)])
    assert json.loads(out) == FOUND


def test_labels_are_set_and_removed(hub: Hub) -> None:
    status, _, _ = hub("device", "label", "dev", "site=berlin", "odd=a-", "old-", answers=[(200, FOUND)])
    assert status == 0
    assert hub.asked[0]["body"] == {"labels": {"site": "berlin", "odd": "a-", "old": None}}


def test_patches(hub: Hub) -> None:
    words = (
        "device",
        "patch",
        "dev",
        "--serial",
        "S",
        "--place",
        "hall",
        "--lat",
        "1",
        "--limit",
        "messages_per_s=5",
    )
    hub(*words, answers=[(200, FOUND)])
    limits = {"messages_per_s": 5.0}
    assert hub.asked[0]["body"] == {"serial": "S", "location": {"place": "hall", "lat": 1.0}, "limits": limits}
    hub("device", "patch", "dev", "--no-location", "--no-limits", answers=[(200, FOUND)])
    assert hub.asked[0]["body"] == {"location": None, "limits": None}


@pytest.mark.parametrize(
    "words",
    [
        ("device", "patch", "dev"),
        ("device", "patch", "dev", "--place", "x", "--no-location"),
        ("device", "patch", "dev", "--limit", "messages_per_s=fast"),
        ("device", "label", "dev", "site"),
        ("device", "retire", "../x"),
    ],
)
def test_words_that_make_no_sense_reach_nobody(hub: Hub, words: tuple[str, ...]) -> None:
    status, _, err = hub(*words, answers=[])
    assert (status, hub.asked) == (2, [])
    assert err.startswith("hub: ")
