"""The machine of a device's keys: its table, its rules one by one, and any run of it with crashes at every step.

In the random runs a device and an operator act as they do in life, and each message may be lost on the way: what was
written stays written, what was to be answered is not. At every moment the device has a key that works.
"""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import count

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from control_plane.registry.credentials.rotation import (
    MOST_LIVING,
    TABLE,
    Cause,
    Cut,
    Delete,
    Due,
    Event,
    Held,
    Key,
    KeyRefusal,
    KeyRefused,
    Phase,
    Reserve,
    Ring,
    Used,
    Why,
    demand,
    move,
    step,
)
from shared.ids import KeyId

T = datetime(2026, 1, 1, tzinfo=UTC)
GRACE = timedelta(seconds=60)
HOUR = timedelta(hours=1)
A, B, C = KeyId("k:a"), KeyId("k:b"), KeyId("k:c")


def run(ring: Ring, *events: Event) -> Ring:
    for event in events:
        found = step(ring, event)
        assert isinstance(found, Ring), found
        ring = found
    return ring


def refused(ring: Ring, event: Event) -> KeyRefusal:
    found = step(ring, event)
    assert isinstance(found, KeyRefused), found
    return found.why


def phases(ring: Ring) -> dict[str, Phase]:
    return {key.id: key.phase for key in ring.keys}


USED_A = Ring((Key(A, Why.REGISTRATION, held=True, used=True),))
ROTATED = run(USED_A, Reserve(B, Why.SELF, replaces=A), Held(B, T))


@pytest.mark.parametrize("phase", Phase)
@pytest.mark.parametrize("cause", Cause)
def test_what_is_not_in_the_table_is_a_bug_and_changes_nothing(phase: Phase, cause: Cause) -> None:
    key = {
        Phase.RESERVED: Key(A, "self", held=False),
        Phase.UNSEEN: Key(A, "self", held=True),
        Phase.IN_USE: Key(A, "self", held=True, used=True),
        Phase.ENDING: Key(A, "self", held=True, not_after=T),
        Phase.ENDED: Key(A, "self", held=True, ended="cut"),
    }[phase]
    fields: dict[Cause, dict[str, object]] = {
        Cause.HELD: {"held": True},
        Cause.USED: {"used": True},
        Cause.TIMED: {"not_after": T},
        Cause.DUE: {"ended": "expired"},
        Cause.OVERTAKEN: {"ended": "overtaken"},
        Cause.CUT: {"ended": "cut"},
    }
    if (phase, cause) in TABLE:
        assert move(key, cause, **fields[cause]).phase is TABLE[phase, cause]
    else:
        with pytest.raises(AssertionError):
            move(key, cause, **fields[cause])


def test_a_device_s_own_rotation_ends_the_old_key_after_the_new_one_was_seen_and_a_grace() -> None:
    assert phases(ROTATED) == {A: Phase.IN_USE, B: Phase.UNSEEN}, "nobody was seen with the new one"
    seen = run(ROTATED, Used(B, T, GRACE))
    assert phases(seen) == {A: Phase.ENDING, B: Phase.IN_USE}
    assert phases(run(seen, Due(T + GRACE - timedelta(seconds=1)))) == {A: Phase.ENDING, B: Phase.IN_USE}
    done = run(seen, Due(T + GRACE))
    assert phases(done) == {A: Phase.ENDED, B: Phase.IN_USE}
    assert demand(done) == (Delete(A),)


def test_the_use_of_the_old_key_ends_nothing() -> None:
    assert run(ROTATED, Used(A, T, GRACE)) == ROTATED


def test_a_key_that_was_lost_on_its_way_makes_place_for_the_next() -> None:
    again = run(ROTATED, Reserve(C, Why.SELF, replaces=A), Held(C, T))
    assert phases(again) == {A: Phase.IN_USE, B: Phase.ENDED, C: Phase.UNSEEN}


def test_a_key_that_was_seen_is_not_ended_by_a_later_one_before_that_is_seen_too() -> None:
    seen = run(ROTATED, Used(B, T, GRACE), Reserve(C, Why.SELF, replaces=B), Held(C, T))
    assert phases(seen)[B] is Phase.IN_USE


