import pytest

from shared.device import Kind, Limits
from shared.rates import DEVICE, GATEWAY, Defaults, Rates, decode_defaults, encode_defaults, over

POLICY = Defaults(
    version=3,
    device=Rates(5.0, 500.0, 50.0, 4.0),
    gateway=Rates(7.0, 700.0, 70.0, 8.0),
    types={"thermometer": Limits(messages_per_s=2.0), "gateway": Limits(readings_per_s=9.0)},
)


def test_who_knows_nothing_takes_the_defaults():
    assert Defaults().rates(Kind.DEVICE, None, None) == DEVICE
    assert Defaults().rates(Kind.GATEWAY, "gateway", None) == GATEWAY


@pytest.mark.parametrize(
    ("kind", "device_type", "own", "expected"),
    [
        (Kind.DEVICE, None, None, Rates(5.0, 500.0, 50.0, 4.0)),
        (Kind.DEVICE, "unheard-of", None, Rates(5.0, 500.0, 50.0, 4.0)),
        (Kind.DEVICE, "thermometer", None, Rates(2.0, 500.0, 50.0, 4.0)),
        (Kind.DEVICE, "thermometer", Limits(messages_per_s=1.0), Rates(1.0, 500.0, 50.0, 4.0)),
        (Kind.DEVICE, "thermometer", Limits(bytes_per_s=9.0), Rates(2.0, 9.0, 50.0, 4.0)),
        (Kind.GATEWAY, "gateway", None, Rates(7.0, 700.0, 9.0, 8.0)),
        (Kind.GATEWAY, "gateway", Limits(readings_per_s=3.0), Rates(7.0, 700.0, 3.0, 8.0)),
    ],
)
def test_own_before_type_before_policy_each_figure_by_itself(kind, device_type, own, expected):
    assert POLICY.rates(kind, device_type, own) == expected


def test_no_limits_change_nothing():
    assert over(DEVICE, None) is DEVICE


def test_the_record_reads_as_it_was_written():
    assert decode_defaults(encode_defaults(POLICY)) == POLICY
    assert decode_defaults(b"{}") == Defaults()
