import pytest

from edge_agent.ledger import Ledger
from edge_agent.uplink_state import Limits, OldEpoch, Saved, restore
from tests.unit.edge_agent.uplink_driver import OLD, E, batch, counts


def test_a_start_begins_an_epoch_and_knows_nothing_of_sends():
    saved = Saved(20, Ledger().append(counts(20)), (batch(OLD, 3, 1, 10),), (OldEpoch(OLD, 3),), (), ((11, 20),), 12)
    state = restore(saved, E, Limits(), 5.0)
    assert (state.epoch, state.next_number, state.tail, state.now) == (E, 1, 20, 5.0)
    assert list(state.batches) == [(OLD, 3)]
    assert (state.link, state.hint, dict(state.listed), state.alarm_replay) == (None, None, {}, 12)


def test_an_epoch_is_never_used_again():
    with pytest.raises(AssertionError):
        restore(Saved(epochs=(OldEpoch(E, 1),)), E, Limits(), 5.0)


@pytest.mark.parametrize("wrong", [{"window": 2_000}, {"first_window": 2}, {"window_bytes": 1}, {"replay_per_s": 0}])
def test_limits_beyond_the_protocol_are_a_bug(wrong):
    with pytest.raises(AssertionError):
        Limits(**wrong)


def test_a_batch_is_known_by_epoch_and_number():
    one = batch(OLD, 3, 1, 10)
    assert (one.key, one.records) == ((OLD, 3), 10)
