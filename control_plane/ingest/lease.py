"""Who may hold the session slot: the rules of the lease. PURE.

Promises: no two processes hold the slot at once, whatever the clocks of machines and database say, because only
differences of one process's own clock count, and that clock (boot time) goes on through a suspension:

- the holder renews each third of the lease time; its hold is certain until one lease time, less a margin, after it
  *asked* for the renewal that succeeded;
- another process takes the slot only after it has itself seen the row unchanged, at every look, for a whole lease
  time. A failed look starts the watch anew, so after Postgres was away the holder has a lease time to renew first;
- a slot that was given back, or that is our own from before a restart, is taken at once.

When Postgres is away a connected holder goes on: nobody else can take the slot there. The broker's rule of one
connection per client id guards the rest: who lost its connection must be certain of the slot before it connects
again.
"""

from dataclasses import dataclass, replace
from enum import Enum

RENEWALS_PER_LEASE = 3
LOOKS_PER_LEASE = 15
_MARGIN = 0.1  # of the lease time: clocks that run at different rates, a slow last write


@dataclass(frozen=True, slots=True)
class Row:
    """The slot's row. `renewals` changes with every renewal and every change of holder."""

    holder: str | None
    renewals: int


@dataclass(frozen=True, slots=True)
class Watch:
    """A foreign hold that this process sees, unchanged since `since_s`."""

    row: Row
    since_s: float


@dataclass(frozen=True, slots=True)
class Lease:
    """What this process knows. All times are seconds of its boot-time clock.

    `certain_until_s`: until when nobody else can hold the slot; None while it is not ours. `asked_s`: when it last
    asked anything; `failed`: that question got no answer.
    """

    me: str
    lease_s: float
    certain_until_s: float | None = None
    watch: Watch | None = None
    asked_s: float | None = None
    failed: bool = False

    @property
    def held(self) -> bool:
        """Whether the slot is ours as far as we know."""
        return self.certain_until_s is not None


@dataclass(frozen=True, slots=True)
class Granted:
    """Taking or renewing succeeded; `asked_s` is from before the question."""

    asked_s: float


@dataclass(frozen=True, slots=True)
class Denied:
    """Taking or renewing failed, or a look found this row."""

    asked_s: float
    row: Row


@dataclass(frozen=True, slots=True)
class Unanswered:
    """Postgres did not answer."""

    asked_s: float


Event = Granted | Denied | Unanswered


def step(lease: Lease, event: Event) -> Lease:
    """What this process knows after the event."""
    match event:
        case Granted(asked_s):
            until_s = asked_s + lease.lease_s * (1 - _MARGIN)
            return replace(lease, certain_until_s=until_s, watch=None, asked_s=asked_s, failed=False)
        case Denied(asked_s, row):
            watch = lease.watch
            if watch is None or watch.row != row:
                watch = Watch(row, asked_s)
            return replace(lease, certain_until_s=None, watch=watch, asked_s=asked_s, failed=False)
        case Unanswered(asked_s):
            return replace(lease, watch=None, asked_s=asked_s, failed=True)


class Ask(Enum):
    """The next question to Postgres."""

    RENEW = "renew"
    TAKE = "take"  # if it is free or ours
    TAKE_OVER = "take over"  # also if the watched row is still as it was


def demand(lease: Lease, now_s: float) -> Ask | None:
    """What to ask now, or None if it is too early."""
    if lease.asked_s is not None and now_s < lease.asked_s + pause_s(lease):
        return None
    if lease.held:
        return Ask.RENEW
    if lease.watch is not None and now_s - lease.watch.since_s >= lease.lease_s:
        return Ask.TAKE_OVER
    return Ask.TAKE


def pause_s(lease: Lease) -> float:
    """Seconds between two questions."""
    return lease.lease_s / (RENEWALS_PER_LEASE if lease.held and not lease.failed else LOOKS_PER_LEASE)


def certain(lease: Lease, now_s: float) -> bool:
    """Nobody else can hold the slot now."""
    return lease.certain_until_s is not None and now_s < lease.certain_until_s


def may_write(lease: Lease, now_s: float) -> bool:
    """Whether a connected holder may write now.

    When its hold is not certain only if Postgres was asked just now and did not answer: a process that was stopped
    for longer than its lease must ask before it writes another word.
    """
    if certain(lease, now_s):
        return True
    return lease.held and lease.failed and lease.asked_s is not None and now_s < lease.asked_s + 2 * pause_s(lease)
