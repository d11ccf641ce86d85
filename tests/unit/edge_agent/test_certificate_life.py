"""When a certificate is renewed."""

import pytest

from edge_agent.certificate_life import LONGEST_WAIT_S, Life, due, failed, wait_s

DAY = 86_400.0
WEEK = Life(0.0, 7 * DAY, 0.0)


def test_at_two_thirds_and_a_little_later_by_chance() -> None:
    assert WEEK.renew_at == pytest.approx(7 * DAY * 2 / 3)
    latest = Life(0.0, 7 * DAY, 1.0)
    assert latest.renew_at == pytest.approx(7 * DAY * 3 / 4)
    assert not due(WEEK, 4 * DAY)
    assert due(WEEK, 5 * DAY)
    assert due(WEEK, 100 * DAY)  # ended long ago: all the more


def test_the_clock_is_looked_at_again_and_again() -> None:
    """In 1970 the renewal seems decades away; an hour after the clock was set it is done."""
    later = Life(50 * 365 * DAY, 50 * 365 * DAY + 7 * DAY, 0.0)
    assert wait_s(later, 0.0, 0.5) == LONGEST_WAIT_S
    assert wait_s(WEEK, WEEK.renew_at - 10, 0.5) == pytest.approx(10)
    assert wait_s(WEEK, 6 * DAY, 0.5) == 0.0


def test_after_a_failure_it_backs_off_and_never_gives_up() -> None:
    life, longest = WEEK, []
    for _ in range(20):
        life = failed(life)
        longest.append(wait_s(life, 6 * DAY, 1.0))
    assert longest == sorted(longest)
    assert longest[0] <= 60
    assert longest[-1] <= 3_600
    assert wait_s(life, 6 * DAY, 0.01) < longest[-1]
