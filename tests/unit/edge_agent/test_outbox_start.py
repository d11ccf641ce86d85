import shutil
from pathlib import Path

import pytest

from edge_agent import outbox_start, salvage
from edge_agent.outbox import Outbox
from edge_agent.outbox_start import open_outbox
from edge_agent.uplink_state import Batch, Limits, OldEpoch
from shared.batch import Lane
from shared.errors import Permanent, Transient
from shared.ids import Epoch
from tests.unit.edge_agent.outbox_files import new_file, row

E = Epoch("E" * 22)


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    def prepare(path: Path) -> None:
        if not path.exists():
            new_file(path)

    monkeypatch.setattr(outbox_start, "prepare", prepare)
    monkeypatch.setattr(salvage, "prepare", prepare)
    return tmp_path / "outbox.db"


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    names: list[str] = []
    for event in ("OutboxReplaced", "OutboxSalvaged", "OutboxFull", "OutboxOpened"):
        cls = getattr(outbox_start, event)
        monkeypatch.setattr(cls, "emit", lambda self, name=event: names.append(name))
    return names


def opened(path: Path):
    return open_outbox(path, Limits(), now_s=1.0, wall_ms=5)


def fill(path: Path) -> None:
    outbox, state = opened(path)
    with outbox, outbox.transaction():
        outbox.append(state.tail, [row(1), row(2)], [], (0, 0, 0, 2, 0))
        outbox.save_batch(Batch(E, 1, Lane.LIVE, (1, 1), (0, 0, 0, 1, 0), 10))


def test_every_start_has_an_epoch_of_its_own(path, told):
    fill(path)
    first, one = opened(path)
    first.close()
    second, two = opened(path)
    second.close()
    assert len({one.epoch, two.epoch, E}) == 3
    assert one.old == two.old == (OldEpoch(E, 1),)
    assert list(one.batches) == [(E, 1)]
    assert told == ["OutboxOpened"] * 3


def test_a_copy_of_an_earlier_start_is_sent_anew(path, told):
    fill(path)
    shutil.copyfile(path, path.with_name("copy"))
    opened(path)[0].close()
    shutil.copyfile(path.with_name("copy"), path)
    outbox, state = opened(path)
    outbox.close()
    assert (state.batches, state.old, state.waiting) == ({}, (), ((1, 2),))
    assert "OutboxReplaced" in told
    outbox, state = opened(path)
    outbox.close()
    assert told.count("OutboxReplaced") == 1


def test_a_copy_of_the_same_start_keeps_its_numbers(path, told):
    fill(path)
    shutil.copyfile(path, path.with_name("copy"))
    with Outbox(path) as outbox, outbox.transaction():
        outbox.append(2, [row(3)], [], (0, 0, 0, 3, 0))
    shutil.copyfile(path.with_name("copy"), path)
    outbox, state = opened(path)
    outbox.close()
    assert list(state.batches) == [(E, 1)]
    assert "OutboxReplaced" not in told


def test_a_file_that_is_gone_is_told(path, told):
    fill(path)
    path.unlink()
    outbox, state = opened(path)
    outbox.close()
    assert state.tail == 0
    assert "OutboxReplaced" in told


@pytest.mark.parametrize("moment", [1, 2, 3])
def test_a_crash_while_the_word_is_written_is_no_copy(path, told, monkeypatch, moment):
    fill(path)
    left = [moment]

    class Cut(BaseException):
        pass

    def cut(act):
        def wrapped(*args):
            left[0] -= 1
            if left[0] == 0:
                raise Cut
            return act(*args)

        return wrapped

    with monkeypatch.context() as patch:
        patch.setattr(Outbox, "set_meta", cut(Outbox.set_meta))
        patch.setattr(outbox_start, "_write_durably", cut(outbox_start._write_durably))
        with pytest.raises(Cut):
            opened(path)
    outbox, state = opened(path)
    outbox.close()
    assert list(state.batches) == [(E, 1)]
    assert "OutboxReplaced" not in told


def test_a_full_disk_does_not_keep_it_from_opening(path, told, monkeypatch):
    fill(path)

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(outbox_start, "_write_durably", full)
    outbox, state = opened(path)
    outbox.close()
    assert list(state.batches) == [(E, 1)]
    assert "OutboxFull" in told


def test_a_damaged_file_is_salvaged_on_the_way(path, told):
    fill(path)
    with Outbox(path) as outbox:
        outbox._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    data = bytearray(path.read_bytes())
    data[:100] = bytes(100)
    path.write_bytes(data)
    outbox, state = opened(path)
    outbox.close()
    assert told.count("OutboxSalvaged") == 1
    assert sum(state.ledger.waiting) == 2
    assert list(state.batches) == [(E, 1)]


def test_what_no_salvage_mends_is_permanent(path, monkeypatch):
    path.write_bytes(b"x" * 9_000)

    def no_mend(path, why, wall_ms, say):
        pass

    monkeypatch.setattr(outbox_start, "mend_outbox", no_mend)
    with pytest.raises(Permanent, match="salvage too"):
        opened(path)


def test_a_disk_that_fails_is_transient(path, monkeypatch):
    def fails(path):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(outbox_start, "finish", fails)
    with pytest.raises(Transient, match="Input/output"):
        opened(path)
