"""The batch window: by example, and against a model of an honest agent on a dishonest network."""

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from control_plane.analytics import batch_window
from control_plane.analytics.batch_window import Judged, Lost, Verdict, judge
from control_plane.analytics.job import MemoryState
from control_plane.analytics.records import GapKind
from shared import limits
from shared.batch import Header, Lane
from shared.errors import Reason, Rejected
from tests.model.reference_normaliser import Normaliser

DAY_MS = 86_400_000


def epoch(n):
    return f"{n:022d}"


def header(number, floor=1, *, of=0, closed=(), void=()):
    return Header(
        epoch=epoch(of),
        number=number,
        floor=floor,
        lane=Lane.LIVE,
        records=1,
        closed=tuple((epoch(e), last) for e, last in closed),
        void=tuple((epoch(e), first, last) for e, first, last in void),
    )


def feed(state, *headers, now_ms=0):
    return [judge(head, now_ms, state) for head in headers]


NEW, REPEAT = Judged(Verdict.NEW), Judged(Verdict.REPEAT)


def test_each_number_is_new_once():
    state = MemoryState()
    assert feed(state, header(1), header(2), header(2), header(1)) == [NEW, NEW, REPEAT, REPEAT]


def test_reordered_numbers_are_all_new():
    assert feed(MemoryState(), *map(header, (3, 1, 2, 3))) == [NEW, NEW, NEW, REPEAT]


def test_what_lies_below_a_new_floor_and_was_never_seen_is_a_gap():
    state = MemoryState()
    assert feed(state, header(1), header(4), header(7, floor=6))[2] == Judged(
        Verdict.NEW, (Lost(epoch(0), GapKind.GAP, ((2, 3), (5, 5))),)
    )
    assert feed(state, header(8, floor=6)) == [NEW]  # told once


def test_a_resend_below_the_floor_is_a_repeat_even_if_it_was_a_gap():
    state = MemoryState()
    feed(state, header(1), header(5, floor=5))
    assert feed(state, header(3, floor=1)) == [REPEAT]


def test_a_stale_floor_does_not_lower_the_floor():
    state = MemoryState()
    feed(state, header(1), header(9, floor=9))
    assert feed(state, header(10, floor=1), header(10, floor=1)) == [NEW, REPEAT]
    assert feed(state, header(4, floor=4)) == [REPEAT]


def test_the_first_floor_of_an_unheard_gateway_is_taken():
    assert feed(MemoryState(), header(500, floor=480)) == [NEW]


def test_a_further_epoch_begins_at_one():
    state = MemoryState()
    feed(state, header(1))
    assert feed(state, header(3, floor=3, of=1)) == [
        Judged(Verdict.NEW, (Lost(epoch(1), GapKind.GAP, ((1, 2),)),)),
    ]


def test_a_closed_epoch_tells_its_gap_once_and_all_that_comes_of_it_is_a_repeat():
    state = MemoryState()
    feed(state, header(1), header(3))
    listing = header(1, of=1, closed=((0, 4),))
    assert feed(state, listing) == [Judged(Verdict.NEW, (Lost(epoch(0), GapKind.GAP, ((2, 2), (4, 4))),))]
    assert feed(state, header(2, of=1, closed=((0, 4),)), header(2), header(9)) == [NEW, REPEAT, REPEAT]


def test_a_closed_epoch_that_was_never_heard_of_is_one_gap():
    state = MemoryState()
    feed(state, header(1))
    assert feed(state, header(2, closed=((7, 3),))) == [
        Judged(Verdict.NEW, (Lost(epoch(7), GapKind.GAP, ((1, 3),)),)),
    ]


def test_the_past_of_a_gateway_never_heard_of_is_no_gap():
    state = MemoryState()
    assert feed(state, header(1, of=1, closed=((0, 40),), void=((0, 3, 4),))) == [NEW]
    assert feed(state, header(40, floor=40)) == [REPEAT]  # but its closed epoch is remembered


def test_a_repeat_still_settles_what_its_header_says():
    state = MemoryState()
    feed(state, header(1), header(5))
    assert feed(state, header(5, floor=5, closed=())) == [
        Judged(Verdict.REPEAT, (Lost(epoch(0), GapKind.GAP, ((2, 4),)),)),
    ]


