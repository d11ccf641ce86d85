import msgspec
import pytest

from shared.device import DeviceView, Kind, Limits, Ownership, Status, decode_view, encode_view, refusal
from shared.errors import Reason

VIEW = DeviceView(
    "dev", Kind.DEVICE, "thermo", Status.ACTIVE, 3,
    (Ownership("gw-old", 1_000, 2_000), Ownership("gw-new", 2_000)), Limits(messages_per_s=5.0),
)  # fmt: skip


def test_a_view_is_read_back_equal():
    assert decode_view(encode_view(VIEW)) == VIEW


def test_a_foreign_value_raises():
    with pytest.raises(msgspec.ValidationError):
        decode_view(b'{"id":"x"}')


@pytest.mark.parametrize(
    ("gateway", "at_ms", "owned"),
    [
        ("gw-old", 1_000, True),
        ("gw-old", 1_999, True),
        ("gw-old", 2_000, False),
        ("gw-old", 999, False),
        ("gw-new", 2_000, True),
        ("gw-new", 5, True),
        ("stranger", 1_500, False),
        ("dev", 0, True),
    ],
)
def test_a_gateway_speaks_for_what_is_or_was_then_its_own(gateway, at_ms, owned):
    assert VIEW.owned_by(gateway, at_ms) is owned


def test_slack_widens_what_was():
    assert VIEW.owned_by("gw-old", 2_400, slack_ms=500)
    assert VIEW.owned_by("gw-old", 600, slack_ms=500)
    assert not VIEW.owned_by("gw-old", 2_500, slack_ms=500)


@pytest.mark.parametrize(
    ("status", "reason"),
    [
        (Status.PENDING, Reason.PENDING),
        (Status.QUARANTINED, Reason.QUARANTINED),
        (Status.SUSPENDED, Reason.SUSPENDED),
        (Status.RETIRED, Reason.RETIRED),
        (Status.ACTIVE, None),
        (Status.PROVISIONED, None),
    ],
)
def test_who_is_not_heard(status, reason):
    why = refusal(status)
    assert (why and why.reason) == reason
