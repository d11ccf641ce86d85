import time

from shared.bounded import Bounded


def test_it_forgets_whoever_was_kept_longest_ago():
    found = Bounded(2)
    assert found.keep("a", 1) is None
    assert found.keep("b", 2) is None
    assert found.keep("a", 3) is None
    assert found.keep("c", 4) == ("b", 2)
    assert dict(found) == {"a": 3, "c": 4}
    assert found.pop("a") == 3
    assert found.keep("d", 5) is None


def test_forgetting_takes_the_same_time_however_many_were_forgotten():
    found = Bounded(20_000)
    for number in range(20_000):
        found.keep(number, None)
    started = time.perf_counter()
    for number in range(20_000, 60_000):
        found.keep(number, None)
    assert time.perf_counter() - started < 5.0, "a plain dictionary takes minutes"
    assert (len(found), 39_999 in found, 40_000 in found) == (20_000, False, True)
