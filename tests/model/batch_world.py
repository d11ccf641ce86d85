"""A random world around the agent's half of the batch protocol: link, cloud broker, ingest, Kafka's raw log.

Everything that may go wrong is one method; `World.check` holds after each of them, `World.settle` makes the world
well and then demands that all has arrived. The world knows by itself what was accepted, what was destroyed by damage
or by an overwritten file, and what may show twice.
"""

import itertools
import random
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Protocol

from edge_agent.dispatch import Dispatcher, Outgoing, Submission
from edge_agent.ledger import Ledger
from edge_agent.row import CLASSES, NONE, Counts, Row, RowClass, count
from edge_agent.salvage_plan import mend
from edge_agent.uplink_state import (
    Acked,
    Batch,
    Connected,
    Disconnected,
    Free,
    Hinted,
    Limits,
    OldEpoch,
    Refused,
    Saved,
    Span,
    Tick,
    Unheard,
    restore,
)
from shared import batch as wire
from shared.batch import ClockQuality, Header, Hint, Lane
from shared.errors import Transient
from shared.ids import Epoch
from tests.model.reference_normaliser import Normaliser

SMALL = Limits(window=16, first_window=4, free_rows=20, free_every_s=5.0, replay_start_s=3.0, replay_per_s=2_000.0)


class Crash(BaseException):
    """The process ends here."""


def _records(payload: bytes) -> list[bytes]:
    unpacked = wire.unpack(payload)
    assert isinstance(unpacked, bytes)
    return unpacked[1:-1].replace(b"],[", b"]\n[").split(b"\n")


class Disk(Protocol):
    """An outbox file that can be crashed, copied and harmed."""

    fail_at: int | None  # the write at which the process ends
    full: bool  # commits fail

    def load(self) -> Saved: ...
    def copy(self) -> object: ...
    def put_back(self, copy: object) -> None: ...
    def dissolve(self) -> None: ...
    def row_names(self) -> set[bytes]: ...
    def harm(self, choose: random.Random) -> tuple[set[bytes], set[bytes]]: ...


