from hypothesis import given
from hypothesis import strategies as st

from control_plane.analytics import recent_ids


def test_the_newest_are_remembered():
    ring = b""
    for n in range(10):
        ring = recent_ids.add(ring, recent_ids.short(str(n)), 4)
    assert [recent_ids.contains(ring, recent_ids.short(str(n))) for n in range(10)] == [False] * 6 + [True] * 4
    assert len(ring) == 4 * recent_ids.SIZE


def test_a_match_across_two_neighbours_is_none():
    ring = b"AAAABBBBCCCCDDDD"
    assert not recent_ids.contains(ring, b"BBBBCCCC")
    assert recent_ids.contains(ring + b"BBBBCCCC", b"BBBBCCCC")


@given(st.lists(st.sampled_from("abcdefgh"), max_size=30), st.integers(1, 6))
def test_it_is_a_sliding_window(names, capacity):
    ring = b""
    for name in names:
        ring = recent_ids.add(ring, recent_ids.short(name), capacity)
    newest = names[-capacity:]
    assert {name for name in "abcdefgh" if recent_ids.contains(ring, recent_ids.short(name))} == set(newest)
