import pytest

from edge_agent import chores as chores_module
from edge_agent.chores import Chores
from edge_agent.correction import Fix
from edge_agent.dispatch import Dispatcher, Submission
from edge_agent.outbox import Outbox
from edge_agent.outbox_room import Room
from edge_agent.outbox_settings import Settings
from edge_agent.row import Row, RowClass
from edge_agent.uplink_state import Acked, Connected, Limits, restore
from shared.batch import AggregateRecord, ClockQuality, ReadingRecord, decode_record, encode_record
from shared.errors import Transient
from shared.ids import Epoch
from shared.limits import MIB
from tests.unit.edge_agent.outbox_files import new_file

E = Epoch("E" * 22)
NOW = 1_700_000_000_000


class At:
    """A clock that stands."""

    is_synced = True

    def wall_ms(self) -> int:
        return NOW

    def boot_ms(self) -> int:
        return 0

    def boot_id(self) -> str:
        return "boot"

    def monotonic_s(self) -> float:
        return 0.0

    def synced(self) -> bool:
        return self.is_synced


class Bench:
    """An outbox with its dispatcher and chores."""

    def __init__(self, outbox: Outbox, **settings) -> None:
        self.outbox = outbox
        self.clock = At()
        self.settings = Settings(outbox.path, **({"budget_bytes": 16 * MIB, "free_floor_bytes": 0} | settings))
        state = restore(outbox.load(), E, Limits(replay_start_s=0.0, free_every_s=0.0), 1.0)
        self.dispatcher = Dispatcher(outbox, state, chance=lambda: 0.5)
        self.chores = Chores(outbox, self.dispatcher, Room(outbox.path, 0, 0), self.settings, self.clock)

    def accept(self, rows: list[Row]) -> None:
        self.dispatcher.cycle(self.chores.mended([Submission(rows, [])]))

    def check(self) -> None:
        """The ledger balances, equals the file, and would do so after a crash."""
        ledger = self.dispatcher.state.ledger
        assert ledger.balances()
        loaded = self.outbox.load().ledger
        assert loaded.damaged == ledger.damaged
        assert (loaded.accepted, loaded.thinned, loaded.expired) == (ledger.accepted, ledger.thinned, ledger.expired)
        assert self.outbox.counted() == loaded.waiting


@pytest.fixture
def outbox(tmp_path):
    with Outbox(new_file(tmp_path / "outbox.db")) as outbox:
        yield outbox


def reading(n: int, cls=RowClass.TELEMETRY, *, clock=ClockQuality.SYNCED, wall_ms=NOW, boot="boot", pad=0) -> Row:
    record = ReadingRecord("d1", wall_ms, n * 1_000, n * 1_000, {"t": float(n)}, "x" * pad or None, None, clock, None)
    return Row(cls, wall_ms, n, boot, clock, encode_record(record))


def test_a_full_budget_thins_the_oldest_telemetry_and_no_alarm(outbox):
    bench = Bench(outbox)
    accepted = 0
    while bench.chores.lacking(1.0) is None and not any(bench.dispatcher.state.ledger.thinned):
        bench.accept([reading(accepted + n, pad=256) for n in range(999)] + [reading(accepted, RowClass.ALARM)])
        accepted += 1_000
    ledger = bench.dispatcher.state.ledger
    assert ledger.thinned[3] > 4_000
    assert ledger.waiting[0] == accepted // 1_000, "every alarm is still there"
    assert ledger.thinned[0] == 0
    bench.check()
    assert bench.chores.lacking(1.0) is None
    oldest = [decode_record(record) for _, _, record in outbox.read((1, 5_000), 200)]
    assert sum(one.count for one in oldest if isinstance(one, AggregateRecord)) > 4_000
    newest = decode_record(next(iter(outbox.read((accepted - 5, accepted), 10)))[2])
    assert isinstance(newest, ReadingRecord)


def test_windows_grow_pass_by_pass_until_nothing_helps(outbox, monkeypatch):
    monkeypatch.setattr(chores_module, "_CHUNK", 500)
    bench = Bench(outbox)
    bench.accept([reading(n) for n in range(3_600)])
    monkeypatch.setattr(bench.chores, "_lacking", lambda share: "no space")
    seen = []
    for _ in range(100):
        bench.chores.lacking(1.0)
        seen.append(sum(outbox.counted()))
        bench.check()
    assert seen == sorted(seen, reverse=True)
    assert 1 <= seen[-1] <= 2
    assert bench.chores.lacking(1.0) == "no space"
    ledger = bench.dispatcher.state.ledger
    assert ledger.thinned[3] == 3_600
    count = sum(decode_record(record).count for _, _, record in outbox.read((1, 10**9), 10))
    assert count == 3_600


def test_after_nothing_helped_it_rests(outbox, monkeypatch):
    bench = Bench(outbox)
    bench.accept([reading(n, RowClass.EVENT) for n in range(10)])
    monkeypatch.setattr(bench.chores, "_lacking", lambda share: "no space")
    looked = []
    monkeypatch.setattr(chores_module, "thin", lambda rows, window_ms: looked.append(window_ms))
    for _ in range(20):
        bench.chores.lacking(1.0)
    assert len(looked) == 5
    bench.chores.lacking(100.0)
    assert len(looked) > 5