@dataclass
class Memory:
    """The outbox as a few dictionaries, for speed; `fail_at` counts down to a crash in the middle of a write."""

    rows: dict[int, tuple[int, bytes]] = field(default_factory=dict)
    batches: dict[tuple[Epoch, int], Batch] = field(default_factory=dict)
    epochs: dict[Epoch, int | None] = field(default_factory=dict)
    voids: list[tuple[Epoch, int, int]] = field(default_factory=list)
    ledger: Ledger = field(default_factory=Ledger)
    tail: int = 0
    fail_at: int | None = None
    full: bool = False

    def copy(self) -> object:
        return (dict(self.rows), dict(self.batches), dict(self.epochs), list(self.voids), self.ledger, self.tail)

    def put_back(self, copy: object) -> None:
        rows, batches, epochs, voids, self.ledger, self.tail = copy  # type: ignore[misc]
        self.rows, self.batches, self.epochs, self.voids = dict(rows), dict(batches), dict(epochs), list(voids)

    @contextmanager
    def transaction(self) -> Iterator[None]:
        before = self.copy()
        try:
            yield
            self._step()
            if self.full:
                raise Transient("full")
        except BaseException:
            self.put_back(before)
            raise

    def _step(self) -> None:
        if self.fail_at is not None:
            self.fail_at -= 1
            if self.fail_at <= 0:
                raise Crash

    def append(self, after: int, rows: Sequence[Row], identities: Sequence[bytes], accepted: Counts) -> None:
        self._step()
        for seq, row in enumerate(rows, after + 1):
            assert seq not in self.rows
            self.rows[seq] = (CLASSES.index(row.cls), row.record)
            self.tail = seq
        self.ledger = replace(self.ledger, accepted=accepted)

    def read(self, span: Span, most: int) -> Iterable[tuple[int, int, bytes]]:
        found = ((seq, *self.rows[seq]) for seq in range(span[0], span[1] + 1) if seq in self.rows)
        return itertools.islice(found, most)

    def save_batch(self, batch: Batch) -> None:
        self._step()
        self.epochs.setdefault(batch.epoch, 0)
        assert batch.key not in self.batches
        self.batches[batch.key] = batch

    def free(self, free: Free, tail: int) -> None:
        self._step()
        for batch in free.batches:
            for seq in range(batch.span[0], batch.span[1] + 1):
                self.rows.pop(seq, None)
            del self.batches[batch.key]
            last = self.epochs[batch.epoch]
            self.epochs[batch.epoch] = None if last is None else max(last, batch.number)
        for epoch in free.epochs:
            assert all(key[0] != epoch for key in self.batches)
            del self.epochs[epoch]
        self.voids = list(free.voids)
        self.ledger = free.ledger
        self.tail = tail

    def load(self) -> Saved:
        batches = list(self.batches.values())
        place = {epoch: index for index, epoch in enumerate(self.epochs)}
        batches.sort(key=lambda batch: (place[batch.epoch], batch.number))
        taken = {seq for batch in batches for seq in range(batch.span[0], batch.span[1] + 1)}
        free = sorted(set(self.rows) - taken)
        walls = sorted(batch.span[0] for batch in batches)
        spans: list[Span] = []
        for seq in free:
            if spans and not any(spans[-1][1] < wall < seq for wall in walls):
                spans[-1] = (spans[-1][0], seq)
            else:
                spans.append((seq, seq))
        gone = [self.ledger.acked, self.ledger.thinned, self.ledger.expired, self.ledger.damaged]
        waiting = tuple(a - sum(g) for a, g in zip(self.ledger.accepted, zip(*gone, strict=True), strict=True))
        epochs = []
        for epoch, last in self.epochs.items():
            numbers = [batch.number for batch in batches if batch.epoch == epoch]
            if last is not None or numbers:
                epochs.append(OldEpoch(epoch, None if last is None else max([last, *numbers])))
        return Saved(
            tail=self.tail,
            ledger=replace(self.ledger, waiting=waiting).reconciled(self.counted()),
            batches=tuple(batches),
            epochs=tuple(epochs),
            voids=tuple(self.voids),
            waiting=tuple(spans),
            newest_alarm=max((seq for seq in free if self.rows[seq][0] == 0), default=0),
        )

    def counted(self) -> Counts:
        return count(CLASSES[cls] for cls, _ in self.rows.values())

    def row_names(self) -> set[bytes]:
        return {record for _, record in self.rows.values()}

    def dissolve(self) -> None:
        self.batches.clear()
        self.epochs.clear()
        self.voids.clear()

    def harm(self, choose: random.Random) -> tuple[set[bytes], set[bytes]]:
        """Lose a stretch of rows and some descriptions, and mend. Returns (rows lost, rows that may show twice)."""
        whole = choose.random() < 0.6
        lost: set[bytes] = set()
        if self.rows:
            start = choose.choice(sorted(self.rows))
            for seq in range(start, start + choose.randint(1, 12)):
                if seq in self.rows:
                    lost.add(self.rows.pop(seq)[1])
        batches = list(self.batches.values())
        unread = [] if whole else [batch for batch in batches if choose.random() < 0.3]
        twice = {record for batch in unread for _, _, record in self.read(batch.span, 1000)}
        forget = {epoch for epoch in self.epochs if choose.random() < 0.1}
        epochs = [old for old in self.load().epochs if old.epoch not in forget]
        mended = mend(
            [batch for batch in batches if batch not in unread],
            epochs,
            self.voids,
            complete=whole,
            present=lambda span: count(CLASSES[cls] for _, cls, _ in self.read(span, 1000)),
        )
        ledger = self.load().ledger
        self.batches = {batch.key: batch for batch in mended.batches}
        self.epochs = {old.epoch: old.last for old in mended.epochs}
        self.voids = list(mended.voids)
        self.ledger = ledger
        return lost, twice


@dataclass
class Broker:
    """The cloud broker's queue for ingest's session. `unsent`: where the next delivery to ingest begins.

    `session`: there is one; without it nobody gets what is published. `saved`: what a kill brings back, None without
    a session.
    """

    queue: list[tuple[Header, bytes]] = field(default_factory=list)
    unsent: int = 0
    session: bool = True
    saved: list[tuple[Header, bytes]] | None = field(default_factory=list)


