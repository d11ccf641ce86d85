"""What each happening changes, and what it does not."""

import itertools
from dataclasses import replace

import pytest

from edge_agent.ledger import Ledger
from edge_agent.pace import probe_delay_s, resend_delay_s
from edge_agent.uplink import step
from edge_agent.uplink_state import (
    Acked,
    Appended,
    Disconnected,
    Expired,
    Formed,
    FoundEmpty,
    Hinted,
    Limits,
    Refused,
    Sent,
    Thinned,
    Tick,
    Unheard,
)
from shared.batch import Hint, Lane
from tests.unit.edge_agent.uplink_driver import OLD, Driver, E, OldEpoch, Saved, batch, counts, numbers


def flying(many: int, **bounds) -> Driver:
    """A connected uplink with so many live batches in flight."""
    uplink = Driver(limits=Limits(replay_start_s=0.0, **bounds))
    uplink.connect()
    for _ in range(many):
        uplink.rows(1)
        uplink.run()
    assert len(uplink.sends) == many
    return uplink


def test_only_an_acknowledgement_frees():
    uplink = flying(3)
    uplink.refuse(2)
    uplink.tell(Disconnected())
    uplink.later(10_000)
    uplink.run()
    assert set(uplink.state.batches) == {(E, 1), (E, 2), (E, 3)}
    uplink.ack(2)
    assert set(uplink.state.batches) == {(E, 1), (E, 3)}
    assert [one.number for one in uplink.state.freeing] == [2]


def test_an_acknowledgement_of_what_is_not_known_changes_nothing():
    uplink = flying(2)
    before = uplink.state
    uplink.ack(3)
    uplink.ack(1, 2, epoch=OLD)
    assert uplink.state is before
    uplink.ack(1)
    uplink.ack(1)
    assert uplink.state.ledger.acked == counts(1)


def test_acknowledgements_may_come_while_disconnected():
    uplink = flying(2)
    uplink.tell(Disconnected())
    uplink.ack(1)
    assert set(uplink.state.batches) == {(E, 2)}


def test_what_was_overtaken_is_sent_again_after_its_delay_and_only_that():
    uplink = flying(4)
    uplink.later(10)
    uplink.ack(3)
    assert uplink.run() == []
    uplink.later(resend_delay_s(0, 0.5) - 9.9)
    again = uplink.run()
    assert numbers(again) == [1, 2]
    assert all(send.resent for send in again)
    uplink.later(10)
    assert numbers(uplink.run()) == [4], "the back-stop alone sends what nothing has overtaken"
    uplink.later(resend_delay_s(1, 0.5))
    uplink.ack(4)
    assert 1 not in numbers(uplink.run()), "the acknowledged copy of 4 may be older than 1's second"


def test_an_acknowledged_resend_does_not_overtake_what_was_sent_between_its_copies():
    uplink = flying(1)
    uplink.later(resend_delay_s(0, 0.5) - 1)
    uplink.rows(1)
    uplink.run()
    uplink.later(1.1)
    assert numbers(uplink.run()) == [1], "back-stop"
    uplink.ack(1)
    assert uplink.state.link.acked_high == 0
    uplink.later(resend_delay_s(0, 0.5) - 1.0)
    assert uplink.run() == []


def test_the_back_stop_sends_the_oldest_alone_and_doubles():
    uplink = flying(3)
    waits = [resend_delay_s(attempt, 0.5) for attempt in range(6)]
    times = []
    start = uplink.state.now
    while len(times) < 5:
        uplink.later(1)
        times += [(send.batch.number, uplink.state.now - start) for send in uplink.run()]
    assert [number for number, _ in times] == [1, 2, 3, 1, 2]
    gaps = [after - before for (_, before), (_, after) in itertools.pairwise(times)]
    assert gaps == pytest.approx(waits[1:5], abs=1.5)
    uplink.ack(3)
    assert uplink.state.link.backstops == 0


