import msgspec
import pytest

from control_plane.registry.quarantine.rules import LONGEST_WINDOW_S, QuarantinePolicy, Rule, Rules, Threshold


def test_the_defaults_keep_the_rules_and_cover_each_rule():
    policy = QuarantinePolicy()
    assert policy.problems() == []
    assert set(Rules.__struct_fields__) == {rule.value for rule in Rule}


def test_what_is_off_is_not_looked_for():
    policy = QuarantinePolicy()
    assert policy.threshold(Rule.IMPOSSIBLE_CLOCK) is None
    assert policy.threshold(Rule.FLOOD) is not None
    off = msgspec.structs.replace(policy, enabled=False)
    assert [off.threshold(rule) for rule in Rule] == [None] * len(Rule)


@pytest.mark.parametrize(
    ("threshold", "place"),
    [
        (Threshold(0, 60), "count"),
        (Threshold(1_000_001, 60), "count"),
        (Threshold(1, 0), "window_s"),
        (Threshold(1, LONGEST_WINDOW_S + 1), "window_s"),
        (Threshold(1, 60, 0), "for_s"),
    ],
)
def test_bounds(threshold, place):
    policy = QuarantinePolicy(rules=Rules(flood=threshold))
    assert [error.pointer for error in policy.problems()] == [f"/rules/flood/{place}"]


def test_the_grace_has_bounds_and_an_end_may_be_left_open():
    assert [error.pointer for error in QuarantinePolicy(grace_s=-1).problems()] == ["/grace_s"]
    assert QuarantinePolicy(rules=Rules(flood=Threshold(1, 60, None))).problems() == []
