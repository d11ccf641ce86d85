import pytest

from deploy.demo.judge import Alarm, Count, Episode, Ledger, Refused, Sent, Visible, count, explain, percentile


def sent(n, *, code=0, device="d", sha256=None):
    return Sent(device, n, 1_000 + n, code, sha256)


def visible(n, *, device="d", ce_id=None, lane="live", resent=False, at=None):
    return Visible(device, n, ce_id or f"{device}:{n}", lane, resent, at if at is not None else 1_010 + n)


def run(sent=(), visible=(), refused=(), alarms=(), episodes=(), ledgers=()):
    return count(list(sent), list(visible), list(refused), list(alarms), list(episodes), list(ledgers))


def test_what_arrived_once_is_neither_lost_nor_doubled():
    result = run([sent(1), sent(2)], [visible(1), visible(2)])
    assert (result.accepted, result.normalized, result.lost, result.duplicates) == (2, 2, 0, 0)
    assert result.failures() == []


def test_accepted_and_absent_is_lost_but_not_accepted_and_absent_is_not():
    assert run([sent(1), sent(2, code=None), sent(3, code=0x87)], []).lost == 1


def test_what_a_broker_took_for_nobody_was_not_accepted_and_is_told():
    result = run([sent(1), sent(2, code=0x10)], [visible(1)])
    assert (result.accepted, result.lost, result.for_nobody) == (1, 0, 1)


def test_a_rejected_one_is_not_lost():
    assert run([sent(1)], [], [Refused("d", 1, "d:1", "")]).lost == 0
    assert run([sent(1, sha256="ab")], [], [Refused("d", None, "x", "ab")]).lost == 0
    assert run([sent(1, sha256="ab", device="e")], [], [Refused("d", None, "x", "ab")]).lost == 1


def test_a_malformed_message_is_told_apart_from_the_reading_that_it_follows():
    both = [sent(1), sent(1, sha256="ab")]
    assert run(both, [visible(1)]).lost == 1, "the reading's arrival says nothing of the malformed message"
    assert run(both, [visible(1)]).accepted == 2
    assert run(both, [visible(1)], [Refused("d", None, "x", "ab")]).lost == 0
    assert run(both, [], [Refused("d", None, "x", "ab")]).lost == 1


def test_the_figures_are_over_one_key_and_add_up():
    result = run(
        [sent(1), sent(2), sent(2, sha256="ab"), sent(3, code=None), sent(4), sent(5, code=None)],
        [visible(1), visible(2), visible(3), visible(None, device="gw", ce_id="gw:e:1:0", at=5)],
        [Refused("d", None, "x", "ab")],
    )
    assert (result.accepted, result.normalized, result.rejected, result.lost) == (4, 3, 1, 1)
    assert (result.unacknowledged, result.health) == (1, 1)
    assert result.accepted + result.unacknowledged == result.normalized + result.rejected + result.lost


def test_a_reading_shown_twice_is_one_reading_and_one_duplicate():
    result = run([sent(1)], [visible(1, ce_id="a"), visible(1, ce_id="b")])
    assert (result.normalized, result.duplicates) == (1, 1)


def test_a_refused_message_that_shows_twice_is_doubled_too():
    assert run([], [], [Refused("d", None, "x", "ab"), Refused("d", None, "y", "ab")]).duplicates == 1


def test_the_agents_ledger_is_held_against_the_topics():
    seen = [visible(1, ce_id="gw:epoch:1:0"), visible(2, ce_id="gw:epoch:1:1")]
    assert run([], seen, ledgers=[Ledger("gw", 2, 2)]).lost == 0
    assert run([], seen, ledgers=[Ledger("gw", 5, 5)]).lost == 3


def test_the_same_reading_twice_is_doubled_whatever_its_id():
    assert run([sent(1)], [visible(1, ce_id="a"), visible(1, ce_id="b")]).duplicates == 1
    assert run([sent(1)], [visible(1)], [Refused("d", 1, "x", "")]).duplicates == 1


def test_the_same_event_twice_is_doubled_though_it_has_no_number():
    twice = [visible(None, ce_id="gw:e:1:0", at=5), visible(None, ce_id="gw:e:1:0", at=5)]
    assert run([], twice).duplicates == 1


def test_an_alarm_within_the_episode_and_its_grace_is_a_find_and_several_are_one():
    episode = Episode("d", "t", "spike", 10_000, 11_000)
    alarms = [Alarm("d", "t", at) for at in (10_000, 10_500, 21_000)]
    result = run(visible=[visible(1)], alarms=alarms, episodes=[episode])
    assert (result.anomalies_detected, result.false_alarms) == (1, 0)


@pytest.mark.parametrize(
    "alarm", [Alarm("d", "t", 9_999), Alarm("d", "t", 21_001), Alarm("e", "t", 10_500), Alarm("d", "u", 10_500)]
)
def test_any_other_alarm_is_false(alarm):
    result = run(alarms=[alarm], episodes=[Episode("d", "t", "spike", 10_000, 11_000)])
    assert (result.anomalies_detected, result.false_alarms) == (0, 1)


def test_one_alarm_finds_one_episode():
    episodes = [Episode("d", "t", "spike", 0, 1_000), Episode("d", "t", "spike", 5_000, 6_000)]
    assert run(alarms=[Alarm("d", "t", 5_500)], episodes=episodes).anomalies_detected == 1


def test_latency_is_of_live_batches_that_were_not_resent():
    seen = [visible(1, at=1_051), visible(2, at=9_999, resent=True), visible(3, at=3_003, lane="replay")]
    result = run([sent(1), sent(2), sent(3)], seen)
    assert (result.p50_ms, result.p99_ms, result.replay_p99_ms) == (50.0, 50.0, 2_000.0)


def test_percentile_is_nearest_rank():
    assert percentile([], 0.5) is None
    assert percentile([3.0, 1.0, 2.0], 0.5) == 2.0
    assert percentile(list(range(100)), 0.99) == 99


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"lost": 1}, "neither"),
        ({"duplicates": 1}, "more than once"),
        ({"anomalies_detected": 15}, "only 15 of 20"),
        ({"false_alarms": 3}, "false alarms"),
        ({"normalized": 0, "false_alarms": 0}, "nothing arrived"),
    ],
)
def test_each_broken_promise_fails_the_run(change, word):
    kept = {
        "accepted": 1_000, "normalized": 1_000, "rejected": 0, "lost": 0, "duplicates": 0, "unacknowledged": 0,
        "for_nobody": 0, "health": 0, "anomalies_injected": 20,
        "anomalies_detected": 16, "false_alarms": 2, "p50_ms": 1.0, "p99_ms": 1.0, "replay_p99_ms": None,
    }  # fmt: skip
    assert Count(**kept).failures() == []
    (failure,) = Count(**(kept | change)).failures()
    assert word in failure


def test_a_bad_count_is_explained_line_by_line():
    episode = Episode("d", "t", "spike", 10_000, 11_000)
    lines = explain([sent(1), sent(2)], [visible(1)], [], [Alarm("e", "t", 10_500)], [episode], [Ledger("gw", 2, 2)])
    assert lines == [
        "lost: d 2",
        "lost: 2 of 2 records that gw accepted",
        "missed: spike on d, 10000 to 11000",
        "false: e t at 10500",
    ]
    assert explain([sent(1)], [visible(1)], [], [Alarm("d", "t", 10_500)], [episode], []) == []
