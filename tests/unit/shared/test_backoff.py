from hypothesis import given
from hypothesis import strategies as st

from shared.backoff import Backoff


def test_the_bound_doubles_up_to_the_cap():
    backoff = Backoff(first_s=1.0, cap_s=10.0)
    assert [backoff.bound_s(attempt) for attempt in range(6)] == [1.0, 2.0, 4.0, 8.0, 10.0, 10.0]


@given(st.integers(0, 10**6), st.floats(0, 1, exclude_max=True))
def test_a_delay_lies_between_zero_and_its_bound(attempt, unit):
    backoff = Backoff(first_s=0.5, cap_s=300.0)
    assert 0 <= backoff.delay_s(attempt, unit) <= backoff.bound_s(attempt) <= 300.0


def test_jitter_is_full():
    backoff = Backoff(first_s=8.0, cap_s=8.0)
    assert backoff.delay_s(0, 0.0) == 0.0
    assert backoff.delay_s(0, 0.5) == 4.0
