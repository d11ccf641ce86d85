"""The rules of the lease: by example, and against stopped processes, drifting clocks and an absent Postgres."""

import random
from dataclasses import replace

import pytest

from control_plane.ingest.lease import (
    Ask,
    Denied,
    Granted,
    Lease,
    Row,
    Unanswered,
    certain,
    demand,
    may_write,
    pause_s,
    step,
)

FRESH = Lease("me", 15.0)
OTHER = Row("other", 7)


def after(*events, lease=FRESH):
    for event in events:
        lease = step(lease, event)
    return lease


def test_at_the_start_the_slot_is_taken_if_it_is_free_or_ours():
    assert demand(FRESH, 100.0) is Ask.TAKE
    assert not FRESH.held
    assert not certain(FRESH, 100.0)
    assert not may_write(FRESH, 100.0)


def test_a_hold_is_certain_for_less_than_the_lease_after_the_question():
    lease = after(Granted(100.0))
    assert lease.held
    assert certain(lease, 113.4)
    assert not certain(lease, 113.5)
    assert not certain(lease, 115.0)


def test_the_holder_renews_each_third():
    lease = after(Granted(100.0))
    assert demand(lease, 104.9) is None
    assert demand(lease, 105.0) is Ask.RENEW


def test_a_failed_question_is_asked_again_soon():
    lease = after(Granted(100.0), Unanswered(105.0))
    assert lease.held
    assert demand(lease, 105.9) is None
    assert demand(lease, 106.0) is Ask.RENEW


def test_a_standby_looks_each_second_and_takes_over_after_a_whole_lease_of_silence():
    lease = after(Denied(100.0, OTHER), Denied(101.0, OTHER), Denied(114.0, OTHER))
    assert demand(lease, 114.5) is None
    assert demand(lease, 115.0) is Ask.TAKE_OVER
    assert demand(replace(lease, asked_s=113.9), 114.95) is Ask.TAKE


def test_a_renewal_that_is_seen_starts_the_watch_anew():
    lease = after(Denied(100.0, OTHER), Denied(114.0, Row("other", 8)))
    assert demand(lease, 115.0) is Ask.TAKE
    assert demand(lease, 129.0) is Ask.TAKE_OVER


def test_postgres_away_starts_the_watch_anew():
    lease = after(Denied(100.0, OTHER), Unanswered(110.0), Denied(120.0, OTHER))
    assert demand(lease, 121.0) is Ask.TAKE
    assert demand(lease, 135.0) is Ask.TAKE_OVER


def test_a_denied_renewal_ends_the_hold_at_once():
    lease = after(Granted(100.0), Denied(105.0, OTHER))
    assert not lease.held
    assert not certain(lease, 105.0)
    assert not may_write(lease, 105.0)


def test_connected_with_postgres_away_it_may_write_on():
    lease = after(Granted(100.0), Unanswered(105.0), Unanswered(200.0))
    assert not certain(lease, 200.0)
    assert may_write(lease, 200.5)


def test_a_process_that_was_stopped_asks_before_it_writes_another_word():
    stopped_while_well = after(Granted(100.0))
    assert not may_write(stopped_while_well, 140.0)
    assert demand(stopped_while_well, 140.0) is Ask.RENEW
    stopped_while_postgres_was_away = after(Granted(100.0), Unanswered(105.0))
    assert not may_write(stopped_while_postgres_was_away, 140.0)


def test_pauses():
    assert pause_s(FRESH) == 1.0
    assert pause_s(after(Granted(1.0))) == 5.0
    assert pause_s(after(Granted(1.0), Unanswered(2.0))) == 1.0


class Process:
    """One ingest, with a clock that runs up to 2 % wrong and starts anywhere."""

    def __init__(self, name, choose):
        self.lease = Lease(name, 15.0)
        self.rate = choose.uniform(0.98, 1.02)
        self.start = choose.uniform(-1e6, 1e6)
        self.stopped_until = 0.0
        self.answer = None  # (arrives at, event)

    def clock(self, now):
        return self.start + now * self.rate


class Table:
    """The row, as the statements of queries.sql change it."""

    def __init__(self):
        self.row = Row(None, 0)

    def ask(self, ask, lease):
        watched = lease.watch.row.renewals if ask is Ask.TAKE_OVER else None
        mine = self.row.holder == lease.me
        if (ask is Ask.RENEW and mine) or (
            ask is not Ask.RENEW and (self.row.holder is None or mine or self.row.renewals == watched)
        ):
            self.row = Row(lease.me, self.row.renewals + 1)
            return None
        return self.row


@pytest.mark.parametrize("seed", range(200))
def test_no_two_are_certain_at_once(seed):
    choose = random.Random(seed)
    table = Table()
    processes = [Process(name, choose) for name in ("a", "b", "c")]
    away_until = 0.0
    now, changes, last = 0.0, 0, None
    while now < 600:
        now += choose.uniform(0.05, 0.3)
        if choose.random() < 0.003:
            away_until = now + choose.uniform(0, 60)
        for process in processes:
            if choose.random() < 0.002:
                process.stopped_until = now + choose.uniform(0, 60)
            if now < process.stopped_until:
                continue
            if process.answer is not None and now >= process.answer[0]:
                process.lease = step(process.lease, process.answer[1])
                process.answer = None
            ask = demand(process.lease, process.clock(now)) if process.answer is None else None
            if ask is not None:
                asked = process.clock(now)
                if now < away_until:
                    event = Unanswered(asked)
                elif (row := table.ask(ask, process.lease)) is None:
                    event = Granted(asked)
                else:
                    event = Denied(asked, row)
                if choose.random() < 0.05:
                    event = Unanswered(asked)  # done, but the answer was lost
                process.answer = (now + choose.uniform(0, 2), event)
        # Stopped ones too: the moment one goes on it must know better.
        sure = [p for p in processes if certain(p.lease, p.clock(now))]
        assert len(sure) <= 1, [p.lease for p in sure]
        if sure and sure[0] is not last:
            changes, last = changes + 1, sure[0]
    assert changes >= 1