class World:
    """One gateway and all that is between it and the normaliser's output."""

    def __init__(
        self,
        seed: int,
        disk: Disk,
        *,
        lossy: bool = True,
        copies: bool = True,
        damage: bool = True,
        forgetful: bool = True,
    ) -> None:
        self.choose = random.Random(seed)
        self.disk = disk
        self.now = 1000.0
        self.names = itertools.count()
        self.normaliser = Normaliser(lists_of_repeats=seed % 2 == 0, copies=copies)
        self.broker = Broker()
        self.raw: list[tuple[Header, bytes]] = []
        self.acks: list[tuple[Epoch, int]] = []
        self.untold: list[tuple[Epoch, int]] = []  # acknowledgements that ingest publishes when it is back
        self.pubacks: list[Unheard | Refused] = []  # on their way to the agent, before any acknowledgement
        self.link: list[Outgoing] = []  # published, not yet with the broker
        self.accepted: set[bytes] = set()
        self.connects = 0
        self.accepted_in: dict[bytes, int] = {}  # the connection, by its number, within which it was accepted
        self.gone: set[bytes] = set()  # destroyed by damage or by overwriting the file
        self.twice: set[bytes] = set()  # may be sent again
        self.copies: list[tuple[object, str]] = []
        self.lineage = "0"
        self.disk_lineage = "0"
        self.payloads: dict[tuple[Epoch, int], bytes] = {}
        self.altered = False
        self.disorder = False
        self.refusing = False
        self.kinds = {"lossy": lossy, "copies": copies, "damage": damage, "forgetful": forgetful}
        self.trace: list[str] = []
        self._start()

    # The agent.

    def _start(self) -> None:
        if self.disk_lineage != self.lineage:
            # A copy of another time: what it holds is sent anew.
            self.disk.dissolve()
            self.twice |= self.disk.row_names()
            self.altered = True
        self.lineage = self.disk_lineage = f"{self.choose.getrandbits(64)}"
        epoch = Epoch(f"{self.choose.getrandbits(120):022x}"[:22].rjust(22, "A"))
        state = restore(self.disk.load(), epoch, SMALL, self.now)
        quality = ClockQuality.SYNCED
        self.agent = Dispatcher(self.disk, state, chance=self.choose.random, quality=lambda: quality)  # type: ignore[arg-type]
        self._cut()

    def restart(self) -> None:
        self._start()

    def submit(self) -> None:
        rows = []
        for _ in range(self.choose.randint(1, 6)):
            cls = self.choice((RowClass.TELEMETRY, RowClass.TELEMETRY, RowClass.ALARM, RowClass.EVENT))
            rows.append(Row(cls, 0, 0, "boot", ClockQuality.SYNCED, b'["r",%d]' % next(self.names)))
        names = {row.record for row in rows}
        connection = self.connects if self.agent.state.link is not None else 0
        self.accepted_in |= dict.fromkeys(names, connection)
        try:
            self.cycle([Submission(rows, [])])
        except Transient:
            return  # nothing of it was stored
        self.accepted |= names

    def submit_and_crash(self) -> None:
        self.disk.fail_at = self.choose.randint(1, 6)
        try:
            self.submit()
        except Crash:
            self._start()
        finally:
            self.disk.fail_at = None

    def cycle(self, submissions: Sequence[Submission] = ()) -> None:
        self.agent.happened(Tick(self.now))
        crash = self.disk.fail_at is not None
        self.disk.full = bool(submissions) and self.choose.random() < 0.03
        made = self.agent.cycle(submissions, most=self.choose.choice((1, 3, 16)))
        if crash and self.choose.random() < 0.5:
            if submissions:
                self.accepted |= {row.record for submission in submissions for row in submission.rows}
            raise Crash  # after the commit, before anything was published
        for outgoing in made.outgoing:
            self._published(outgoing)

    def _published(self, outgoing: Outgoing) -> None:
        header = wire.decode_header(dict(wire.encode_header(outgoing.header)))
        assert header == outgoing.header, header
        first = self.payloads.setdefault(outgoing.key, outgoing.payload)
        assert first == outgoing.payload or self.altered, "a resend differs"
        if not outgoing.header.resent:
            # It may have been formed in an earlier connection that ended before it was sent.
            within = {self.accepted_in[record] for record in _records(outgoing.payload)}
            if outgoing.header.lane is Lane.LIVE:
                assert len(within) == 1, "live has rows of before its connection"
                assert within != {0}, "live has rows accepted without a connection"
            else:
                assert within != {self.connects}, "replay has rows of this connection alone"
        self.link.append(outgoing)

    # The link.

    def connect(self) -> None:
        if self.agent.state.link is None:
            self._cut()
            self.connects += 1
            self.agent.happened(Connected(self.now, self.choose.random()))

    def disconnect(self) -> None:
        self.transfer()
        self._cut()
        self.agent.happened(Disconnected())

    def _cut(self) -> None:
        self.link.clear()
        self.pubacks.clear()
        self.acks.clear()

    def transfer(self) -> None:
        for _ in range(self.choose.randint(0, len(self.link))):
            outgoing = self.link.pop(0)
            if self.refusing:
                self.disorder = True
                self.pubacks.append(Refused(outgoing.key, self.choose.random()))
            elif not self.broker.session:
                self.pubacks.append(Unheard(outgoing.key, self.choose.random()))
            else:
                self.broker.queue.append((outgoing.header, outgoing.payload))

    def pass_time(self) -> None:
        self.now += self.choose.choice((0.01, 0.2, 0.2, 1.0, 1.0, 5.0, 5.0, 40.0, 70.0, 1000.0))

    def refuse(self) -> None:
        self.refusing = not self.refusing

    def hint(self) -> None:
        hint = Hint("h", self.choose.choice((1.0, 3.0, 50.0)), self.choose.choice((1.0, 30.0)))
        self.agent.happened(Hinted(hint))

    # The broker.

    def broker_saves(self) -> None:
        self.broker.saved = list(self.broker.queue) if self.broker.session else None

    def broker_is_restored(self) -> None:
        """Killed: it comes back with what it had saved, older messages again and newer ones lost."""
        self.untold += self.acks
        self.disconnect()
        self.broker.session = self.broker.saved is not None
        self.broker.queue = list(self.broker.saved or ())
        self.broker.unsent = 0

    def broker_forgets_ingest(self) -> None:
        """Killed before it ever saved ingest's session; agents may be back before ingest."""
        self.broker.saved = None
        self.broker_is_restored()

    def broker_drops(self) -> None:
        """A full queue: one message that ingest has not seen is gone, and the connection stands."""
        waiting = len(self.broker.queue) - self.broker.unsent
        if waiting:
            self.disorder = True
            del self.broker.queue[self.broker.unsent + self.choose.randrange(waiting)]

    def session_ends(self) -> None:
        """With all that waited in it, and the agent's connection stands."""
        self.disorder = True
        self.broker.session = False
        self.broker.queue.clear()
        self.broker.unsent = 0

    # Ingest.

    def ingest_subscribes(self) -> None:
        self.broker.session = True
        self.acks += self.untold
        self.untold = []

    def ingest(self) -> None:
        for _ in range(self.choose.randint(1, 8)):
            if self.broker.unsent == len(self.broker.queue):
                return
            self._produce(self.broker.queue[self.broker.unsent])
            self.broker.unsent += 1

    def ingest_acknowledges_the_broker(self) -> None:
        done = self.choose.randint(0, self.broker.unsent)
        del self.broker.queue[:done]
        self.broker.unsent -= done

    def ingest_restarts(self) -> None:
        """The broker delivers the whole unacknowledged prefix again."""
        self.broker.unsent = 0

    def _produce(self, message: tuple[Header, bytes]) -> None:
        header, payload = message
        self.raw.append(message)
        records = _records(payload)
        assert len(records) == header.records
        self.normaliser.take(header, records)
        if self.choose.random() < 0.9:  # else the acknowledgement is lost on its way
            self.acks.append((header.epoch, header.number))

    def answer(self) -> None:
        """What the broker answered reaches the agent, in order."""
        some = self.choose.randint(0, len(self.pubacks))
        for puback in self.pubacks[:some]:
            self.agent.happened(puback)
        del self.pubacks[:some]

    def ack(self) -> None:
        if self.agent.state.link is not None:
            for puback in self.pubacks:
                self.agent.happened(puback)
            self.pubacks.clear()
            some = self.choose.randint(0, len(self.acks))
            keys, self.acks = self.acks[:some], self.acks[some:]
            if keys:
                self.agent.happened(Acked(tuple(keys)))

    # Hands and fate.

    def take_copy(self) -> None:
        self.copies = [*self.copies[-2:], (self.disk.copy(), self.disk_lineage)]

    def put_copy_back(self) -> None:
        if self.copies:
            before = self.disk.row_names()
            copy, self.disk_lineage = self.choose.choice(self.copies)
            self.disk.put_back(copy)
            held = self.disk.row_names()
            self.twice |= held
            self.gone = (self.gone | before) - held  # destroyed by hand, unless it is on its way
            self.altered = True
            self._start()

    def damage(self) -> None:
        lost, twice = self.disk.harm(self.choose)
        self.gone |= lost
        self.twice |= twice
        self.altered = True
        self._start()

    def choice(self, options: Sequence[RowClass]) -> RowClass:
        return self.choose.choice(options)

    # What holds.

    def step(self) -> None:
        acts = {
            self.submit: 20, self.cycle: 20, self.transfer: 15, self.ingest: 15, self.ack: 15, self.pass_time: 12,
            self.ingest_acknowledges_the_broker: 8, self.connect: 8, self.disconnect: 2, self.restart: 1,
            self.submit_and_crash: 1, self.ingest_restarts: 1, self.hint: 1, self.answer: 15,
        }  # fmt: skip
        if self.kinds["lossy"]:
            acts |= {self.broker_drops: 3, self.refuse: 1, self.session_ends: 1}
        if self.kinds["lossy"] or self.kinds["forgetful"]:
            acts |= {
                self.broker_saves: 2, self.broker_is_restored: 1, self.broker_forgets_ingest: 1,
                self.ingest_subscribes: 6,
            }  # fmt: skip
        if self.kinds["copies"]:
            acts |= {self.take_copy: 1, self.put_copy_back: 1}
        if self.kinds["damage"]:
            acts |= {self.damage: 1}
        act = self.choose.choices(list(acts), list(acts.values()))[0]
        self.trace.append(act.__name__)
        act()
        self.check()

    def check(self) -> None:
        state = self.agent.state
        assert not self.normaliser.gaps, "a false gap"
        assert state.ledger.balances()
        held = self.agent._store.counted()  # type: ignore[attr-defined]
        freeing = [sum(batch.counts[i] for batch in state.freeing) for i in range(len(CLASSES))]
        assert tuple(h - f for h, f in zip(held, freeing, strict=True)) == state.ledger.waiting
        assert sum(state.ledger.damaged) == 0 or self.kinds["damage"]
        batched = len(state.batches) + len(state.freeing)
        assert len(state.waiting) <= batched + 2, "spans are bounded by the batches between them"
        assert len(state.batches) <= state.limits.window
        assert set(state.listed) <= set(state.batches)
        if state.link is not None:
            assert set(state.link.flights) <= set(state.batches)
            flying = [b for b in state.batches.values() if b.key in state.link.flights]
            assert len(flying) <= state.limits.window
        if not self.kinds["copies"] and not self.kinds["damage"]:
            assert len(self.normaliser.output) == len(set(self.normaliser.output)), "doubled"

    def settle(self) -> None:
        """Make the world well; then everything accepted must come out once, and the outbox must be empty."""
        self.refusing = False
        self.drain()
        for _ in range(2 + len(self.agent.state.old) // 8):
            self.submit()  # so that a batch tells of what is closed, and is acknowledged
            self.drain()
        self._judge()

    def drain(self) -> None:
        for _ in range(5_000):
            state = self.agent.state
            if state.link is not None and not state.batches and not state.waiting and not state.freeing:
                return
            self.connect()
            self.ingest_subscribes()
            self.cycle()
            for outgoing in self.link:
                self.broker.queue.append((outgoing.header, outgoing.payload))
            self.link.clear()
            while self.broker.unsent < len(self.broker.queue):
                self.ingest()
            self.broker.queue.clear()
            self.broker.unsent = 0
            for puback in self.pubacks:
                self.agent.happened(puback)
            self.pubacks.clear()
            keys, self.acks = self.acks, []
            if keys:
                self.agent.happened(Acked(tuple(keys)))
            self.now += 1.0
            self.check()
        raise AssertionError("it does not drain")

    def _judge(self) -> None:
        output = [record for record, _ in self.normaliser.output]
        missing = self.accepted - set(output) - self.gone
        assert not missing, f"lost: {sorted(missing)}"
        strangers = set(output) - self.accepted
        assert not strangers, "what was never accepted"
        doubled = {record for record in output if record not in self.twice and output.count(record) > 1}
        assert not doubled, f"doubled: {sorted(doubled)}"
        if not self.disorder and not self.twice:
            for lane in ("live", "replay"):
                numbers = [int(record[5:-1]) for record, its in self.normaliser.output if its == lane]
                assert numbers == sorted(numbers), f"order in {lane}"
        ledger = self.agent.state.ledger
        assert ledger.waiting == NONE
        assert not self.agent.state.old, "what is closed is listed for ever"
        assert not self.agent.state.voids
        open_epochs = [name for name, state in self.normaliser.epochs.items() if not state.closed]
        if not self.kinds["copies"] and not self.kinds["damage"]:
            assert set(open_epochs) <= {self.agent.state.epoch}, "an epoch that nobody will close"
            assert ledger.damaged == NONE
            assert ledger.accepted == ledger.acked
            assert sum(ledger.accepted) == len(self.accepted)
