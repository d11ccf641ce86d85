"""The table of a device's life, and what no sequence of moves can do."""

from hypothesis import given
from hypothesis import strategies as st

from control_plane.registry.life import Illegal, Move, after, remembered
from shared.device import Status

LEGAL = {
    ("pending", "approve"): "provisioned",
    ("provisioned", "use"): "active",
    ("pending", "quarantine"): "quarantined",
    ("provisioned", "quarantine"): "quarantined",
    ("active", "quarantine"): "quarantined",
    ("pending", "suspend"): "suspended",
    ("provisioned", "suspend"): "suspended",
    ("active", "suspend"): "suspended",
    ("quarantined", "suspend"): "suspended",
    ("quarantined", "release"): "active",
    ("suspended", "resume"): "active",
    **{(status, move): "retired" for status in Status for move in ("retire", "revoke") if status != "retired"},
}


def test_each_pair_of_status_and_move() -> None:
    for status in Status:
        for move in Move:
            found = after(status, move, Status.ACTIVE)
            wanted = LEGAL.get((status.value, move.value))
            assert (None if isinstance(found, Illegal) else found.value) == wanted, (status, move)
            if isinstance(found, Illegal):
                assert found.detail


@given(st.lists(st.sampled_from(Move)), st.sampled_from([Status.PENDING, Status.PROVISIONED]))
def test_whatever_is_tried(moves: list[Move], first: Status) -> None:
    status, before = first, None
    approved = first is not Status.PENDING
    for move in moves:
        found = after(status, move, before)
        if isinstance(found, Illegal):
            continue
        assert status is not Status.RETIRED
        before = remembered(status, move, before)
        approved |= move is Move.APPROVE
        status = found
        assert (before is not None) == (status in (Status.QUARANTINED, Status.SUSPENDED))
        assert approved or status not in (Status.PROVISIONED, Status.ACTIVE)