def test_void_numbers_are_damaged_and_no_gap():
    state = MemoryState()
    feed(state, header(1), header(6, void=((0, 3, 4),)))
    assert feed(state, header(7, floor=6)) == [
        Judged(
            Verdict.NEW,
            (Lost(epoch(0), GapKind.GAP, ((2, 2), (5, 5))), Lost(epoch(0), GapKind.DAMAGED, ((3, 4),))),
        )
    ]


def test_a_void_number_that_does_come_is_new():
    state = MemoryState()
    feed(state, header(1), header(6, void=((0, 3, 4),)))
    assert feed(state, header(3)) == [NEW]
    assert feed(state, header(7, floor=5)) == [
        Judged(
            Verdict.NEW,
            (Lost(epoch(0), GapKind.GAP, ((2, 2),)), Lost(epoch(0), GapKind.DAMAGED, ((4, 4),))),
        )
    ]


def test_void_numbers_above_a_new_floor_are_kept_in_mind():
    state = MemoryState()
    feed(state, header(1), header(9, void=((0, 3, 3), (0, 6, 6))), header(10, floor=5))
    assert feed(state, header(11, floor=7)) == [
        Judged(
            Verdict.NEW,
            (Lost(epoch(0), GapKind.GAP, ((5, 5),)), Lost(epoch(0), GapKind.DAMAGED, ((6, 6),))),
        )
    ]


def test_a_closed_epoch_leaves_nothing_but_its_tombstone():
    state = MemoryState()
    feed(state, header(1, of=9))
    before = set(state.values)
    feed(state, header(1), header(2), header(2, of=9, closed=((0, 2),)))
    assert set(state.values) - before == {b"t"}


def test_void_of_another_epoch_waits_for_its_closing():
    state = MemoryState()
    feed(state, header(1), header(1, of=1, void=((0, 2, 3), (5, 1, 2))))
    assert feed(state, header(2, of=1, closed=((0, 3), (5, 2)))) == [
        Judged(
            Verdict.NEW,
            (Lost(epoch(0), GapKind.DAMAGED, ((2, 3),)), Lost(epoch(5), GapKind.DAMAGED, ((1, 2),))),
        )
    ]


def test_a_batch_that_closes_its_own_epoch_is_refused_and_changes_nothing():
    state = MemoryState()
    feed(state, header(1))
    before = dict(state.values)
    (judged,) = feed(state, header(2, floor=2, closed=((0, 2), (1, 7))))
    assert isinstance(judged.verdict, Rejected)
    assert judged.verdict.reason == Reason.PROTOCOL
    assert not judged.lost
    assert state.values == before


def test_open_epochs_are_bounded_and_one_more_is_refused_without_trace(monkeypatch):
    monkeypatch.setattr(batch_window, "OPEN_EPOCHS", 3)
    state = MemoryState()
    feed(state, *(header(1, of=n) for n in range(3)))
    before = dict(state.values)
    (judged,) = feed(state, header(1, of=9))
    assert isinstance(judged.verdict, Rejected)
    assert state.values == before
    assert feed(state, header(2, of=1)) == [NEW]
    assert feed(state, header(2, of=2, closed=((0, 1),)), header(1, of=9)) == [NEW, NEW]


def test_tombstones_end_by_age_and_by_number(monkeypatch):
    monkeypatch.setattr(limits, "TOMBSTONES", 4)
    state = MemoryState()
    feed(state, header(1, of=99))
    for n in range(6):
        feed(state, header(n + 2, of=99, closed=((n, 0),)), now_ms=n * DAY_MS)
    assert [judge(header(1, of=n), 6 * DAY_MS, state).verdict for n in range(6)] == [
        Verdict.NEW, Verdict.NEW, *[Verdict.REPEAT] * 4,
    ]  # fmt: skip
    late = 3 * DAY_MS + limits.TOMBSTONE_DAYS * DAY_MS
    feed(state, header(9, of=99, closed=((70, 0),)), now_ms=late)
    assert judge(header(1, of=2), late, state).verdict is Verdict.NEW
    assert judge(header(1, of=3), late, state).verdict is Verdict.REPEAT


