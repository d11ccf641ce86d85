"""The uplink's state, what may happen to it, and what it may demand. PURE data; the rules are `edge_agent.uplink`.

Times are seconds of a monotonic clock, chances are random numbers in [0, 1): both are given with the events.
Sequence numbers are the outbox's; a span is (first, last), both inclusive.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from edge_agent.ledger import Ledger
from edge_agent.pace import Bucket
from edge_agent.row import Counts
from shared import limits
from shared.batch import Hint, Lane
from shared.ids import Epoch

Span = tuple[int, int]
Key = tuple[Epoch, int]
"""A batch's epoch and number: what the hub knows it by."""
ClosedEpoch = tuple[Epoch, int]
Void = tuple[Epoch, int, int]
Listed = frozenset[ClosedEpoch]


@dataclass(frozen=True, slots=True)
class Limits:
    """The uplink's bounds. `window`: unacknowledged batches; `window_bytes`: their packed bytes.

    `replay_per_s`: records a second of backlog beside live. `replay_start_s`: the backlog begins at a random moment
    within this time after connecting. `free_rows`, `free_every_s`: acknowledged rows are deleted when so many wait,
    or so long after the first of them.
    """

    window: int = 256
    first_window: int = 16
    window_bytes: int = 4 * limits.MIB
    replay_per_s: float = 50_000.0
    replay_start_s: float = 10.0
    free_rows: int = 5_000
    free_every_s: float = 30.0

    def __post_init__(self) -> None:
        assert 4 <= self.first_window <= self.window <= limits.WINDOW_NUMBERS
        assert self.window_bytes >= limits.BATCH_PACKED_BYTES
        assert self.replay_per_s > 0


@dataclass(frozen=True, slots=True)
class Batch:
    """An immutable batch: the rows that stand in `span` and are in no batch formed before it."""

    epoch: Epoch
    number: int
    lane: Lane
    span: Span
    counts: Counts
    packed_bytes: int

    @property
    def key(self) -> Key:
        return (self.epoch, self.number)

    @property
    def records(self) -> int:
        return sum(self.counts)


@dataclass(frozen=True, slots=True)
class OldEpoch:
    """An epoch that forms no more batches. `last`: its last number, or None where damage left that unknown."""

    epoch: Epoch
    last: int | None


@dataclass(frozen=True, slots=True)
class Flight:
    """A batch's sends within this connection. `first`, `last`: places in the order of all sends."""

    first: int
    last: int
    attempts: int
    sent_at: float
    resend_at: float  # not again before
    refused: bool = False


@dataclass(frozen=True, slots=True)
class Link:
    """One connection. Rows up to `boundary` were accepted before it.

    `window`: how many batches may be in flight now; `round_trip`: the shortest time from a send to its
    acknowledgement. `acked_high`: the highest first place of an acknowledged batch: what was sent before that place
    and is not acknowledged was overtaken. `refusals`: since the latest acknowledgement. `chance`: this link's own.
    `heard`: the hub acknowledged what was sent in this connection, and since then nothing showed that nobody listens;
    until then one batch flies alone, and not before `probe_at`, which the number of `probes` in vain puts off.
    """

    boundary: int
    window: int
    replay_from: float
    replay: Bucket
    backstop_at: float
    chance: float
    backstops: int = 0
    sends: int = 0
    round_trip: float = math.inf
    acked_high: int = -1
    refusals: int = 0
    heard: bool = False
    probes: int = 0
    probe_at: float = 0.0
    flights: Mapping[Key, Flight] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Limited:
    """The flow hint that holds."""

    id: str
    until: float
    bucket: Bucket


@dataclass(frozen=True, slots=True)
class State:
    """All that the uplink knows.

    `epoch` is the one of new batches, `next_number` their next number. `batches`: the unacknowledged, in order of
    forming, old epochs first. `freeing`: acknowledged, their rows not yet deleted. `waiting`: spans whose rows are in
    no batch, ascending. `alarm_live`, `alarm_replay`: the newest alarm that waits in each lane, or 0. `listed`: per
    batch formed by this process, the closed epochs that every copy sent so far has listed (None: not sent yet).
    """

    limits: Limits
    epoch: Epoch
    next_number: int
    tail: int
    ledger: Ledger
    batches: Mapping[Key, Batch]
    old: tuple[OldEpoch, ...]
    voids: tuple[Void, ...]
    waiting: tuple[Span, ...]
    now: float
    alarm_live: int = 0
    alarm_replay: int = 0
    freeing: tuple[Batch, ...] = ()
    free_at: float | None = None
    forgotten: tuple[Epoch, ...] = ()
    listed: Mapping[Key, Listed | None] = field(default_factory=dict)
    link: Link | None = None
    hint: Limited | None = None