def test_a_window_full_of_what_was_lost_is_freed_by_the_back_stop_though_others_wait_for_a_place():
    uplink = flying(8)
    uplink.reconnect()
    uplink.state = replace(uplink.state, link=replace(uplink.state.link, window=4))
    assert numbers(uplink.run()) == [1, 2, 3, 4]
    uplink.later(resend_delay_s(0, 0.5) + 0.1)
    assert numbers(uplink.run()) == [1]
    uplink.ack(1)
    assert numbers(uplink.run())[:1] == [5]


def test_a_refused_batch_goes_again_by_itself_and_holds_up_nobody():
    uplink = flying(2)
    uplink.refuse(2)
    uplink.rows(1)
    assert numbers(uplink.run()) == [3]
    uplink.ack(1, 3)
    assert uplink.run() == [], "one refusal is its own affair"
    uplink.later(resend_delay_s(0, 0.5) + 0.1)
    assert numbers(uplink.run()) == [2]
    uplink.refuse(2)
    uplink.later(resend_delay_s(0, 0.5) + 0.1)
    assert uplink.run() == []
    uplink.later(resend_delay_s(1, 0.5))
    assert numbers(uplink.run()) == [2]


def test_when_a_common_cause_of_refusals_is_mended_all_go_at_once_and_in_order():
    uplink = flying(6)
    for number in (3, 1, 2, 5, 4):
        uplink.refuse(number)
    assert uplink.run() == []
    uplink.ack(6)
    assert numbers(uplink.run()) == [1, 2, 3, 4, 5]


def waits(uplink: Driver, number: int, times: int) -> list[float]:
    """Refuse this batch each time that it is sent; the seconds until it was sent again."""
    found = []
    for _ in range(times):
        uplink.unheard(number)
        before = uplink.state.now
        while not (sent := numbers(uplink.run())):
            uplink.later(0.1)
        assert sent == [number]
        found.append(uplink.state.now - before)
    return found


def test_where_nobody_listens_only_the_lowest_goes_again_and_soon():
    uplink = flying(3)
    for number in (1, 2, 3):  # one burst, so one reason to wait
        uplink.unheard(number)
    uplink.rows(5)
    assert uplink.run() == []
    expected = [probe_delay_s(attempt, 0.5) for attempt in range(7)]
    uplink.later(expected[0] + 0.1)
    assert numbers(uplink.run()) == [1]
    assert waits(uplink, 1, 6) == pytest.approx(expected[1:], abs=0.2)
    assert expected[-1] == 22.5
    assert set(uplink.state.batches) == {(E, 1), (E, 2), (E, 3)}, "nothing is formed"


def test_when_somebody_listens_all_go_at_once_in_order_before_what_is_new():
    uplink = flying(3)
    uplink.unheard(2)
    uplink.rows(1)
    uplink.later(1)
    assert numbers(uplink.run()) == [1]
    uplink.ack(1)
    assert numbers(uplink.run()) == [2, 3, 4]
    uplink.unheard(4)
    assert waits(uplink, 2, 1)[0] < 1, "the waits begin anew"


def test_only_what_the_hub_took_in_this_connection_tells_that_somebody_listens():
    uplink = flying(4)
    uplink.unheard(1)
    uplink.ack(4)  # of the burst, from before
    uplink.later(1)
    assert numbers(uplink.run()) == [1]
    uplink.tell(Disconnected())
    uplink.ack(1)
    uplink.connect(heard=False)
    assert numbers(uplink.run()) == [2]
    uplink.unheard(1)  # not of this connection
    assert uplink.state.link.probes == 0
    uplink.refuse(2)
    uplink.ack(2)  # an earlier copy
    assert not uplink.state.link.heard


def test_a_listener_that_went_is_noticed_and_what_was_sent_to_it_goes_again_first():
    uplink = flying(6)
    uplink.state = replace(uplink.state, link=replace(uplink.state.link, window=200))
    uplink.ack(1, 2)
    uplink.unheard(5)
    uplink.later(1)
    assert numbers(uplink.run()) == [3]
    uplink.ack(3, 5)
    uplink.rows(1)
    assert numbers(uplink.run()) == [4, 6, 7]
    assert uplink.state.link.window == uplink.state.limits.first_window + 1, "as in a new connection"