def test_the_state_of_one_epoch_stays_small_whatever_is_claimed():
    state = MemoryState()
    for number in range(1, limits.WINDOW_NUMBERS, 2):
        feed(state, header(number, void=((0, number * 3, number * 3),)))
    for n in range(2_000):
        feed(state, header(1, void=((0, 10**6 + 2 * n, 10**6 + 2 * n),)))
    assert max(len(value) for value in state.values.values()) < 12_000


class Agent:
    """An honest agent, its links (which lose, repeat and reorder), and what Kafka got of it."""

    def __init__(self):
        self.epochs = []  # per epoch: last number formed
        self.unacked = {}  # (epoch, number) -> None, in order
        self.void = []  # (epoch, number) that a batch must list until acknowledged
        self.voided = set()
        self.closed_listed = set()  # closed epochs whose listing is acknowledged
        self.flying = []  # messages on their way to Kafka
        self.acks = []  # acknowledgements on their way back
        self.raw = []
        self.starting = True

    def floor(self, of):
        waiting = [number for e, number in self.unacked if e == of]
        return min(waiting) if waiting else self.epochs[of] + 1

    def closed(self):
        return [
            (e, last)
            for e, last in enumerate(self.epochs[:-1])
            if e not in self.closed_listed and not any(of == e for of, _ in self.unacked)
        ][: limits.CLOSED_EPOCHS]

    def form(self):
        if self.starting:
            self.epochs.append(0)
            self.starting = False
        of = len(self.epochs) - 1
        if self.epochs[of] + 1 >= self.floor(of) + limits.WINDOW_NUMBERS:
            return
        self.epochs[of] += 1
        self.unacked[of, self.epochs[of]] = None
        self.send((of, self.epochs[of]))

    def send(self, item):
        of, number = item
        head = header(number, self.floor(of), of=of, closed=self.closed(), void=[(e, n, n) for e, n in self.void])
        self.flying.append((head, item, tuple(self.closed()), tuple(self.void)))

    def resend_all(self):
        for item in self.unacked:
            self.send(item)

    def restart(self):
        self.starting = True
        self.resend_all()

    def damage(self, pick):
        if self.unacked:
            item = list(self.unacked)[pick % len(self.unacked)]
            del self.unacked[item]
            self.void.append(item)
            self.voided.add(item)

    def arrive(self, pick, *, keep):
        if self.flying:
            index = pick % len(self.flying)
            message = self.flying[index] if keep else self.flying.pop(index)
            self.raw.append(message)
            self.acks.append(message)

    def acknowledge(self, pick, *, lose):
        if self.acks:
            _, item, closed, void = self.acks.pop(pick % len(self.acks))
            if not lose:
                self.unacked.pop(item, None)
                self.closed_listed |= {e for e, _ in closed}
                self.void = [lost for lost in self.void if lost not in void]

    def do(self, step):
        name, pick = step
        match name:
            case "form":
                self.form()
            case "arrive" | "arrive_twice":
                self.arrive(pick, keep=name == "arrive_twice")
            case "lose":
                if self.flying:
                    self.flying.pop(pick % len(self.flying))
            case "ack" | "lose_ack":
                self.acknowledge(pick, lose=name == "lose_ack")
            case "resend":
                self.resend_all()
            case "restart":
                self.restart()
            case "damage":
                self.damage(pick)

    def settle(self):
        """Everything arrives and is acknowledged; then one more epoch lists what is closed."""
        for _ in range(2):
            self.restart()
            self.form()
            self.form()
            while self.unacked:
                self.resend_all()
                while self.flying:
                    self.arrive(0, keep=False)
                while self.acks:
                    self.acknowledge(0, lose=False)
        self.form()
        while self.flying:
            self.arrive(0, keep=False)


STEPS = st.tuples(
    st.sampled_from(
        [
            "form",
            "form",
            "form",
            "arrive",
            "arrive",
            "arrive",
            "arrive_twice",
            "lose",
            "ack",
            "ack",
            "ack",
            "lose_ack",
            "resend",
            "restart",
            "damage",
        ]
    ),
    st.integers(0, 30),
)


