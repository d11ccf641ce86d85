import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.ledger import Ledger, add, subtract
from edge_agent.row import CLASSES, NONE, RowClass

counts = st.tuples(*(st.integers(0, 50) for _ in CLASSES))


def of(cls: RowClass, rows: int):
    return tuple(rows if one is cls else 0 for one in CLASSES)


@given(counts, st.data())
def test_every_movement_keeps_the_balance(rows, data):
    ledger = Ledger().append(rows)
    some = tuple(data.draw(st.integers(0, count)) for count in rows)
    ledger = ledger.ack(some)
    left = ledger.waiting
    taken = tuple(data.draw(st.integers(0, count)) for count in left)
    ledger = ledger.thin(taken, data.draw(st.integers(0, 9)))
    gone = tuple(data.draw(st.integers(0, count)) for count in ledger.waiting)
    ledger = ledger.expire(gone)
    found = tuple(data.draw(st.integers(0, 60)) for _ in CLASSES)
    assert ledger.balances()
    assert ledger.reconciled(found).balances()
    assert ledger.unack(some).balances()


def test_what_is_missing_from_the_file_is_damaged_and_a_surplus_is_accepted():
    ledger = Ledger().append(of(RowClass.ALARM, 5)).append(of(RowClass.TELEMETRY, 7))
    mended = ledger.reconciled(add(of(RowClass.ALARM, 3), of(RowClass.TELEMETRY, 9)))
    assert mended.damaged == of(RowClass.ALARM, 2)
    assert mended.accepted == add(of(RowClass.ALARM, 5), of(RowClass.TELEMETRY, 9))
    assert mended.waiting == add(of(RowClass.ALARM, 3), of(RowClass.TELEMETRY, 9))


def test_thinning_counts_what_it_took_and_apart_what_it_made():
    ledger = Ledger().append(of(RowClass.TELEMETRY, 10)).thin(of(RowClass.TELEMETRY, 8), 2)
    assert ledger.thinned == of(RowClass.TELEMETRY, 8)
    assert ledger.waiting == add(of(RowClass.TELEMETRY, 2), of(RowClass.AGGREGATE, 2))
    assert ledger.balances()


def test_a_movement_of_rows_that_are_not_there_is_a_bug():
    with pytest.raises(AssertionError):
        Ledger().ack(of(RowClass.EVENT, 1))
    with pytest.raises(AssertionError):
        subtract(NONE, of(RowClass.EVENT, 1))


def test_a_ledger_that_does_not_balance_says_so():
    assert not Ledger(accepted=of(RowClass.ALARM, 1)).balances()


def test_the_header_names_classes_that_had_rows_and_doubt():
    ledger = Ledger().append(of(RowClass.ALARM, 3)).ack(of(RowClass.ALARM, 1))
    assert json.loads(ledger.to_json()) == {"alarm": [3, 1, 2, 0, 0, 0]}
    doubtful = Ledger(doubt=(0, 400))
    assert json.loads(doubtful.to_json()) == {"lost_with_counters": [0, 400]}


def test_the_header_fits_a_property_whatever_it_counts():
    huge = (10**15,) * len(CLASSES)
    ledger = Ledger(huge, huge, huge, huge, huge, huge, (10**15, 10**15))
    assert len(ledger.to_json()) <= 1024
