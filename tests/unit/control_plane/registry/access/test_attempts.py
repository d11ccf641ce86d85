"""Buckets of failures: how many are allowed, when again, and in how much memory."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from control_plane.registry.access.attempts import Buckets, Budget, neighbourhood, retry_after_s

SMALL = Budget(burst=3, every_s=10.0, remembered=4)


def test_a_burst_and_then_one_each_so_often() -> None:
    buckets = Buckets(SMALL)
    for _ in range(3):
        assert buckets.wait_s("a", 100.0) == 0
        buckets.spend("a", 100.0)
    assert buckets.wait_s("a", 100.0) == pytest.approx(10.0)
    assert buckets.wait_s("a", 104.0) == pytest.approx(6.0)
    assert buckets.wait_s("b", 104.0) == 0
    assert buckets.wait_s("a", 110.0) == 0
    buckets.spend("a", 110.0)
    assert buckets.wait_s("a", 110.0) == pytest.approx(10.0)
    assert buckets.wait_s("a", 200.0) == 0


def test_memory_is_bounded_and_the_longest_unheard_is_forgotten() -> None:
    buckets = Buckets(SMALL)
    for _ in range(3):
        buckets.spend("a", 0.0)
    for name in "bcd":
        buckets.spend(name, 1.0)
    buckets.spend("a", 2.0)  # heard again: not the oldest any more
    buckets.spend("e", 3.0)
    assert len(buckets) == 4
    assert buckets.wait_s("a", 3.0) > 0
    for number in range(1000):
        buckets.spend(str(number), 4.0)
    assert len(buckets) == 4


@given(st.lists(st.floats(0, 5), min_size=1, max_size=60))
def test_in_any_time_no_more_pass_than_the_budget_says(gaps: list[float]) -> None:
    buckets, now, passed = Buckets(SMALL), 0.0, 0
    for gap in gaps:
        now += gap
        if buckets.wait_s("a", now) <= 0:
            passed += 1
            buckets.spend("a", now)
    assert passed <= SMALL.burst + now / SMALL.every_s + 1e-6


@pytest.mark.parametrize(
    ("source", "whose"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("unix", "unix"),
        (None, ""),
    ],
)
def test_whose_budget_an_address_uses(source: str | None, whose: str) -> None:
    assert neighbourhood(source) == whose


def test_retry_after_is_never_now() -> None:
    assert [retry_after_s(wait) for wait in (0.0, 0.2, 1.0, 5.1)] == [1, 1, 1, 6]
