import pytest

from shared.fault import place_of


def fail(secret):
    raise KeyError(secret)


def test_it_says_where_and_nothing_of_what():
    with pytest.raises(KeyError) as caught:
        fail("dev-1 and its payload")
    text = place_of(caught.value)
    assert text.startswith("KeyError at shared/test_fault.py:7 in fail < shared/test_fault.py:12 in test_it_says")
    assert "dev-1" not in text


def test_the_innermost_places_are_kept():
    def deep(left):
        return deep(left - 1) if left else 1 / 0

    with pytest.raises(ZeroDivisionError) as caught:
        deep(50)
    assert place_of(caught.value).count(" in deep") == 6


def test_what_was_never_raised_has_no_place():
    assert place_of(ValueError("x")) == "ValueError"