def test_rows_in_a_batch_are_never_thinned(outbox, monkeypatch):
    bench = Bench(outbox)
    bench.dispatcher.happened(Connected(1.0, 0.5))
    bench.accept([reading(n) for n in range(1_000)])
    assert len(bench.dispatcher.state.batches) == 1
    monkeypatch.setattr(bench.chores, "_lacking", lambda share: "no space")
    for _ in range(20):
        bench.chores.lacking(1.0)
    assert outbox.counted() == (0, 0, 0, 1_000, 0)


def test_a_ledger_saved_by_thinning_knows_of_rows_acknowledged_and_still_there(outbox, monkeypatch):
    bench = Bench(outbox)
    bench.dispatcher.happened(Connected(1.0, 0.5))
    bench.accept([reading(n) for n in range(100)])
    bench.dispatcher.happened(Acked(tuple(bench.dispatcher.state.batches)))
    state = bench.dispatcher.state
    assert state.freeing
    monkeypatch.setattr(bench.chores, "_lacking", lambda share: "no space")
    with outbox.transaction():
        outbox.append(100, [reading(n) for n in range(100, 300)], [], (0, 0, 0, 300, 0))
    from edge_agent.uplink_state import Appended

    bench.dispatcher.happened(Appended(300, (0, 0, 0, 200, 0)))
    bench.chores.lacking(1.0)
    loaded = outbox.load().ledger
    assert loaded.acked == (0, 0, 0, 0, 0)
    assert loaded.thinned[3] == 200
    assert loaded.balances()
    assert loaded.damaged == (0, 0, 0, 0, 0)


def test_stamps_of_this_boot_are_corrected_in_chunks(outbox, monkeypatch):
    monkeypatch.setattr(chores_module, "_CHUNK", 30)
    bench = Bench(outbox)
    unsynced = [reading(n, clock=ClockQuality.UNSYNCED, wall_ms=1_000) for n in range(100)]
    other = [reading(n, clock=ClockQuality.UNSYNCED, wall_ms=1_000, boot="earlier") for n in range(5)]
    bench.accept(unsynced + other + [reading(1)])
    bench.chores.correct(Fix("boot", NOW, until_ms=99))
    late = [reading(n, clock=ClockQuality.UNSYNCED, wall_ms=1_000) for n in (99, 100)]
    bench.accept(late)
    steps = 0
    while bench.chores.step(1.0):
        steps += 1
    assert steps >= 4
    rows = outbox.rows((1, 200), 200)
    assert [row.wall_ms for row in rows[:100]] == [NOW + n for n in range(100)]
    assert {row.clock for row in rows[:100]} == {ClockQuality.CORRECTED}
    assert {row.clock for row in rows[100:105]} == {ClockQuality.UNSYNCED}
    assert [(row.clock, row.wall_ms) for row in rows[-2:]] == [
        (ClockQuality.CORRECTED, NOW + 99),  # stamped before the clock was set, stored after it
        (ClockQuality.UNSYNCED, 1_000),  # stamped after it: the synchronisation was lost again
    ]
    assert not bench.chores.step(1.0)
    bench.check()


def test_a_chunk_whose_commit_failed_is_corrected_again(outbox, monkeypatch):
    bench = Bench(outbox)
    bench.accept([reading(n, clock=ClockQuality.UNSYNCED, wall_ms=1_000) for n in range(10)])
    bench.chores.correct(Fix("boot", NOW, until_ms=99))
    with monkeypatch.context() as full:

        def fails(*_):
            raise Transient("SQLITE_FULL")

        full.setattr(Outbox, "replace_rows", fails)
        with pytest.raises(Transient):
            bench.chores.step(1.0)
    while bench.chores.step(1.0):
        pass
    assert {row.clock for row in outbox.rows((1, 10), 10)} == {ClockQuality.CORRECTED}


def test_expiry_is_off_by_default_and_spares_what_it_cannot_date(outbox):
    hour = 3_600_000
    rows = [
        reading(1, wall_ms=NOW - 3 * hour),
        reading(2, RowClass.ALARM, wall_ms=NOW - 3 * hour),
        reading(3, wall_ms=NOW - 3 * hour, clock=ClockQuality.UNSYNCED),
        reading(4, wall_ms=NOW - hour),
    ]
    bench = Bench(outbox)
    bench.accept(rows)
    assert not bench.chores.step(1.0)
    bench.settings = Settings(outbox.path, expire_after_s={RowClass.TELEMETRY: 7_200.0})
    bench.chores = Chores(outbox, bench.dispatcher, Room(outbox.path, 0, 0), bench.settings, bench.clock)
    bench.clock.is_synced = False
    assert not bench.chores.step(1.0)
    bench.clock.is_synced = True
    assert bench.chores.step(1.0)
    assert not bench.chores.step(1.0)
    assert outbox.counted() == (1, 0, 0, 2, 0)
    assert bench.dispatcher.state.ledger.expired == (0, 0, 0, 1, 0)
    bench.check()
