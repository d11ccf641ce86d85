"""The two ledgers agree: what a gateway knows to be acknowledged is normalised, rejected or in a reported gap.

The agent's own core forms the batches and keeps its ledger; the link loses, repeats and cuts off; acknowledged
batches vanish before the normaliser sees them; the job is killed within its transactions. Then, per gateway, with the
ledger of its last header and what stands in the topics: acked = normalized + rejected + in gaps.

(One thing is spared: a batch that vanishes is none that tells of closed epochs. An agent tells until one that told is
acknowledged, so two faults of Kafka at once could hide the first.)
"""

import json
import random

import pytest

from control_plane.analytics.event_time import Rules
from control_plane.analytics.job import MemoryState
from control_plane.analytics.normalizer_job import NormalizerJob
from control_plane.analytics.records import GapKind
from edge_agent.dispatch import Dispatcher, Submission
from edge_agent.row import Row, RowClass
from edge_agent.uplink_state import Acked, Connected, Disconnected, Tick, restore
from shared import batch
from shared.batch import BytesRecord, ClockQuality, EventRecord
from shared.ids import Epoch
from shared.topics import Kafka
from shared.tracing import NoTracing
from tests.model.batch_world import SMALL, Memory
from tests.unit.control_plane.analytics.raw_kit import NOW_MS, batched, device, gateway, read_back, reading
from tests.unit.control_plane.analytics.test_normalizer_job import Registry


class Site:
    """A gateway `name` with one device of its own, and what reached the hub of it."""

    def __init__(self, name, seed):
        self.name = name
        self.choose = random.Random(seed)
        self.disk = Memory()
        self.now = 1_000.0
        self.rows = 0
        self.raw = []  # what the normaliser will read
        self.records = {}  # of each batch, by (epoch, number)
        self.vanished = set()  # acknowledged, and then gone from Kafka
        self.last = None  # the newest header
        self._start()

    def _start(self):
        epoch = Epoch(f"{self.choose.getrandbits(110):x}".rjust(22, "0")[:22])
        state = restore(self.disk.load(), epoch, SMALL, self.now)
        self.agent = Dispatcher(self.disk, state, chance=self.choose.random, quality=lambda: ClockQuality.SYNCED)

    def accept(self, many, fate=None):
        rows = []
        for _ in range(many):
            self.rows += 1
            good = reading(f"{self.name}-own", metrics={"n": self.rows})
            cls, record = self.choose.choice(
                (
                    (RowClass.TELEMETRY, good),
                    (RowClass.TELEMETRY, good),
                    (RowClass.ALARM, good),
                    (RowClass.EVENT, EventRecord(self.name, NOW_MS, "rebooted", {"n": self.rows})),
                    (RowClass.EVENT, EventRecord(self.name, NOW_MS, "no name!", {"n": self.rows})),
                    (RowClass.TELEMETRY, reading("somebody-elses", metrics={"n": self.rows})),
                    (RowClass.TELEMETRY, BytesRecord(f"{self.name}-own", NOW_MS, b"%d no json" % self.rows, 20, "")),
                )
            )
            rows.append(Row(cls, 0, 0, "boot", ClockQuality.SYNCED, batch.encode_record(record)))
        self.cycle([Submission(rows, [])], fate)

    def cycle(self, submissions=(), fate=None):
        self.agent.happened(Tick(self.now))
        made = self.agent.cycle(submissions, most=self.choose.choice((1, 3, 16)))
        for outgoing in made.outgoing:
            self.last = outgoing.header
            self._travel(
                outgoing, fate or self.choose.choice(("lost", "vanished", "twice", "unacked", *["well"] * 6))
            )

    def _travel(self, outgoing, fate):
        header, key = outgoing.header, outgoing.key
        # Of a gateway that was never heard of the first floor is taken as it is: something must have been heard.
        if fate == "lost" or (fate == "vanished" and (not self.raw or header.closed)):
            return
        self.records[key] = header.records
        copies = {"vanished": 0, "twice": 2}.get(fate, 1)
        if copies:
            fields = {name: getattr(header, name) for name in header.__struct_fields__ if name != "records"}
            message = batched([None] * header.records, sender=self.name, payload=outgoing.payload, **fields)
            self.raw += [message] * copies
        else:
            self.vanished.add(key)
        if fate != "unacked":
            self.agent.happened(Acked((key,)))

    def stumble(self):
        """A step of an uneasy life."""
        step = self.choose.randrange(8)
        if step < 4:
            self.accept(self.choose.randint(1, 9))
        elif step == 4:
            self.agent.happened(Disconnected())
        elif step == 5:
            self._start()
        self.now += self.choose.choice((0.2, 2.0, 70.0))
        self.connect()
        self.cycle()

    def connect(self):
        if self.agent.state.link is None:
            self.agent.happened(Connected(self.now, self.choose.random()))

    def drain(self):
        """Until all is acknowledged; then one more row, whose header says so."""
        self.connect()
        for _ in range(2_000):
            if self.agent.state.ledger.waiting == (0,) * 5:
                break
            self.now += 70.0
            self.cycle(fate="well")
        assert self.agent.state.ledger.waiting == (0,) * 5
        number = len(self.raw)
        self.accept(1, "well")
        for _ in range(100):
            self.now += 70.0
            self.cycle(fate="well")
            if len(self.raw) > number:
                return
        raise AssertionError("the last row did not leave")


