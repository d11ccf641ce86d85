"""The keys of one device and how they follow one another: `step(ring, event) -> ring`, `demand(ring)`. PURE.

A key's way is a table (`TABLE`); a ring is a device's keys, oldest first. What holds in every ring that `step` makes:

- A key that replaces another does not end it before it was used itself: whoever was given it has it then. So a lost
  answer, a crash or a dead battery at any moment leaves the device with a key that works. (A rotation by an operator
  ends the old keys after its overlap, used or not: a person carries the new key there, and said how long that takes.)
- A key that is given out after another of the same rotation ends that one only if nobody was seen with it.
- At most MOST_LIVING keys live at once.

What must be done outside is a demand: the broker deletes what ended. Times are given.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum

from shared.ids import KeyId

MOST_LIVING = 4


class Phase(StrEnum):
    """Where a key stands."""

    RESERVED = "reserved"  # written, the broker may hold it, nobody was told its secret
    UNSEEN = "unseen"  # the broker holds it, its secret was shown, it was never used
    IN_USE = "in use"
    ENDING = "ending"  # valid until a set time
    ENDED = "ended"


class Cause(StrEnum):
    """What moves a key on."""

    HELD = "held"  # the broker confirmed it
    USED = "used"
    TIMED = "timed"  # it was given an end
    DUE = "due"  # its end has come
    OVERTAKEN = "overtaken"  # a later key of the same rotation was given out and nobody was seen with this one
    CUT = "cut"  # ended by a person, at once


TABLE: dict[tuple[Phase, Cause], Phase] = {
    (Phase.RESERVED, Cause.HELD): Phase.UNSEEN,
    (Phase.RESERVED, Cause.OVERTAKEN): Phase.ENDED,
    (Phase.RESERVED, Cause.CUT): Phase.ENDED,
    (Phase.UNSEEN, Cause.USED): Phase.IN_USE,
    (Phase.UNSEEN, Cause.TIMED): Phase.ENDING,
    (Phase.UNSEEN, Cause.OVERTAKEN): Phase.ENDED,
    (Phase.UNSEEN, Cause.CUT): Phase.ENDED,
    (Phase.IN_USE, Cause.USED): Phase.IN_USE,
    (Phase.IN_USE, Cause.TIMED): Phase.ENDING,
    (Phase.IN_USE, Cause.CUT): Phase.ENDED,
    (Phase.ENDING, Cause.USED): Phase.ENDING,
    (Phase.ENDING, Cause.TIMED): Phase.ENDING,
    (Phase.ENDING, Cause.OVERTAKEN): Phase.ENDED,
    (Phase.ENDING, Cause.DUE): Phase.ENDED,
    (Phase.ENDING, Cause.CUT): Phase.ENDED,
}
"""Every legal move; all others are bugs of ours."""


class Why(StrEnum):
    """How a key came to be."""

    REGISTRATION = "registration"
    REISSUE = "reissue"
    ROTATION = "rotation"  # an operator's
    ADDED = "added"  # an operator's, beside the others
    SELF = "self"  # the device's own
    ENROLMENT = "enrolment"
    IMPORT = "import"


@dataclass(frozen=True, slots=True)
class Key:
    """One key. `not_after`: its end, if it has one; `ended`: why it ended, if it did."""

    id: KeyId
    why: str
    held: bool
    used: bool = False
    not_before: datetime | None = None
    not_after: datetime | None = None
    replaces: KeyId | None = None
    ended: str | None = None

    @property
    def phase(self) -> Phase:
        """Where it stands."""
        if self.ended is not None:
            return Phase.ENDED
        if not self.held:
            return Phase.RESERVED
        if self.not_after is not None:
            return Phase.ENDING
        return Phase.IN_USE if self.used else Phase.UNSEEN

    @property
    def living(self) -> bool:
        """It works, or will."""
        return self.phase in (Phase.UNSEEN, Phase.IN_USE, Phase.ENDING)


@dataclass(frozen=True, slots=True)
class Ring:
    """A device's keys in the order in which they were made; none that ended long ago."""

    keys: tuple[Key, ...] = ()

    def find(self, key_id: KeyId | None) -> Key | None:
        """The key of this id."""
        return next((key for key in self.keys if key.id == key_id), None)


class KeyRefusal(StrEnum):
    """Why something is not done; the API's problem types end in these words."""

    TOO_MANY_KEYS = "too-many-keys"
    LAST_KEY = "last-key"
    KEY_UNKNOWN = "key-unknown"
    KEY_OVERTAKEN = "key-overtaken"
    DEVICE_RETIRED = "device-retired"
    IDEMPOTENCY_KEY_REUSED = "idempotency-key-reused"


@dataclass(frozen=True, slots=True)
class KeyRefused:
    """Nothing is changed."""

    why: KeyRefusal
    detail: str


@dataclass(frozen=True, slots=True)
class Reserve:
    """A new key is to be made: written before the broker is told. `replaces`: the one that asked (SELF)."""

    id: KeyId
    why: Why
    replaces: KeyId | None = None
    not_before: datetime | None = None
    not_after: datetime | None = None


@dataclass(frozen=True, slots=True)
class Held:
    """The broker holds a reserved key. `overlap`: how long an operator's rotation lets the others live; `renews`: the
    key that was shown to the same request before, and to whom nobody answered.
    """

    id: KeyId
    now: datetime
    overlap: timedelta = timedelta(0)
    renews: KeyId | None = None


