"""What the flood promises; the whole story on real servers: tests/stack/test_demo.py."""

import pytest

from deploy.demo import flood


@pytest.mark.parametrize(
    ("found", "count"),
    [({"quarantined": 1, "refused": 5}, 0), ({"quarantined": 0, "refused": 5}, 1), ({}, 2)],
)
def test_it_is_a_failure_if_nobody_was_quarantined_or_nothing_refused(found, count):
    assert len(flood.failures(found)) == count


def test_each_of_its_readings_is_another():
    assert flood._reading(1) != flood._reading(2)
