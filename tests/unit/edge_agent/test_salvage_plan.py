from edge_agent.row import NONE
from edge_agent.salvage_plan import mend
from edge_agent.uplink_state import Batch, OldEpoch
from shared.batch import Lane
from shared.ids import Epoch

E, F = Epoch("E" * 22), Epoch("F" * 22)


def batch(epoch: Epoch, number: int, first: int, last: int) -> Batch:
    return Batch(epoch, number, Lane.LIVE, (first, last), (0, 0, 0, last - first + 1, 0), 100)


def rows(lost: set[int]):
    def present(span):
        return (0, 0, 0, sum(seq not in lost for seq in range(span[0], span[1] + 1)), 0)

    return present


BATCHES = [batch(E, 4, 10, 19), batch(E, 6, 20, 29), batch(F, 1, 30, 39)]
EPOCHS = [OldEpoch(E, 6), OldEpoch(F, 1)]


def test_nothing_lost_changes_nothing():
    mended = mend(BATCHES, EPOCHS, [], complete=True, present=rows(set()))
    assert mended.batches == tuple(BATCHES)
    assert mended.epochs == tuple(EPOCHS)
    assert mended.voids == ()


def test_a_batch_that_lost_some_rows_keeps_its_number_and_one_that_lost_all_is_void():
    mended = mend(BATCHES, EPOCHS, [], complete=True, present=rows({10, 11, *range(20, 30)}))
    assert [(one.key, one.records) for one in mended.batches] == [((E, 4), 8), ((F, 1), 10)]
    assert mended.voids == ((E, 6, 6),)


def test_where_descriptions_are_missing_all_other_numbers_are_void():
    mended = mend(BATCHES, EPOCHS, [], complete=False, present=rows(set()))
    assert mended.voids == ((E, 1, 3), (E, 5, 5))


def test_an_epoch_that_is_not_told_of_is_never_closed_and_its_floor_is_held():
    mended = mend(BATCHES, [OldEpoch(F, 1)], [], complete=True, present=rows(set(range(10, 20))))
    assert OldEpoch(E, None) in mended.epochs
    assert mended.voids == ((E, 4, 4),)


def test_an_epoch_of_which_nothing_is_known_is_forgotten():
    mended = mend([batch(E, 4, 10, 19)], [], [], complete=True, present=lambda span: NONE)
    assert mended.epochs == ()
    assert mended.voids == ()


def test_descriptions_that_contradict_one_another_are_not_trusted():
    mended = mend([batch(E, 4, 10, 19), batch(E, 5, 15, 29)], EPOCHS, [], complete=True, present=rows(set()))
    assert mended.batches == ()
    assert mended.voids == ((E, 1, 6), (F, 1, 1))
    backwards = mend([batch(E, 4, 19, 10)], EPOCHS, [], complete=True, present=rows(set()))
    assert backwards.batches == ()


def test_many_voids_become_one_so_that_a_header_holds_them():
    many = [batch(E, number, number * 10, number * 10 + 9) for number in range(1, 60, 2)]
    mended = mend(many, [OldEpoch(E, 60)], [], complete=False, present=rows(set()))
    assert mended.voids == ((E, 2, 60),)


def test_an_epochs_last_is_its_highest_batch_though_that_was_lost():
    """What the file keeps of it moves only when rows are freed."""
    batches = [batch(E, number, number * 10, number * 10 + 9) for number in range(3, 8)]
    mended = mend(batches, [OldEpoch(E, 2)], [], complete=True, present=rows(set(range(50, 80))))
    assert mended.epochs == (OldEpoch(E, 7),)
    assert mended.voids == ((E, 5, 5), (E, 6, 6), (E, 7, 7))
    missing = mend(batches[2:], [OldEpoch(E, 2)], [], complete=False, present=rows(set()))
    assert missing.epochs == (OldEpoch(E, 7),)
    assert missing.voids == ((E, 1, 4),)
