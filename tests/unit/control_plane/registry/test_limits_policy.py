import msgspec
import pytest

from control_plane.registry.limits_policy import LimitsPolicy
from shared.rates import DEVICE, GATEWAY


def test_the_defaults_keep_the_rules():
    assert LimitsPolicy().problems() == []
    assert (LimitsPolicy().device, LimitsPolicy().gateway) == (DEVICE, GATEWAY)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("messages_per_s", 0.0),
        ("bytes_per_s", -1.0),
        ("readings_per_s", 1e10),
        ("burst_s", 0.0),
        ("burst_s", 1e9),
        ("burst_s", float("nan")),
    ],
)
def test_no_figure_is_out_of_bounds(field, value):
    device = msgspec.structs.replace(DEVICE, **{field: value})
    found = LimitsPolicy(device=device).problems()
    assert [error.pointer for error in found] == [f"/device/{field}"]
