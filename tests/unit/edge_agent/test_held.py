"""Rows of unapproved devices: out of the uplink's sight, in order afterwards, never twice, within their share."""

import pytest

from edge_agent.dispatch import Submission
from edge_agent.held import Held, as_held
from edge_agent.outbox import Outbox
from edge_agent.row import Row
from shared.errors import Transient
from tests.unit.edge_agent.outbox_files import new_file, row
from tests.unit.edge_agent.test_chores import Bench


@pytest.fixture
def bench(tmp_path):
    with Outbox(new_file(tmp_path / "outbox.db")) as outbox:
        yield Bench(outbox)


def accept(bench: Bench, device: str, *rows: Row, waits: bool) -> None:
    held = as_held(device, rows, waits=waits)
    bench.dispatcher.cycle(bench.chores.mended([Submission([], [], held)]))


def stored(bench: Bench) -> list[bytes]:
    return [record for (record,) in bench.outbox._db.execute("SELECT record FROM rows ORDER BY seq")]


def records(*names: int) -> list[bytes]:
    return [row(name).record for name in names]


def settle(bench: Bench, *devices: str) -> None:
    bench.chores.held.settle(lambda device: device in devices)
    while bench.chores.step(0.0):
        pass


def test_held_rows_are_in_no_span_and_move_in_order_when_their_device_is_approved(bench: Bench) -> None:
    accept(bench, "a", row(1), row(2), waits=True)
    accept(bench, "b", row(3), waits=True)
    assert stored(bench) == []
    assert bench.dispatcher.state.waiting == ()
    assert sum(bench.dispatcher.state.ledger.accepted) == 0
    accept(bench, "a", row(4), waits=False)
    assert stored(bench) == [], "it is behind those that wait"
    settle(bench, "a")
    assert stored(bench) == records(1, 2, 4)
    assert sum(bench.dispatcher.state.ledger.accepted) == 3
    bench.check()
    assert set(bench.outbox.held) == {"b"}
    accept(bench, "a", row(5), waits=False)
    assert stored(bench) == records(1, 2, 4, 5), "nothing is before it any more"


def test_they_outlive_a_crash_and_are_counted_again(bench: Bench) -> None:
    accept(bench, "a", row(1), row(2), waits=True)
    with Outbox(bench.outbox.path) as again:
        assert again.held == bench.outbox.held == {"a": (2, sum(map(len, records(1, 2))))}


def test_a_move_that_fails_moves_nothing(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    accept(bench, "a", row(1), waits=True)

    def full(*_: object) -> int:
        raise Transient("full")

    with monkeypatch.context() as patch:
        patch.setattr(bench.outbox, "unhold", full)
        bench.chores.held.settle(lambda _: True)
        with pytest.raises(Transient):
            bench.chores.step(0.0)
    assert stored(bench) == []
    settle(bench, "a")
    assert stored(bench) == records(1)
    bench.check()


def test_beyond_their_share_rows_are_given_up_and_counted(bench: Bench) -> None:
    size = len(row(1).record)
    held = Held(bench.outbox, bench.dispatcher, 2 * size)
    bench.chores.held = held
    accept(bench, "a", row(1), row(2), row(3), waits=True)
    assert held.refused == 1
    accept(bench, "b", row(4), waits=True)
    assert held.refused == 2
    settle(bench, "a")
    accept(bench, "b", row(5), waits=True)
    assert (held.refused, stored(bench)) == (2, records(1, 2)), "there is room again"


def test_a_refused_device_s_rows_are_given_up(bench: Bench) -> None:
    accept(bench, "a", row(1), row(2), waits=True)
    accept(bench, "b", row(3), waits=True)
    bench.chores.held.drop("a")
    settle(bench)
    assert bench.chores.held.dropped == 2
    assert set(bench.outbox.held) == {"b"}
    settle(bench, "a", "b")
    assert stored(bench) == records(3)


def test_more_than_a_chunk(bench: Bench) -> None:
    accept(bench, "a", *(row(n) for n in range(2_500)), waits=True)
    settle(bench, "a")
    assert stored(bench) == records(*range(2_500))
    assert bench.outbox.held == {}
