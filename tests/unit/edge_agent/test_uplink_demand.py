"""What is demanded, in which order, and what is not."""

import pytest

from edge_agent.ledger import Ledger
from edge_agent.uplink_demand import demand
from edge_agent.uplink_state import Form, Free, Hinted, Limits
from shared import limits
from shared.batch import Hint, Lane
from tests.unit.edge_agent.uplink_driver import LIMITS, OLD, OLDER, Driver, E, OldEpoch, Saved, batch, counts


def test_nothing_is_formed_without_a_connection():
    uplink = Driver()
    uplink.rows(5)
    assert demand(uplink.state) is None
    uplink.connect()
    assert demand(uplink.state) == Form(E, 1, Lane.REPLAY, (1, 5), 1000, limits.BATCH_PACKED_BYTES)


def test_rows_of_this_connection_are_live_and_go_first():
    uplink = Driver()
    uplink.rows(2500)
    uplink.connect()
    uplink.rows(3)
    sends = uplink.run()
    assert [(send.batch.lane, send.batch.span) for send in sends] == [
        (Lane.LIVE, (2501, 2503)),
        (Lane.REPLAY, (1, 1000)),
        (Lane.REPLAY, (1001, 2000)),
        (Lane.REPLAY, (2001, 2500)),
    ]
    assert not any(send.resent for send in sends)


def test_one_batch_flies_alone_until_the_hub_acknowledges_live_first():
    uplink = Driver()
    uplink.rows(2_500)
    uplink.connect(heard=False)
    uplink.rows(1)
    (first,) = uplink.run()
    assert first.batch.lane is Lane.LIVE
    uplink.rows(1, alarm=True)
    uplink.later(20)
    assert uplink.run() == []
    uplink.ack(1)
    sends = uplink.run()
    assert [send.batch.lane for send in sends] == [Lane.LIVE] + [Lane.REPLAY] * 3
    assert uplink.state.link.window == LIMITS.first_window + 1


def test_the_backlog_asks_too_where_there_is_nothing_live():
    uplink = Driver()
    uplink.rows(2_500)
    uplink.connect(heard=False)
    assert [send.batch.lane for send in uplink.run()] == [Lane.REPLAY]
    uplink.unheard(1)
    uplink.rows(1)
    uplink.later(1)
    assert [send.batch.lane for send in uplink.run()] == [Lane.LIVE], "whoever comes gets what is live first"
    uplink.unheard(2)
    uplink.rows(1)
    uplink.later(2)
    assert [send.batch.number for send in uplink.run()] == [2]
    uplink.ack(2)
    assert [send.batch.number for send in uplink.run()] == [3, 1, 4, 5]


def test_the_back_stop_needs_nobody_heard():
    uplink = Driver()
    uplink.rows(1_500)
    uplink.connect(heard=False)
    uplink.run()
    for _ in range(3):  # Kafka is away
        uplink.later(300)
        assert [send.batch.number for send in uplink.run()] == [1]
    uplink.ack(1)
    assert [send.batch.number for send in uplink.run()] == [2]


def test_the_backlog_waits_for_its_own_moment_after_connecting():
    uplink = Driver(limits=Limits(replay_start_s=10.0))
    uplink.rows(5)
    uplink.connect()
    uplink.rows(1)
    assert [send.batch.lane for send in uplink.run()] == [Lane.LIVE]
    uplink.later(4.9)
    assert uplink.run() == []
    uplink.later(0.2)
    assert [send.batch.lane for send in uplink.run()] == [Lane.REPLAY]


def test_the_backlog_keeps_its_budget():
    uplink = Driver(limits=Limits(replay_start_s=0.0, replay_per_s=1_000.0, window=256, first_window=256))
    uplink.rows(10_000)
    uplink.connect()
    assert sum(send.batch.records for send in uplink.run()) == 1_000
    for _ in range(20):
        uplink.later(0.25)
        uplink.run()
    assert sum(send.batch.records for send in uplink.sends) == 6_000


