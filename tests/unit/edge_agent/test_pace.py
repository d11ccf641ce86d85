import pytest

from edge_agent.pace import Bucket, probe_delay_s, resend_delay_s


def test_a_bucket_fills_at_its_rate_up_to_its_burst():
    bucket = Bucket.full(10.0, 20.0, now_s=100.0).take(25)
    assert bucket.level == -5
    assert bucket.at(100.0).level == -5
    assert bucket.at(101.0).level == 5
    assert bucket.at(1_000.0).level == 20


def test_time_that_runs_backwards_gives_nothing():
    bucket = Bucket.full(10.0, 20.0, now_s=100.0).take(20)
    assert bucket.at(50.0).level == 0
    assert bucket.at(50.0).at(100.0).level == 0


@pytest.mark.parametrize(("attempt", "least", "most"), [(0, 30, 60), (1, 60, 120), (4, 450, 900), (99, 450, 900)])
def test_resends_wait_a_minute_doubling_to_a_quarter_of_an_hour(attempt, least, most):
    assert resend_delay_s(attempt, 0.0) == least
    assert least < resend_delay_s(attempt, 0.999) < most


@pytest.mark.parametrize(("attempt", "least", "most"), [(0, 0.5, 1), (1, 1, 2), (5, 15, 30), (10**6, 15, 30)])
def test_probes_wait_a_second_doubling_to_half_a_minute(attempt, least, most):
    assert probe_delay_s(attempt, 0.0) == least
    assert least < probe_delay_s(attempt, 0.999) < most
