import pytest

from deploy.bench.conditions import per_reading, rate_held
from shared.errors import Permanent


def test_a_rate_is_held_within_two_hundredths():
    rate_held(20_000, 1_000.0, 20.0)
    rate_held(19_600, 1_000.0, 20.0)
    with pytest.raises(Permanent, match=r"19,599 messages were taken of the 20,000"):
        rate_held(19_599, 1_000.0, 20.0)


def test_nothing_written_is_no_figure():
    assert per_reading(300, 3, "written") == 100.0
    with pytest.raises(Permanent, match="written: 0 bytes"):
        per_reading(0, 3_000, "written")
    with pytest.raises(Permanent):
        per_reading(100, 0, "written")