def test_after_a_reconnect_all_is_sent_again_before_anything_new_in_its_lane():
    saved = Saved(
        tail=40,
        ledger=Ledger().append(counts(30)),
        batches=(batch(OLD, 7, 1, 10), batch(OLD, 8, 11, 20, Lane.REPLAY)),
        epochs=(OldEpoch(OLD, 8),),
        waiting=((31, 40),),
    )
    uplink = Driver(saved)
    uplink.connect()
    uplink.rows(5)
    sends = uplink.run()
    assert [send.batch.key for send in sends] == [(OLD, 7), (E, 1), (OLD, 8), (E, 2)]
    assert [send.resent for send in sends] == [True, False, True, False]
    uplink.reconnect()
    uplink.rows(5)
    assert [send.batch.key for send in uplink.run()] == [(OLD, 7), (E, 1), (E, 3), (OLD, 8), (E, 2)]


def test_the_window_counts_acknowledgements_and_keeps_a_quarter_for_live():
    uplink = Driver(limits=Limits(replay_start_s=0.0, window=16, first_window=16))
    uplink.rows(40_000)
    uplink.connect()
    assert len(uplink.run()) == 12
    for _ in range(6):
        uplink.rows(1)
        uplink.run()
    assert len(uplink.sends) == 16
    assert [send.batch.lane for send in uplink.sends].count(Lane.LIVE) == 4
    uplink.ack(*[send.batch.number for send in uplink.sends if send.batch.lane is Lane.LIVE])
    uplink.run()
    assert len(uplink.state.batches) == 13  # the two rows that waited are live's next batch


def test_the_window_holds_bytes_too():
    uplink = Driver(limits=Limits(replay_start_s=0.0, window=256, first_window=256))
    uplink.batch_bytes = limits.BATCH_PACKED_BYTES
    uplink.rows(100_000)
    uplink.connect()
    uplink.run()
    assert sum(one.packed_bytes for one in uplink.state.batches.values()) == 3 * limits.MIB
    for _ in range(8):
        uplink.rows(1)
        uplink.run()
    assert sum(one.packed_bytes for one in uplink.state.batches.values()) == 4 * limits.MIB


def test_a_batch_of_any_size_goes_when_nothing_else_does():
    uplink = Driver(limits=Limits(replay_start_s=0.0, window_bytes=limits.BATCH_PACKED_BYTES))
    uplink.rows(5)
    uplink.connect()
    assert len(uplink.run()) == 1


def test_no_number_reaches_the_floor_plus_1024():
    uplink = Driver()
    uplink.connect()
    for _ in range(limits.WINDOW_NUMBERS + 50):
        uplink.rows(1)
        uplink.run()
        uplink.ack(*(number for _, number in uplink.state.batches if number > 1))
    assert uplink.sent[-1] == (E, limits.WINDOW_NUMBERS)
    assert uplink.sends[-1].floor == 1
    uplink.ack(1)
    assert uplink.run()[0].batch.number == limits.WINDOW_NUMBERS + 1


def test_the_window_begins_small_and_grows_with_prompt_acknowledgements():
    uplink = Driver(limits=Limits(replay_start_s=0.0, first_window=8))
    uplink.rows(100_000)
    uplink.connect()
    assert len(uplink.run()) == 6
    for _ in range(5):
        uplink.ack_all()
        uplink.run()
    grown = uplink.state.link.window
    assert grown > 40
    for _ in range(3):
        uplink.later(30)
        uplink.ack_all()
        uplink.run()
    assert uplink.state.link.window < grown / 2


def test_the_floor_is_the_lowest_unacknowledged_number_of_the_batchs_own_epoch():
    saved = Saved(tail=20, ledger=Ledger().append(counts(20)),
                  batches=(batch(OLD, 7, 1, 10), batch(OLD, 9, 11, 20)), epochs=(OldEpoch(OLD, 9),))  # fmt: skip
    uplink = Driver(saved)
    uplink.connect()
    assert [send.floor for send in uplink.run()] == [7, 7]
    for _ in range(3):
        uplink.rows(1)
        uplink.run()
    uplink.ack(1)
    uplink.rows(1)
    assert uplink.run()[0].floor == 2
    uplink.ack(2, 3, 4)
    uplink.rows(1)
    assert uplink.run()[0].floor == 5


