import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from control_plane.analytics.job import MemoryState
from control_plane.analytics.recent_messages import AT_LEAST, AT_MOST, PARTS, WINDOW_S, Recent

NOW_MS = 1_790_000_000_000


def hear(state, name, at_ms=NOW_MS):
    recent = Recent(state, str(name))
    if not recent.known:
        recent.remember(at_ms)


def knows(state, name):
    return Recent(state, str(name)).known


@pytest.mark.parametrize("per_s", [1, 5, 60])
def test_what_came_within_the_window_is_known(per_s):
    state = MemoryState()
    count = per_s * WINDOW_S * 3
    for n in range(count):
        hear(state, n, NOW_MS + n * 1_000 // per_s)
    assert all(knows(state, n) for n in range(count - per_s * WINDOW_S, count))
    size = sum(map(len, state.values.values()))
    assert size < 12 * (per_s * WINDOW_S + 2 * AT_LEAST * PARTS) + 12 * PARTS * per_s


def test_of_what_is_old_some_newest_are_known():
    state = MemoryState()
    for n in range(1_000):
        hear(state, n, NOW_MS + n * 3_600_000)
    assert all(knows(state, n) for n in range(970, 1_000))
    assert not any(knows(state, n) for n in range(500))
    assert sum(map(len, state.values.values())) <= 12 * AT_LEAST * PARTS


def test_a_flood_is_bounded():
    state = MemoryState()
    for n in range(3 * AT_MOST * PARTS):
        hear(state, n)
    assert max(map(len, state.values.values())) == 12 * AT_MOST
    assert len(state.values) == PARTS
    assert all(knows(state, n) for n in range(3 * AT_MOST * PARTS - 1_000, 3 * AT_MOST * PARTS))


@given(st.lists(st.tuples(st.integers(0, 40), st.integers(0, 10**15)), max_size=60))
def test_nothing_unheard_is_known_whatever_the_times(heard):
    state = MemoryState()
    for name, at_ms in heard:
        hear(state, name, at_ms)
        assert knows(state, name)
    names = {name for name, _ in heard}
    assert not any(knows(state, name) for name in range(41) if name not in names)


def test_a_match_across_two_messages_is_none():
    source = random.Random(1)
    state = MemoryState()
    recent = Recent(state, "x")
    # The identity stands in the part, but not where a message begins.
    state.values[recent._place] = source.randbytes(5) + recent._id + source.randbytes(11)
    assert not knows(state, "x")
