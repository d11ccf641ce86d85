import pytest

from shared.recent import Recent, identity


def test_the_oldest_is_forgotten_first():
    recent = Recent(2)
    assert recent.add(b"a")
    assert recent.add(b"b")
    assert not recent.add(b"a")
    assert recent.add(b"c")
    assert b"a" not in recent
    assert b"b" in recent
    assert len(recent) == 2


def test_a_seed_is_remembered_up_to_capacity():
    recent = Recent(2, [b"a", b"b", b"c"])
    assert [item in recent for item in (b"a", b"b", b"c")] == [False, True, True]


@pytest.mark.parametrize(("left", "right"), [((b"ab", b"c"), (b"a", b"bc")), ((b"a",), (b"a", b"")), ((), (b"",))])
def test_parts_are_told_apart(left, right):
    assert identity(*left) != identity(*right)


def test_an_identity_is_stable_and_short():
    assert identity(b"a", b"b") == identity(b"a", b"b")
    assert len(identity(b"a")) == 16
