import os
from dataclasses import replace

import pytest

from edge_agent.dispatch import Dispatcher, Submission
from edge_agent.outbox import Outbox, OutboxDamaged
from edge_agent.row import Row, RowClass
from edge_agent.uplink_state import Acked, Connected, Disconnected, Limits, Tick, restore
from shared import batch as wire
from shared import limits
from shared.batch import ClockQuality, Lane, ReadingRecord, encode_record
from shared.errors import Transient
from shared.ids import Epoch
from tests.unit.edge_agent.outbox_files import new_file, row
from tests.unit.edge_agent.uplink_driver import as_heard

E = Epoch("E" * 22)
LIMITS = Limits(replay_start_s=0.0, window=256, first_window=256)


@pytest.fixture
def outbox(tmp_path):
    with Outbox(new_file(tmp_path / "outbox.db")) as outbox:
        yield outbox


def start(outbox: Outbox, epoch: Epoch = E, **settings) -> Dispatcher:
    state = restore(outbox.load(), epoch, LIMITS, 100.0)
    return Dispatcher(outbox, state, chance=lambda: 0.5, **settings)


def connect(dispatcher: Dispatcher, now: float = 100.0) -> None:
    """Connected to a hub that was heard already."""
    dispatcher.happened(Connected(now, 0.5))
    dispatcher.state = as_heard(dispatcher.state)


def submission(*rows) -> Submission:
    return Submission(list(rows), [])


def test_rows_are_formed_in_the_commit_that_stores_them(outbox):
    dispatcher = start(outbox)
    connect(dispatcher)
    begun = []
    outbox._db.set_trace_callback(lambda sql: begun.append(sql) if sql.startswith(("BEGIN", "COMMIT")) else None)
    made = dispatcher.cycle([submission(row(1), row(2)), submission(row(3))])
    assert begun == ["BEGIN IMMEDIATE", "COMMIT"]
    (out,) = made.outgoing
    assert (out.key, out.header.records, out.header.lane, out.header.resent) == ((E, 1), 3, Lane.LIVE, False)
    assert wire.unpack(out.payload) == b"[" + b",".join(row(n).record for n in (1, 2, 3)) + b"]"
    assert not made.more


def test_a_cycle_that_only_sends_writes_nothing(outbox):
    dispatcher = start(outbox)
    dispatcher.cycle([submission(row(1))])
    connect(dispatcher)
    first = dispatcher.cycle().outgoing
    dispatcher.happened(Disconnected())
    connect(dispatcher, 101.0)
    begun = []
    outbox._db.set_trace_callback(begun.append)
    again = dispatcher.cycle().outgoing
    assert not [sql for sql in begun if not sql.startswith("SELECT")]
    assert [one.payload for one in again] == [one.payload for one in first]
    assert again[0].header.resent


def test_a_resend_after_a_restart_is_equal_byte_for_byte(outbox):
    dispatcher = start(outbox)
    connect(dispatcher)
    first = dispatcher.cycle([submission(*(row(n, size=n) for n in range(50)))]).outgoing[0]
    again = start(outbox, Epoch("F" * 22))
    connect(again)
    second = again.cycle().outgoing[0]
    assert (second.key, second.payload) == (first.key, first.payload)
    assert second.header.resent


