import itertools

from hypothesis import given
from hypothesis import strategies as st

from control_plane.analytics import number_ranges as numbers

SMALL = st.integers(1, 40)


def ranges_of(found):
    made = ()
    for number in found:
        made = numbers.add(made, number, number)
    return made


def set_of(ranges):
    return {number for first, last in ranges for number in range(first, last + 1)}


SETS = st.lists(SMALL)


@given(SETS, SMALL, SMALL)
def test_a_range_is_added_as_to_a_set_and_the_form_stays_canonical(found, a, b):
    first, last = min(a, b), max(a, b)
    made = numbers.add(ranges_of(found), first, last)
    assert set_of(made) == set(found) | set(range(first, last + 1))
    assert all(left[1] + 1 < right[0] for left, right in itertools.pairwise(made))
    assert all(first <= last for first, last in made)


@given(SETS, SETS, SMALL, SMALL)
def test_all_answers_are_those_of_sets(left, right, a, b):
    x, y = ranges_of(left), ranges_of(right)
    first, last = min(a, b), max(a, b)
    span = set(range(first, last + 1))
    assert set_of(numbers.clip(x, first, last)) == set(left) & span
    assert set_of(numbers.missing(x, first, last)) == span - set(left)
    assert set_of(numbers.since(x, first)) == {n for n in left if n >= first}
    assert set_of(numbers.both(x, y)) == set(left) & set(right)
    assert set_of(numbers.without(x, y)) == set(left) - set(right)
    assert numbers.count(x) == len(set(left))
    assert numbers.contains(x, a) == (a in left)


def test_a_claim_of_ten_to_the_seventeen_costs_one_pair():
    assert numbers.missing(((5, 5),), 1, 10**17) == ((1, 4), (6, 10**17))
