import pytest

from edge_agent.outbox import Outbox
from edge_agent.outbox_measure import measure
from edge_agent.row import count
from edge_agent.uplink_state import Limits, restore
from shared.ids import new_epoch
from tests.unit.edge_agent.outbox_files import new_file, row


class At:
    """Clocks that stand."""

    def __init__(self, wall_ms: int, boot_ms: int, boot_id: str) -> None:
        self._wall_ms, self._boot_ms, self._boot_id = wall_ms, boot_ms, boot_id

    def wall_ms(self) -> int:
        return self._wall_ms

    def boot_ms(self) -> int:
        return self._boot_ms

    def boot_id(self) -> str:
        return self._boot_id

    def monotonic_s(self) -> float:
        return 0.0

    def synced(self) -> bool:
        return True


@pytest.fixture
def outbox(tmp_path):
    with Outbox(new_file(tmp_path / "outbox.db")) as outbox:
        yield outbox


def test_an_empty_outbox_is_young(outbox):
    measured = measure(outbox, restore(outbox.load(), new_epoch(), Limits(), 0.0), At(5_000, 5_000, "boot-1"))
    assert (measured.oldest_s, measured.batches, measured.window) == (0.0, 0, 0)
    assert measured.used_bytes > 0


@pytest.mark.parametrize(
    ("clock", "age"),
    [(At(0, 9_000, "boot-1"), 5.0), (At(90_000, 1, "boot-2"), 86.0), (At(0, 1, "boot-2"), 0.0)],
)
def test_the_age_is_of_the_oldest_row_by_the_clock_that_can_tell(outbox, clock, age):
    rows = [row(1, at=4_000), row(2, at=8_000)]
    with outbox.transaction():
        outbox.append(0, rows, [], count(one.cls for one in rows))
    state = restore(outbox.load(), new_epoch(), Limits(), 0.0)
    measured = measure(outbox, state, clock)
    assert measured.oldest_s == age
    assert measured.ledger["telemetry"] == [2, 0, 2, 0, 0, 0]
    measured.measure()