@dataclass(frozen=True, slots=True)
class Used:
    """Somebody connected or asked with this key. `grace`: how long the one that it replaces lives on."""

    id: KeyId
    now: datetime
    grace: timedelta


@dataclass(frozen=True, slots=True)
class Due:
    """Time went on."""

    now: datetime


@dataclass(frozen=True, slots=True)
class Cut:
    """A person ends a key now; the last one only by force."""

    id: KeyId
    force: bool = False


Event = Reserve | Held | Used | Due | Cut


@dataclass(frozen=True, slots=True)
class Delete:
    """Effect: the broker deletes the key, which closes its session. Safe to repeat."""

    id: KeyId


def step(ring: Ring, event: Event) -> Ring | KeyRefused:
    """The ring after the event, or why nothing is changed."""
    match event:
        case Reserve():
            return _reserve(ring, event)
        case Held():
            return _held(ring, event)
        case Used():
            return _used(ring, event)
        case Due():
            return _each(ring, lambda key: _due(key, event.now))
        case Cut():
            return _cut(ring, event)


def demand(ring: Ring) -> tuple[Delete, ...]:
    """What the broker must not hold (any longer)."""
    return tuple(Delete(key.id) for key in ring.keys if key.phase is Phase.ENDED)


def move(key: Key, cause: Cause, **fields: object) -> Key:
    """The key after a legal move; an illegal one is a bug."""
    after = TABLE.get((key.phase, cause))
    assert after is not None, f"a key that is {key.phase} cannot be {cause}"
    moved = replace(key, **fields)  # type: ignore[arg-type]  # fields of Key, given below
    assert moved.phase is after, f"{cause}: {moved.phase} instead of {after}"
    return moved


def _reserve(ring: Ring, event: Reserve) -> Ring | KeyRefused:
    if event.replaces is not None:
        old = ring.find(event.replaces)
        if old is None or not old.living:
            return KeyRefused(KeyRefusal.KEY_UNKNOWN, "the key that asks is no longer valid")
    # What this key will end when it is held makes room already.
    staying = [key for key in ring.keys if key.living and not (event.why is Why.SELF and _unseen_self(key))]
    if len(staying) >= MOST_LIVING:
        detail = f"a device has at most {MOST_LIVING} living keys; end one of them first"
        return KeyRefused(KeyRefusal.TOO_MANY_KEYS, detail)
    made = Key(
        event.id,
        event.why,
        held=False,
        not_before=event.not_before,
        not_after=event.not_after,
        replaces=event.replaces,
    )
    return Ring((*ring.keys, made))


def _held(ring: Ring, event: Held) -> Ring | KeyRefused:
    key = ring.find(event.id)
    overtaken = KeyRefused(KeyRefusal.KEY_OVERTAKEN, "another rotation of this device took its place; try again")
    if key is None or key.phase is not Phase.RESERVED:
        return overtaken
    if key.why == Why.SELF:
        later = ring.keys[ring.keys.index(key) + 1 :]
        old = ring.find(key.replaces)
        # Who asked may have been cut off meanwhile, and a key must not outlive that.
        if (
            old is None
            or not old.living
            or any(one.why == Why.SELF and one.phase is not Phase.ENDED for one in later)
        ):
            return overtaken
    held = move(key, Cause.HELD, held=True) if key.not_after is None else replace(key, held=True)

    def other(one: Key) -> Key:
        if one.id == key.id or one.phase is Phase.ENDED:
            return held if one.id == key.id else one
        if (key.why == Why.SELF and _unseen_self(one)) or (one.id == event.renews and not one.used):
            return move(one, Cause.OVERTAKEN, ended="overtaken")
        if key.why == Why.ROTATION and one.living:
            return _due(_timed(one, event.now + event.overlap), event.now)
        return one

    return _each(ring, other)


def _used(ring: Ring, event: Used) -> Ring:
    key = ring.find(event.id)
    if key is None or not key.living:
        return ring  # it ended at this very moment

    def other(one: Key) -> Key:
        if one.id == key.id:
            return move(one, Cause.USED, used=True)
        return _timed(one, event.now + event.grace) if one.id == key.replaces and one.living else one

    return _each(ring, other)


def _cut(ring: Ring, event: Cut) -> Ring | KeyRefused:
    key = ring.find(event.id)
    if key is None or key.phase is Phase.ENDED:
        return KeyRefused(KeyRefusal.KEY_UNKNOWN, "the device has no such living key")
    if key.living and not event.force and not any(one.living for one in ring.keys if one.id != key.id):
        detail = "it is the device's last key: rotate instead, or end it with force=true"
        return KeyRefused(KeyRefusal.LAST_KEY, detail)
    return _each(ring, lambda one: move(one, Cause.CUT, ended="cut") if one.id == key.id else one)


def _unseen_self(key: Key) -> bool:
    return key.why == Why.SELF and not key.used and key.phase is not Phase.ENDED


def _timed(key: Key, at: datetime) -> Key:
    return move(key, Cause.TIMED, not_after=at if key.not_after is None else min(key.not_after, at))


def _due(key: Key, now: datetime) -> Key:
    if key.phase is Phase.ENDING and key.not_after is not None and key.not_after <= now:
        return move(key, Cause.DUE, ended="expired")
    return key


def _each(ring: Ring, change: Callable[[Key], Key]) -> Ring:
    return Ring(tuple(change(key) for key in ring.keys))