def test_what_was_never_taken_counts_as_no_attempt():
    uplink = flying(1)
    waits(uplink, 1, 8)
    flight = uplink.state.link.flights[E, 1]
    assert flight.attempts == 1
    assert flight.resend_at - flight.sent_at == resend_delay_s(0, 0.5)
    uplink.later(resend_delay_s(0, 0.5) + 0.1)
    assert numbers(uplink.run()) == [1], "the back-stop"


def test_a_batch_that_is_refused_stops_its_lane_neither_heard_nor_unheard():
    uplink = flying(1)
    uplink.reconnect(heard=False)
    uplink.rows(1)
    uplink.run()
    uplink.refuse(1)
    uplink.later(probe_delay_s(0, 0.5) + 0.1)
    assert numbers(uplink.run()) == [2]
    uplink.ack(2)
    uplink.rows(1)
    assert numbers(uplink.run()) == [3]
    uplink.later(resend_delay_s(0, 0.5))
    assert 1 in numbers(uplink.run())


def test_refusals_of_everything_let_new_batches_try_one_by_one_and_slowly():
    uplink = flying(4)
    for number in (1, 2, 3, 4):
        uplink.refuse(number)
    tried = []
    for _ in range(200):
        uplink.rows(1)
        uplink.later(0.1)
        for number in numbers(uplink.run()):
            uplink.refuse(number)
            tried.append(number)
    assert tried == [5, 6]
    uplink.rows(1)
    uplink.later(10)
    assert numbers(uplink.run()) == [7]
    uplink.ack(7)
    assert numbers(uplink.run()) == [1, 2, 3, 4, 5], "in a small window"
    uplink.ack(1, 2, 3, 4, 5)
    assert numbers(uplink.run()) == [6]


def test_refusals_shrink_the_window():
    uplink = flying(8)
    before = uplink.state.link.window
    uplink.refuse(1)
    uplink.refuse(2)
    assert uplink.state.link.window == before // 4
    for number in range(3, 9):
        uplink.refuse(number)
    assert uplink.state.link.window == 4


def test_a_refusal_of_another_connection_means_nothing():
    uplink = flying(2)
    uplink.tell(Disconnected())
    before = uplink.state
    uplink.refuse(1)
    assert uplink.state is before


def test_a_send_of_what_was_acknowledged_meanwhile_means_nothing():
    uplink = flying(1)
    send = uplink.sends[0]
    uplink.ack(1)
    before = uplink.state
    uplink.tell(Sent(send, 0.5))
    assert uplink.state is before


def test_a_listing_counts_only_if_every_copy_made_it():
    saved = Saved(tail=10, ledger=Ledger().append(counts(10)), batches=(batch(OLD, 1, 1, 10),),
                  epochs=(OldEpoch(OLD, 1),))  # fmt: skip
    uplink = Driver(saved)
    uplink.connect()
    uplink.rows(1)
    uplink.run()
    uplink.ack(1, epoch=OLD)
    uplink.reconnect()
    assert uplink.run()[0].closed == ((OLD, 1),)
    uplink.ack(1)
    assert uplink.state.old, "the acknowledged copy may have been the one that did not list it"
    uplink.rows(1)
    uplink.run()
    uplink.ack(2)
    assert uplink.state.old == ()
    assert uplink.state.forgotten == (OLD,)


def test_a_batch_of_an_earlier_start_tells_nothing_by_its_acknowledgement():
    saved = Saved(tail=10, ledger=Ledger().append(counts(10)), batches=(batch(OLD, 1, 1, 10),),
                  epochs=(OldEpoch("Q" * 22, 5), OldEpoch(OLD, 1)))  # fmt: skip
    uplink = Driver(saved)
    uplink.connect()
    assert uplink.run()[0].closed == (("Q" * 22, 5),)
    uplink.ack(1, epoch=OLD)
    assert [old.epoch for old in uplink.state.old] == ["Q" * 22, OLD]


