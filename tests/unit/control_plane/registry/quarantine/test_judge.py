"""When signs come to a verdict, and when they never do."""

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from control_plane.registry.quarantine.evidence import Observation
from control_plane.registry.quarantine.judge import SAMPLES, Judge
from control_plane.registry.quarantine.rules import QuarantinePolicy, Rule, Rules, Threshold

NOW = 1_790_000_000_000
POLICY = QuarantinePolicy(grace_s=30, rules=Rules(flood=Threshold(10, 60, 300)))


def sign(at_ms=NOW, device="d", rule=Rule.FLOOD, signs=1, behind=None, sample="0"):
    return Observation(device, rule, at_ms, signs, behind, sample)


def verdicts(judge, *seen, now_ms=NOW):
    return [found for item in seen if (found := judge.look(item, now_ms)) is not None]


def test_as_many_as_the_policy_says_and_the_evidence_says_what_was_counted():
    judge = Judge(POLICY)
    assert verdicts(judge, *[sign()] * 9) == []
    (verdict,) = verdicts(judge, sign(sample="last", behind="gw"))
    assert (verdict.device_id, verdict.rule, verdict.for_s, verdict.behind) == ("d", Rule.FLOOD, 300, "gw")
    assert verdict.evidence == {
        "rule": "flood", "count": 10, "threshold": 10, "window_s": 60, "behind": "gw",
        "samples_sha256": ["0"] * (SAMPLES - 1) + ["last"],
    }  # fmt: skip
    assert verdicts(judge, *[sign()] * 9) == [], "what led to a verdict is used up"


def test_devices_and_rules_are_counted_apart():
    judge = Judge(POLICY)
    assert verdicts(judge, *[sign(device=str(number)) for number in range(100)]) == []
    assert verdicts(judge, *[sign()] * 9, *[sign(rule=Rule.MALFORMED_RATE)] * 9) == []


def test_what_is_older_than_the_window_never_counts_however_late_it_is_read():
    judge = Judge(POLICY)
    assert verdicts(judge, *[sign(NOW - 61_000)] * 1_000) == []
    assert verdicts(judge, *[sign(NOW + 3_600_000)] * 1_000) == [], "a time that cannot be either"
    assert len(judge) == 0


@given(st.lists(st.integers(0, 600_000), min_size=10, max_size=60))
def test_a_verdict_has_its_count_within_the_window_and_a_slice(times):
    judge = Judge(POLICY)
    for number, at_ms in enumerate(sorted(times)):
        found = judge.look(sign(NOW + at_ms), NOW + at_ms)
        if found is not None:
            within = [time for time in sorted(times)[: number + 1] if time > at_ms - 65_000 - 60_000]
            assert len(within) >= 10


def test_slow_misbehaviour_below_the_rate_is_none():
    judge = Judge(POLICY)
    for number in range(500):
        at_ms = NOW + number * 8_000
        assert judge.look(sign(at_ms), at_ms) is None


def test_after_a_release_and_in_its_grace_nothing_counts():
    judge = Judge(POLICY)
    verdicts(judge, *[sign(NOW - 1_000)] * 9)
    judge.released("d", NOW)
    assert judge.pardoned("d", NOW + 29_000)
    assert not judge.pardoned("d", NOW + 30_000)
    later = NOW + 31_000
    assert verdicts(judge, *[sign(NOW - 1_000)] * 50, *[sign(NOW + 20_000)] * 50, now_ms=later) == []
    assert verdicts(judge, *[sign(later)] * 9, now_ms=later) == []
    assert len(verdicts(judge, sign(later), now_ms=later)) == 1


def test_a_rule_or_a_policy_that_is_off_sees_nothing():
    judge = Judge(POLICY)
    assert verdicts(judge, *[sign(rule=Rule.IMPOSSIBLE_CLOCK)] * 10_000) == []
    judge.policy = msgspec.structs.replace(POLICY, enabled=False)
    assert verdicts(judge, *[sign()] * 100) == []


def test_one_message_may_hold_many_signs():
    assert len(verdicts(Judge(POLICY), sign(signs=10))) == 1


def test_the_memory_is_bounded():
    judge = Judge(POLICY, remembered=100)
    verdicts(judge, *[sign(device=str(number)) for number in range(5_000)])
    assert len(judge) == 100


def test_a_restart_that_reads_again_comes_to_the_same():
    seen = [sign(NOW + number * 100) for number in range(25)]
    first = Judge(POLICY)
    once = [first.look(item, item.at_ms) for item in seen]
    again = Judge(POLICY)
    twice = [again.look(item, NOW + 3_000) for item in seen]
    assert [found is not None for found in once] == [found is not None for found in twice]
