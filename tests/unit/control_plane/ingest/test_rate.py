"""Events per second."""

from control_plane.ingest.rate import Rate


def test_the_mean_over_the_whole_seconds_before_this_one():
    rate = Rate(10)
    for second in range(100, 110):
        rate.add(second + 0.3, 20)
        rate.add(second + 0.9, 30)
    rate.add(110.5, 7_000)  # this second is not over
    assert rate.per_s(110.9) == 50
    assert rate.per_s(111.0) == (9 * 50 + 7_000) / 10


def test_silence_is_zero():
    rate = Rate(10)
    assert rate.per_s(5.0) == 0
    rate.add(5.0, 100)
    assert rate.per_s(15.9) == 10
    assert rate.per_s(16.0) == 0


def test_memory_is_bounded():
    rate = Rate(10)
    for second in range(1_000):
        rate.add(second, 1)
    assert len(rate._buckets) == 11
    assert rate.per_s(1_000) == 1