def numbers_of(judged, kind):
    return [
        (lost.epoch, number)
        for verdict in judged
        for lost in verdict.lost
        if lost.kind is kind
        for first, last in lost.ranges
        for number in range(first, last + 1)
    ]


@settings(max_examples=400, deadline=None)
@given(st.lists(STEPS, max_size=120), st.sets(st.integers(1, 60), max_size=8))
def test_nothing_doubled_nothing_lost_and_never_a_false_gap(steps, vanish):
    agent = Agent()
    for step in steps:
        agent.do(step)
    agent.settle()
    # Kafka forgot some batches for good, all their copies; never the first record, which makes the gateway known.
    items = sorted({item for _, item, _, _ in agent.raw[1:]} - {agent.raw[0][1]})
    gone = {item for index, item in enumerate(items) if index + 1 in vanish}
    log = [(head, item) for head, item, _, _ in agent.raw if item not in gone]
    state = MemoryState()
    judged = [judge(head, 0, state) for head, _ in log]
    assert all(isinstance(found.verdict, Verdict) for found in judged)

    taken = Counter(item for (_, item), found in zip(log, judged, strict=True) if found.verdict is Verdict.NEW)
    present = {item for _, item in log}
    assert max(taken.values()) == 1
    gaps, damaged = numbers_of(judged, GapKind.GAP), numbers_of(judged, GapKind.DAMAGED)
    named_gone = {(epoch(e), number) for e, number in gone}
    named_void = {(epoch(e), number) for e, number in agent.voided}
    # The first header's floor is taken, so what lies below it is nobody's gap.
    first = log[0][0]
    before = {(first.epoch, number) for number in range(1, first.floor)} | {
        (e, number) for e, last in first.closed for number in range(1, last + 1)
    }
    assert len(set(gaps)) == len(gaps)
    assert len(set(damaged)) == len(damaged)
    assert not set(gaps) & set(damaged)
    named_taken = {(epoch(e), number) for e, number in taken}
    assert not (set(gaps) | set(damaged)) & named_taken
    # Never a false gap: without loss in Kafka there is none, with it only what is gone (or damaged, unlisted).
    assert set(gaps) <= (named_gone | named_void if gone else set())
    assert set(damaged) <= named_void
    # Nothing lost unseen: all that is there was taken, but a damaged batch whose late copy came after its burial.
    missed = {(epoch(e), n) for e, n in present} - named_taken
    assert missed <= set(damaged) | set(gaps) & named_void | before
    # Every loss is told that a header which is there settles.
    settled = {(head.epoch, number) for head, _ in log for number in range(1, head.floor)} | {
        (e, number) for head, _ in log for e, last in head.closed for number in range(1, last + 1)
    }
    assert (named_gone & settled) - before <= set(gaps) | set(damaged)


@settings(max_examples=300, deadline=None)
@given(st.lists(STEPS, max_size=120))
def test_it_says_what_the_reference_says_that_was_written_from_the_text_alone(steps):
    agent = Agent()
    agent.form()
    agent.arrive(0, keep=False)  # the gateway is known, from floor 1
    for step in steps:
        agent.do(step)
    agent.settle()
    reference, state = Normaliser(), MemoryState()
    for head, _, _, _ in agent.raw:
        taken = len(reference.output)
        lost = len(reference.gaps) + len(reference.damaged)
        reference.take(head, [b"x"])
        judged = judge(head, 0, state)
        assert (judged.verdict is Verdict.NEW) == (len(reference.output) > taken)
        told = sum(last - first + 1 for found in judged.lost for first, last in found.ranges)
        assert told == len(reference.gaps) + len(reference.damaged) - lost


@pytest.mark.parametrize("order", ["closed first", "copies first"])
def test_late_copies_around_a_closing(order):
    state = MemoryState()
    feed(state, header(1), header(2))
    copies = [header(1, floor=3), header(2, floor=3)]
    listing = [header(1, of=1, closed=((0, 2),))]
    judged = feed(state, *(listing + copies if order == "closed first" else copies + listing))
    assert all(not found.lost for found in judged)
    assert sorted(found.verdict.value for found in judged) == ["new", "repeat", "repeat"]