def test_an_epoch_is_closed_when_all_of_it_is_acknowledged_and_listed_with_its_last_number():
    saved = Saved(tail=20, ledger=Ledger().append(counts(20)), batches=(batch(OLD, 7, 1, 10), batch(OLD, 9, 11, 20)),
                  epochs=(OldEpoch(OLDER, 3), OldEpoch(OLD, 12)))  # fmt: skip
    uplink = Driver(saved)
    uplink.connect()
    assert {send.closed for send in uplink.run()} == {((OLDER, 3),)}
    uplink.ack(7, epoch=OLD)
    uplink.rows(1)
    assert uplink.run()[0].closed == ((OLDER, 3),)
    uplink.ack(9, epoch=OLD)
    uplink.rows(1)
    assert uplink.run()[0].closed == ((OLDER, 3), (OLD, 12))


def test_an_epoch_of_unknown_last_number_is_never_closed():
    saved = Saved(tail=10, ledger=Ledger().append(counts(10)), batches=(batch(OLD, 7, 1, 10),),
                  epochs=(OldEpoch(OLD, None),))  # fmt: skip
    uplink = Driver(saved)
    uplink.connect()
    uplink.run()
    uplink.ack(7, epoch=OLD)
    uplink.rows(1)
    assert uplink.run()[0].closed == ()
    assert uplink.state.old == ()


def test_a_header_lists_32_closed_epochs_oldest_first():
    epochs = tuple(OldEpoch(f"{index:022}", 1) for index in range(40))
    uplink = Driver(Saved(epochs=epochs))
    uplink.connect()
    uplink.rows(1)
    listed = uplink.run()[0].closed
    assert listed == tuple((old.epoch, 1) for old in epochs[:32])
    uplink.ack(1)
    uplink.rows(1)
    assert uplink.run()[0].closed == tuple((old.epoch, 1) for old in epochs[32:])


def test_voids_are_told_with_the_closing_of_their_epoch_and_hold_its_floor():
    saved = Saved(tail=20, ledger=Ledger().append(counts(10)), batches=(batch(OLD, 9, 11, 20),),
                  epochs=(OldEpoch(OLD, 12),), voids=((OLD, 4, 8), (OLD, 10, 12)))  # fmt: skip
    uplink = Driver(saved)
    uplink.connect()
    send = uplink.run()[0]
    assert (send.floor, send.closed, send.void) == (4, (), ())
    uplink.ack(9, epoch=OLD)
    uplink.rows(1)
    send = uplink.run()[0]
    assert (send.closed, send.void) == (((OLD, 12),), ((OLD, 4, 8), (OLD, 10, 12)))
    uplink.ack(1)
    assert (uplink.state.old, uplink.state.voids) == ((), ())


def test_a_wide_void_does_not_break_the_rule_of_numbers():
    saved = Saved(tail=20, ledger=Ledger().append(counts(10)), batches=(batch(OLD, 5_000, 11, 20),),
                  epochs=(OldEpoch(OLD, 5_000),), voids=((OLD, 1, 4_999),))  # fmt: skip
    uplink = Driver(saved)
    uplink.connect()
    assert uplink.run()[0].floor == 5_000 - limits.WINDOW_NUMBERS + 1


@pytest.mark.parametrize("lane", Lane)
def test_a_hint_limits_new_batches_and_the_header_echoes_it(lane):
    uplink = Driver()
    if lane is Lane.REPLAY:
        uplink.rows(10_000)
    uplink.connect()
    uplink.tell(Hinted(Hint("h1", 100.0, 60.0)))
    if lane is Lane.LIVE:
        uplink.rows(10_000)
    uplink.run()
    for _ in range(40):
        uplink.later(0.25)
        uplink.ack_all()
        uplink.run()
    assert sum(send.batch.records for send in uplink.sends) == pytest.approx(1_050, abs=60)
    assert {send.hint for send in uplink.sends} == {"h1"}


def test_under_a_hint_live_comes_before_the_backlog():
    uplink = Driver()
    uplink.rows(10_000)
    uplink.connect()
    uplink.tell(Hinted(Hint("h1", 100.0, 60.0)))
    for _ in range(80):
        uplink.rows(20)
        uplink.later(0.25)
        uplink.ack_all()
        uplink.run()
    live = sum(send.batch.records for send in uplink.sends if send.batch.lane is Lane.LIVE)
    assert live >= 0.95 * 20 * 80
    assert sum(send.batch.records for send in uplink.sends) > live + 200