def test_of_two_rotations_under_way_the_later_wins_whichever_the_broker_takes_first() -> None:
    both = run(USED_A, Reserve(B, Why.SELF, replaces=A), Reserve(C, Why.SELF, replaces=A))
    assert refused(both, Held(B, T)) is KeyRefusal.KEY_OVERTAKEN
    later_first = run(both, Held(C, T))
    assert phases(later_first) == {A: Phase.IN_USE, B: Phase.ENDED, C: Phase.UNSEEN}
    assert refused(later_first, Held(B, T)) is KeyRefusal.KEY_OVERTAKEN


def test_who_was_cut_off_while_it_asked_gets_nothing() -> None:
    asked = run(USED_A, Reserve(B, Why.SELF, replaces=A), Cut(A, force=True))
    assert refused(asked, Held(B, T)) is KeyRefusal.KEY_OVERTAKEN
    assert refused(asked, Reserve(C, Why.SELF, replaces=A)) is KeyRefusal.KEY_UNKNOWN


def test_an_operator_s_rotation_ends_the_others_after_its_overlap_used_or_not() -> None:
    rotated = run(USED_A, Reserve(B, Why.ROTATION), Held(B, T, HOUR))
    assert phases(rotated) == {A: Phase.ENDING, B: Phase.UNSEEN}
    assert phases(run(rotated, Due(T + HOUR))) == {A: Phase.ENDED, B: Phase.UNSEEN}
    at_once = run(USED_A, Reserve(B, Why.ROTATION), Held(B, T))
    assert phases(at_once) == {A: Phase.ENDED, B: Phase.UNSEEN}


def test_an_end_is_never_put_off() -> None:
    rotated = run(USED_A, Reserve(B, Why.ROTATION), Held(B, T, HOUR))
    again = run(rotated, Reserve(C, Why.ROTATION), Held(C, T + GRACE, HOUR))
    first = again.find(A)
    assert first is not None
    assert first.not_after == T + HOUR


def test_a_repeat_of_an_operator_s_request_ends_the_key_that_nobody_saw() -> None:
    rotated = run(USED_A, Reserve(B, Why.ROTATION), Held(B, T, HOUR))
    again = run(rotated, Reserve(C, Why.ROTATION), Held(C, T, HOUR, renews=B))
    assert phases(again) == {A: Phase.ENDING, B: Phase.ENDED, C: Phase.UNSEEN}
    seen = run(rotated, Used(B, T, GRACE), Reserve(C, Why.ROTATION), Held(C, T, HOUR, renews=B))
    assert phases(seen)[B] is Phase.ENDING, "it was seen meanwhile"


def test_a_further_key_changes_no_other() -> None:
    more = run(USED_A, Reserve(B, Why.ADDED, not_after=T + HOUR), Held(B, T))
    assert phases(more) == {A: Phase.IN_USE, B: Phase.ENDING}


def test_at_most_so_many_live_and_an_unseen_one_of_its_own_does_not_stand_in_a_device_s_way() -> None:
    ring = USED_A
    for n in range(MOST_LIVING - 2):
        ring = run(ring, Reserve(KeyId(f"k:{n}"), Why.ADDED), Held(KeyId(f"k:{n}"), T))
    ring = run(ring, Reserve(B, Why.SELF, replaces=A), Held(B, T))
    assert refused(ring, Reserve(C, Why.ADDED)) is KeyRefusal.TOO_MANY_KEYS
    assert phases(run(ring, Reserve(C, Why.SELF, replaces=A), Held(C, T)))[B] is Phase.ENDED


def test_the_last_key_is_cut_by_force_alone() -> None:
    assert refused(USED_A, Cut(A)) is KeyRefusal.LAST_KEY
    assert phases(run(USED_A, Cut(A, force=True))) == {A: Phase.ENDED}
    assert phases(run(ROTATED, Cut(A))) == {A: Phase.ENDED, B: Phase.UNSEEN}
    assert refused(ROTATED, Cut(C)) is KeyRefusal.KEY_UNKNOWN


def test_a_use_that_is_told_late_of_a_key_that_ended_changes_nothing() -> None:
    ended = run(ROTATED, Cut(B))
    assert run(ended, Used(B, T, GRACE)) == ended
    assert replace(USED_A) == USED_A


