import pytest

from edge_agent.row import CLASSES, RowClass, count, counts_of, counts_text


def test_counts_are_read_back_also_those_of_a_version_with_fewer_classes():
    counts = count([RowClass.ALARM, RowClass.TELEMETRY, RowClass.TELEMETRY])
    assert counts == (1, 0, 0, 2, 0)
    assert counts_of(counts_text(counts)) == counts
    assert counts_of("1,2") == (1, 2, 0, 0, 0)


def test_the_stored_places_of_classes_never_change():
    assert [cls.value for cls in CLASSES] == ["alarm", "anomaly", "event", "telemetry", "aggregate"]


def test_what_are_no_counts_is_refused():
    with pytest.raises(ValueError, match="invalid"):
        counts_of("a,b")