@dataclass(frozen=True, slots=True)
class Saved:
    """What an outbox holds at a start, beside its rows. `tail`: the highest sequence number ever given."""

    tail: int = 0
    ledger: Ledger = field(default_factory=Ledger)
    batches: tuple[Batch, ...] = ()
    epochs: tuple[OldEpoch, ...] = ()
    voids: tuple[Void, ...] = ()
    waiting: tuple[Span, ...] = ()
    newest_alarm: int = 0


def restore(saved: Saved, epoch: Epoch, bounds: Limits, now: float) -> State:
    """The state at a start: `epoch` is fresh, every epoch of before is old, every batch of before unsent."""
    assert all(old.epoch != epoch for old in saved.epochs)
    return State(
        limits=bounds,
        epoch=epoch,
        next_number=1,
        tail=saved.tail,
        ledger=saved.ledger,
        batches={batch.key: batch for batch in saved.batches},
        old=saved.epochs,
        voids=saved.voids,
        waiting=saved.waiting,
        now=now,
        alarm_replay=saved.newest_alarm,
    )


# What may happen. The shell makes these, in the order in which things happened.


@dataclass(frozen=True, slots=True)
class Tick:
    """Time passed."""

    now: float


@dataclass(frozen=True, slots=True)
class Appended:
    """Rows tail + 1 … `last` are in the outbox. `alarm`: the newest alarm among them, or 0."""

    last: int
    counts: Counts
    alarm: int = 0


@dataclass(frozen=True, slots=True)
class Connected:
    """The broker answered, and the acknowledgements are subscribed to."""

    now: float
    chance: float


@dataclass(frozen=True, slots=True)
class Disconnected:
    """The connection ended; what was in flight in it is unknown."""


@dataclass(frozen=True, slots=True)
class Formed:
    """`Form` was done: these rows of the demanded span are this batch."""

    batch: Batch
    alarms: int = 0


@dataclass(frozen=True, slots=True)
class FoundEmpty:
    """`Form` found no row in this span."""

    span: Span


@dataclass(frozen=True, slots=True)
class Sent:
    """`Send` was done (the message is with the client library; nothing is known of its fate)."""

    send: "Send"
    chance: float


@dataclass(frozen=True, slots=True)
class Refused:
    """A PUBACK with a reason from 0x80 on: the broker did not take this batch."""

    key: Key
    chance: float


@dataclass(frozen=True, slots=True)
class Unheard:
    """A PUBACK with reason 0x10: the broker had nobody to give this batch to, and it is gone."""

    key: Key
    chance: float


@dataclass(frozen=True, slots=True)
class Acked:
    """The hub says that Kafka has these batches; unknown ones are none of ours."""

    keys: tuple[Key, ...]


@dataclass(frozen=True, slots=True)
class Hinted:
    """The hub asks for less."""

    hint: Hint


@dataclass(frozen=True, slots=True)
class Freed:
    """`Free` was done."""

    free: "Free"


@dataclass(frozen=True, slots=True)
class Thinned:
    """Rows in no batch became `made` aggregates, within the same spans."""

    taken: Counts
    made: int


@dataclass(frozen=True, slots=True)
class Expired:
    """Rows in no batch outlived their time."""

    rows: Counts


Happening = (
    Tick | Appended | Connected | Disconnected | Formed | FoundEmpty | Sent | Refused | Unheard | Acked | Hinted
    | Freed | Thinned | Expired
)  # fmt: skip


# What may be demanded.


@dataclass(frozen=True, slots=True)
class Form:
    """Make batch `number` of `epoch` from the first rows in `span`: at most `records`, packed `packed_bytes`.

    Committed before anything of it is sent. Answer with `Formed` or `FoundEmpty`.
    """

    epoch: Epoch
    number: int
    lane: Lane
    span: Span
    records: int
    packed_bytes: int


@dataclass(frozen=True, slots=True)
class Send:
    """Publish this batch with this header's words. Answer with `Sent`."""

    batch: Batch
    floor: int
    resent: bool
    closed: tuple[ClosedEpoch, ...]
    void: tuple[Void, ...]
    hint: str | None


@dataclass(frozen=True, slots=True)
class Free:
    """Delete these batches with their rows, these epochs, and every void but `voids`; save the ledger; all in one
    transaction. Answer with `Freed`.
    """

    batches: tuple[Batch, ...]
    epochs: tuple[Epoch, ...]
    voids: tuple[Void, ...]
    ledger: Ledger


Effect = Form | Send | Free