class Life(RuleBasedStateMachine):
    """A device that rotates its key, and all that can go wrong between it and the hub."""

    @initialize()
    def born(self) -> None:
        self.names = count()
        self.now = T
        self.ring = Ring((Key(A, Why.REGISTRATION, held=True, used=True),))
        self.holds = [A]  # what the device has on disk, the one that it uses first
        self.asked: list[KeyId] = []  # reserved at the hub, the broker not told yet, oldest first

    @rule()
    def asks(self) -> None:
        """A request reaches the hub, which notes the use of the key that asks. Those before it, to which the device
        no longer listens, may still be under way. A device that has a new key asks for none before it confirmed that.
        """
        works = self._works()
        assert works is not None
        self.ring = run(self.ring, Used(works, self.now, GRACE))
        if len(self.holds) > 1:
            self._drop_what_ended()
            return
        name = KeyId(f"k:n{next(self.names)}")
        found = step(self.ring, Reserve(name, Why.SELF, replaces=works))
        if isinstance(found, Ring):
            self.ring = found
            self.asked.append(name)

    @precondition(lambda self: self.asked)
    @rule(answered=st.booleans(), which=st.integers(0, 9))
    def is_held(self, answered: bool, which: int) -> None:
        """The broker took it; the answer may be lost, or the device die before it stored it."""
        name = self.asked.pop(which % len(self.asked))
        found = step(self.ring, Held(name, self.now))
        if isinstance(found, Ring):
            self.ring = found
            if answered and not self.asked and len(self.holds) == 1:  # only the last is listened to
                self.holds = [name, *self.holds]

    @rule()
    def crash_of_the_hub(self) -> None:
        """Between writing keys and telling the broker: they are swept."""
        self.ring = Ring(tuple(key for key in self.ring.keys if key.id not in self.asked))
        self.asked = []

    @rule(heard=st.booleans(), confirmed=st.booleans())
    def connects(self, heard: bool, confirmed: bool) -> None:
        """With the first of its keys that works. The hub may miss the line in the broker's log (`heard`); only what
        it confirmed by REST makes the device drop its older key.
        """
        works = self._works()
        assert works is not None
        if heard or confirmed:
            self.ring = run(self.ring, Used(works, self.now, GRACE))
        if confirmed:
            self.holds = [works]

    @rule(seconds=st.integers(1, 200))
    def time_passes(self, seconds: int) -> None:
        self.now += timedelta(seconds=seconds)
        self.ring = run(self.ring, Due(self.now))

    @rule()
    def hub_forgets_what_ended(self) -> None:
        self.ring = Ring(tuple(key for key in self.ring.keys if key.phase is not Phase.ENDED))

    @invariant()
    def the_device_has_a_key_that_works(self) -> None:
        assert self._works() is not None, (self.ring, self.holds)

    @invariant()
    def few_live(self) -> None:
        assert sum(key.living for key in self.ring.keys) <= MOST_LIVING

    @invariant()
    def what_ended_is_demanded(self) -> None:
        assert {effect.id for effect in demand(self.ring)} == {k.id for k in self.ring.keys if k.ended}

    def teardown(self) -> None:
        """Left in peace, the device rotates once more and exactly one key is left."""
        if not hasattr(self, "ring"):
            return
        self.crash_of_the_hub()
        self.connects(heard=True, confirmed=True)
        self.asks()
        if self.asked:
            self.is_held(answered=True, which=0)
        self.connects(heard=True, confirmed=True)
        self.time_passes(seconds=int(GRACE.total_seconds()))
        assert [key.id for key in self.ring.keys if key.living] == self.holds[:1], self.ring

    def _drop_what_ended(self) -> None:
        """As `GET /v1/self` tells: a new key that does not live is given up."""
        self.holds = [name for name in self.holds if (key := self.ring.find(name)) is not None and key.living]

    def _works(self) -> KeyId | None:
        for name in self.holds:
            key = self.ring.find(name)
            if key is not None and key.living:
                return name
        return None


Life.TestCase.settings = settings(max_examples=200, stateful_step_count=40, deadline=None)
test_any_life = Life.TestCase