def test_the_slowest_hint_still_lets_everything_through():
    uplink = Driver()
    uplink.rows(3)
    uplink.connect()
    uplink.tell(Hinted(Hint("h1", 1.0, 60.0)))
    for _ in range(30):
        uplink.later(0.25)
        uplink.run()
    assert sum(send.batch.records for send in uplink.sends) == 3


def test_a_hint_ends_by_itself():
    uplink = Driver()
    uplink.connect()
    uplink.tell(Hinted(Hint("h1", 1.0, 5.0)))
    uplink.rows(5_000)
    uplink.run()
    uplink.later(5.1)
    assert sum(send.batch.records for send in uplink.run()) > 4_900
    assert uplink.sends[-1].hint is None


def test_an_alarm_is_exempt_from_a_hint_with_the_rows_before_it_which_are_paid_for():
    uplink = Driver()
    uplink.connect()
    uplink.tell(Hinted(Hint("h1", 10.0, 600.0)))
    uplink.rows(200)
    uplink.run()
    before = len(uplink.sends)
    uplink.rows(1, alarm=True)
    sends = uplink.run()
    assert sends[0].batch.span[1] == uplink.state.tail
    uplink.rows(50)
    uplink.later(5)
    assert uplink.run() == []
    assert len(uplink.sends) == before + 1


def test_an_alarm_far_behind_in_a_limited_backlog_waits_for_its_turn():
    uplink = Driver()
    uplink.rows(5_000)
    uplink.rows(1, alarm=True)
    uplink.connect()
    uplink.tell(Hinted(Hint("h1", 10.0, 600.0)))
    assert sum(send.batch.records for send in uplink.run()) <= 10


def test_resends_are_exempt_from_a_hint():
    uplink = Driver()
    uplink.connect()
    uplink.rows(1_000)
    uplink.run()
    uplink.reconnect()
    uplink.tell(Hinted(Hint("h1", 1.0, 600.0)))
    assert uplink.run()[0].resent


def test_acknowledged_rows_are_freed_in_chunks_after_a_while_or_when_many():
    uplink = Driver(limits=Limits(replay_start_s=0.0, free_rows=2_000, free_every_s=10.0))
    uplink.rows(10_500)
    uplink.connect()
    uplink.run()
    uplink.ack(1)
    assert uplink.run() == []
    assert uplink.frees == []
    uplink.later(10)
    uplink.run()
    assert [[one.number for one in free.batches] for free in uplink.frees] == [[1]]
    uplink.ack(*range(2, 12))
    uplink.run()
    assert [[one.number for one in free.batches] for free in uplink.frees[1:]] == [[2, 3], [4, 5], [6, 7], [8, 9]]
    uplink.later(10)
    uplink.run()
    assert uplink.frees[-1].ledger.waiting == counts(0)
    assert [one.number for one in uplink.frees[-1].batches] == [10, 11]


def test_the_ledger_to_save_still_counts_what_stays_in_the_file():
    uplink = Driver(limits=Limits(replay_start_s=0.0, free_rows=1_000))
    uplink.rows(2_000)
    uplink.connect()
    uplink.run()
    uplink.ack(1, 2)
    free = demand(uplink.state)
    assert isinstance(free, Free)
    assert (free.ledger.acked, free.ledger.waiting) == (counts(1_000), counts(1_000))
    assert uplink.state.ledger.acked == counts(2_000)


def test_the_order_of_sends_in_a_lane_is_the_order_of_acceptance():
    uplink = Driver()
    for _ in range(4):
        uplink.rows(1_500)
        uplink.connect()
        uplink.rows(10)
        uplink.run(most=2)
        uplink.reconnect()
    uplink.later(100)
    uplink.run()
    fresh = [send for send in uplink.sends if not send.resent]
    for lane in Lane:
        spans = [send.batch.span for send in fresh if send.batch.lane is lane]
        assert spans == sorted(spans)