def test_an_epochs_row_leaves_the_file_after_its_last_batch():
    saved = Saved(tail=20, ledger=Ledger().append(counts(20)), batches=(batch(OLD, 1, 1, 20),),
                  epochs=(OldEpoch(OLD, 1),))  # fmt: skip
    uplink = Driver(saved, Limits(replay_start_s=0.0, free_rows=1))
    uplink.connect()
    uplink.rows(30)
    uplink.run()
    uplink.ack(1)
    uplink.ack(1, epoch=OLD)
    uplink.state = step(uplink.state, Tick(uplink.state.now))
    uplink.rows(1)
    uplink.run(most=2)
    uplink.ack(2)
    uplink.later(60)
    uplink.run()
    freed: list = []
    for free in uplink.frees:
        freed += [one.epoch for one in free.batches]
        assert all(epoch in freed for epoch in free.epochs)
    assert any(OLD in free.epochs for free in uplink.frees)


def test_spans_with_no_batch_left_between_them_become_one():
    uplink = Driver(limits=Limits(replay_start_s=1000.0, free_rows=1))
    for _ in range(5):
        uplink.rows(3)
        uplink.connect()
        uplink.rows(2)
        uplink.run()
        uplink.tell(Disconnected())
    assert len(uplink.state.waiting) == 5
    uplink.connect()
    uplink.ack(1, 2, 3)
    uplink.later(40)
    uplink.run()
    assert uplink.state.waiting == ((1, 18), (21, 23))


def test_rows_on_both_sides_of_a_connections_beginning_stay_apart():
    uplink = Driver(limits=Limits(replay_start_s=1000.0))
    uplink.rows(3)
    uplink.connect()
    uplink.tell(Appended(5, counts(2)))
    assert uplink.state.waiting == ((1, 3), (4, 5))
    uplink.tell(Appended(6, counts(1)))
    assert uplink.state.waiting == ((1, 3), (4, 6))
    uplink.reconnect()
    assert uplink.state.waiting == ((1, 6),)


def test_a_span_that_holds_nothing_is_forgotten():
    uplink = Driver()
    uplink.rows(3)
    uplink.connect()
    uplink.tell(FoundEmpty((1, 3)))
    assert uplink.state.waiting == ()


def test_thinning_and_expiry_move_the_ledger_alone():
    uplink = Driver()
    uplink.rows(10)
    uplink.tell(Thinned(counts(6), 2))
    uplink.tell(Expired(counts(1)))
    assert uplink.state.ledger.balances()
    assert uplink.state.waiting == ((1, 10),)


def test_a_batch_that_was_not_demanded_is_a_bug():
    uplink = flying(1)
    with pytest.raises(AssertionError):
        uplink.tell(Formed(batch(E, 7, 2, 3)))
    with pytest.raises(AssertionError):
        uplink.tell(Formed(batch(OLD, 2, 2, 3)))


def test_time_never_runs_backwards():
    uplink = Driver()
    uplink.tell(Tick(50.0))
    assert uplink.state.now == 100.0


def test_a_hints_bounds():
    uplink = Driver()
    uplink.tell(Hinted(Hint("h", 0.0, 1e12)))
    assert uplink.state.hint.bucket.per_s == 1.0
    assert uplink.state.hint.until == uplink.state.now + 3_600
    uplink.tell(Hinted(Hint("h", 5.0, -3)))
    uplink.later(0)
    assert uplink.state.hint is None


def test_a_repeated_hint_gives_no_new_burst():
    uplink = Driver()
    uplink.connect()
    uplink.tell(Hinted(Hint("h", 100.0, 60)))
    uplink.rows(5_000)
    for _ in range(20):
        uplink.tell(Hinted(Hint("h", 100.0, 60)))
        uplink.run()
    assert sum(send.batch.records for send in uplink.sends) == 100


def test_lanes_are_kept_over_connections():
    uplink = flying(2)
    uplink.reconnect()
    assert {send.batch.lane for send in uplink.run()} == {Lane.LIVE}


def test_every_happening_has_its_step():
    uplink = flying(1)
    for happening in (Acked(()), Refused((E, 9), 0.5), Unheard((E, 9), 0.5), Disconnected()):
        step(uplink.state, happening)