class Hub:
    """The normaliser as a job, killed now and then in the middle of a transaction."""

    def __init__(self, names, seed):
        registry = Registry()
        views = [view for name in names for view in (gateway(name), device(f"{name}-own", name))]
        registry.views = {view.id: view for view in [*views, device("somebody-elses", "elsewhere")]}
        self.registry = registry
        self.choose = random.Random(seed)
        self.out = []

    def read(self, raw):
        """All of one gateway's partition."""
        state, done = MemoryState(), 0
        job = NormalizerJob(self.registry, Rules(), NoTracing())
        while done < len(raw):
            taken = raw[done : done + self.choose.randint(1, 5)]
            outputs = [read_back(output) for record in taken for output in job.on_record(record, state)]
            if self.choose.random() < 0.3:  # SIGKILL before the commit
                state.discard()
                job = NormalizerJob(self.registry, Rules(), NoTracing())
                continue
            state.keep()
            self.out += outputs
            done += len(taken)


@pytest.mark.parametrize("seed", range(12))
def test_acked_is_normalized_and_rejected_and_in_gaps(seed):
    sites = [Site(name, f"{name} {seed}") for name in ("gw-1", "gw-2")]
    for site in sites:
        for _ in range(80):
            site.stumble()
        site.drain()
    hub = Hub([site.name for site in sites], seed)
    for site in sites:
        hub.read(site.raw)

    found = 0
    for site in sites:
        lines = json.loads(site.last.ledger)
        accepted, acked, waiting, *destroyed = (sum(column) for column in zip(*lines.values(), strict=True))
        assert (accepted, waiting, destroyed) == (site.rows, 1, [0, 0, 0])
        of_it = [output for output in hub.out if output.id.startswith(site.name + ":")]
        gaps = {
            (output.data.epoch, number)
            for output in of_it
            if output.topic is Kafka.GAP and output.data.kind is GapKind.GAP
            for first, last in output.data.ranges
            for number in range(first, last + 1)
        }
        assert gaps <= site.vanished
        in_gaps = sum(site.records[key] for key in gaps)
        found += len(gaps)
        counted = {topic: sum(output.topic is topic for output in of_it) for topic in Kafka}
        # The last row told of all before it, and came itself.
        assert acked + 1 == counted[Kafka.NORMALIZED] + counted[Kafka.REJECTED] + in_gaps
        assert counted[Kafka.NORMALIZED] > 20
        assert counted[Kafka.REJECTED] > 20
    assert found > 0
