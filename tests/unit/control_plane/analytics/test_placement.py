"""Where a sink begins."""

from control_plane.analytics.placement import Ahead, Place, place


def test_a_new_sink_begins_at_the_beginning() -> None:
    assert place(None, 17, 99) == Place(17)


def test_it_goes_on_where_it_stands() -> None:
    assert place(50, 17, 99) == Place(50)
    assert place(17, 17, 99) == Place(17)
    assert place(99, 17, 99) == Place(99)


def test_what_kafka_dropped_is_said() -> None:
    assert place(10, 17, 99) == Place(17, expired=7)


def test_a_log_that_ends_before_what_was_stored_is_no_place() -> None:
    assert place(100, 17, 99) == Ahead(1)
    assert place(5_000, 0, 0) == Ahead(5_000)
