import msgspec

from control_plane.analytics import speakers
from control_plane.analytics.speakers import OWNERSHIP_SLACK_MS, Speakers
from shared.device import DeviceView, Status
from shared.errors import Reason
from tests.unit.control_plane.analytics.raw_kit import DictRegistry, device, gateway, house


def test_a_device_speaks_for_itself_a_gateway_too():
    registry = house()
    assert speakers.direct(registry, "solo").id == "solo"
    assert speakers.direct(registry, "gw").id == "gw"
    assert speakers.gateway(registry, "gw").id == "gw"
    assert speakers.gateway(registry, "solo").reason == Reason.PROTOCOL
    assert speakers.gateway(registry, "gone").reason == Reason.UNKNOWN_GATEWAY
    assert speakers.direct(registry, "gone").reason == Reason.UNKNOWN_DEVICE
    assert registry.asked == [{"gone"}, {"gone"}]


def test_nobody_is_asked_for_what_can_be_no_id():
    registry = house()
    assert speakers.direct(registry, "no id\x00").reason == Reason.UNKNOWN_DEVICE
    Speakers(registry, "gw").prepare([("no id\x00", 0)])
    assert registry.asked == []


def test_the_present_owner_may_speak_of_any_time_a_former_one_of_its_own():
    registry = DictRegistry(gateway("gw"), device("moved", ("gw", 1_000_000, 2_000_000), ("gw-2", 2_000_000, None)))
    former, present = Speakers(registry, "gw"), Speakers(registry, "gw-2")
    assert isinstance(present.judge("moved", 0), DeviceView)
    assert isinstance(former.judge("moved", 1_500_000), DeviceView)
    assert isinstance(former.judge("moved", 2_000_000 + OWNERSHIP_SLACK_MS - 1), DeviceView)
    for at_ms in (2_000_000 + OWNERSHIP_SLACK_MS, 1_000_000 - OWNERSHIP_SLACK_MS - 1):
        assert former.judge("moved", at_ms).reason == Reason.FOREIGN_DEVICE


def test_a_gateway_whose_place_another_took_says_nothing_of_later_moments():
    old = msgspec.structs.replace(gateway("gw"), replaced_ms=2_000_000)
    registry = DictRegistry(old, device("dev", ("gw", 0, 2_000_000), ("gw-2", 2_000_000, None)))
    assert speakers.gateway(registry, "gw") is old, "its batches are opened"
    assert speakers.direct(registry, "gw").reason == Reason.FOREIGN_DEVICE
    voices = Speakers(registry, "gw")
    for name in ("gw", "dev"):
        assert isinstance(voices.judge(name, 1_999_999), DeviceView)
        assert voices.judge(name, 2_000_000 + OWNERSHIP_SLACK_MS).reason == Reason.FOREIGN_DEVICE


def test_what_is_known_and_refused_for_its_status_is_not_asked_for():
    registry = DictRegistry(
        device("dev-1", "gw", status=Status.RETIRED), device("other", "gw-2"), device("own", "gw")
    )
    Speakers(registry, "gw").prepare([("dev-1", 0), ("other", 0), ("own", 0), ("none", 0), ("none", 5)])
    assert registry.asked == [{"other", "none"}]


def test_a_retired_device_of_ones_own_is_refused_each_time():
    voices = Speakers(DictRegistry(device("dev-1", "gw", status=Status.RETIRED)), "gw")
    assert [voices.judge("dev-1", 0).reason for _ in range(2)] == [Reason.RETIRED] * 2
