"""`hub device whois` and `forget` as a user types them."""

from tests.unit.control_plane.registry.conftest import Hub

NAME = "p-aaaabbbbccccdddd"


def test_whois(hub: Hub) -> None:
    _, out, _ = hub("device", "whois", NAME, answers=[(200, {"pseudonym": NAME, "device_id": "dev"})])
    assert (out, hub.asked[0]["path"]) == ("dev\n", f"/v1/pseudonyms/{NAME}")


def test_forget_says_what_it_could_not_reach(hub: Hub) -> None:
    found = {"device_id": "dev", "erased": {"telemetry": 2, "groups": 0}, "not_reached": ["backups"]}
    status, out, _ = hub("device", "forget", "dev", "--force", answers=[(200, found)])
    assert (status, out) == (0, "forgot dev: 2 telemetry\nnot reached:\n- backups\n")
    assert hub.asked[0]["body"] == {"force": True}