def test_nothing_happened_when_the_commit_fails(outbox):
    dispatcher = start(outbox)
    connect(dispatcher)
    dispatcher.cycle([submission(row(0))])
    before = dispatcher.state
    pages = outbox._db.execute("PRAGMA page_count").fetchone()[0]
    outbox._db.execute(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(Transient):
        dispatcher.cycle([submission(*(row(n, size=3_000) for n in range(50)))])
    assert dispatcher.state is before
    outbox._db.execute("PRAGMA max_page_count = 100000")
    made = dispatcher.cycle([submission(row(1))])
    assert made.outgoing[0].key == (E, 2)
    assert outbox.load().ledger.accepted == dispatcher.state.ledger.accepted


def test_a_batch_holds_at_most_its_bytes_packed_and_unpacked(outbox):
    dispatcher = start(outbox)
    noise = [row(os.urandom(30_000).hex()) for _ in range(30)]
    plain = [row(n, size=200_000) for n in range(30)]
    dispatcher.cycle([submission(*noise, *plain)])
    connect(dispatcher)
    made = dispatcher.cycle(most=1_000)
    assert sum(out.header.records for out in made.outgoing) == 60
    for out in made.outgoing:
        assert len(out.payload) <= limits.BATCH_PACKED_BYTES
        unpacked = wire.unpack(out.payload)
        assert isinstance(unpacked, bytes)
        assert len(unpacked) <= limits.BATCH_UNPACKED_BYTES
    assert max(out.header.records for out in made.outgoing) >= 15


def test_a_batch_holds_at_most_a_thousand_records(outbox):
    dispatcher = start(outbox)
    dispatcher.cycle([submission(*(row(n) for n in range(2_500)))])
    connect(dispatcher)
    assert [out.header.records for out in dispatcher.cycle().outgoing] == [1_000, 1_000, 500]


def test_a_cycle_stops_at_its_limit_so_that_intake_comes_to_its_turn(outbox):
    dispatcher = start(outbox)
    dispatcher.cycle([submission(*(row(n) for n in range(5_000)))])
    connect(dispatcher)
    made = dispatcher.cycle(most=2)
    assert made.more
    assert len(made.outgoing) == 1


def test_a_message_without_readings_is_remembered_too(outbox):
    dispatcher = start(outbox)
    dispatcher.cycle([Submission([], [b"x" * 16])])
    assert outbox.recent_identities() == [b"x" * 16]
    assert dispatcher.state.tail == 0


def test_the_header_tells_ledger_and_clock(outbox):
    dispatcher = start(outbox, quality=lambda: ClockQuality.UNSYNCED)
    connect(dispatcher)
    header = dispatcher.cycle([submission(row(1, RowClass.ALARM))]).outgoing[0].header
    assert header.ledger == '{"alarm":[1,0,1,0,0,0]}'
    assert (header.clock, header.traceparent) == (ClockQuality.UNSYNCED, None)


def test_the_header_bears_the_trace_of_the_first_sampled_record_also_when_sent_again(outbox):
    """It bore a fresh one, and the hub's stages hung on a trace without a reading."""

    def traced(n: int, flags: str) -> Row:
        trace = f"00-{n:032x}-{n:016x}-{flags}"
        record = ReadingRecord("d", 1, 1, 1, {"n": n}, None, None, ClockQuality.SYNCED, None, None, trace)
        return replace(row(n), record=encode_record(record))

    dispatcher = start(outbox)
    connect(dispatcher)
    rows = (row(1), traced(2, "00"), traced(3, "01"), traced(4, "01"))
    first = dispatcher.cycle([submission(*rows)]).outgoing[0]
    assert first.header.traceparent == f"00-{3:032x}-{3:016x}-01"
    dispatcher.happened(Disconnected())
    connect(dispatcher, 101.0)
    assert dispatcher.cycle().outgoing[0].header.traceparent == first.header.traceparent


def test_acknowledged_rows_leave_the_file_and_at_the_end_all_of_them(outbox):
    dispatcher = start(outbox)
    connect(dispatcher)
    dispatcher.cycle([submission(row(1))])
    dispatcher.happened(Acked(((E, 1),)))
    dispatcher.cycle()
    assert sum(outbox.counted()) == 1
    dispatcher.happened(Tick(100.0 + LIMITS.free_every_s))
    dispatcher.cycle()
    assert sum(outbox.counted()) == 0
    dispatcher.cycle([submission(row(2))])
    dispatcher.happened(Acked(((E, 2),)))
    dispatcher.retire()
    dispatcher.cycle()
    saved = outbox.load()
    assert saved.ledger.acked == dispatcher.state.ledger.acked == (0, 0, 0, 2, 0)


def test_when_space_is_short_one_batch_is_freed_at_a_time(outbox):
    dispatcher = start(outbox)
    connect(dispatcher)
    for number in range(3):
        dispatcher.cycle([submission(row(number))])
    dispatcher.happened(Acked(((E, 1), (E, 2), (E, 3))))
    dispatcher.thrifty(on=True)
    dispatcher.cycle(most=1)
    assert [one.number for one in dispatcher.state.freeing] == [2, 3]
    dispatcher.thrifty(on=False)
    assert dispatcher.state.limits == LIMITS


def test_a_batch_whose_rows_vanished_is_damage(outbox):
    dispatcher = start(outbox)
    connect(dispatcher)
    dispatcher.cycle([submission(row(1), row(2))])
    outbox._db.execute("DELETE FROM rows WHERE seq = 2")
    dispatcher.happened(Disconnected())
    connect(dispatcher)
    with pytest.raises(OutboxDamaged, match="has 1"):
        dispatcher.cycle()


def test_rows_that_are_no_longer_there_are_not_waited_for(outbox):
    dispatcher = start(outbox)
    dispatcher.cycle([submission(row(1), row(2))])
    outbox._db.execute("DELETE FROM rows")
    connect(dispatcher)
    assert dispatcher.cycle().outgoing == []
    assert dispatcher.state.waiting == ()
