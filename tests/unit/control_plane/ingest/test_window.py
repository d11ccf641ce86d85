"""What may be acknowledged, in which order, on which connection."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from control_plane.ingest.window import Window


def open_window():
    window = Window()
    window.opened(1)
    return window


def test_only_up_to_the_first_that_is_not_done():
    window = open_window()
    tickets = [window.received(packet_id) for packet_id in (11, 12, 13)]
    tickets[1].done = tickets[2].done = True
    assert window.due() == []
    tickets[0].done = True
    assert window.due() == [11, 12, 13]
    assert window.due() == []
    assert len(window) == 0


def test_a_late_acknowledgement_of_an_ended_connection_takes_no_new_message():
    """The broker gives packet id 5 anew: finishing the old message must not acknowledge the new one."""
    window = open_window()
    old = window.received(5)
    window.opened(2)
    new = window.received(5)
    old.done = True
    assert window.due() == []
    new.done = True
    assert window.due() == [5]


def test_what_was_due_but_not_sent_before_the_end_is_not_sent_after_it():
    window = open_window()
    window.received(5).done = True
    window.opened(2)
    assert window.due() == []


def test_generations_only_grow():
    window = open_window()
    with pytest.raises(AssertionError):
        window.opened(1)


operations = st.lists(
    st.one_of(
        st.just(("receive",)), st.tuples(st.just("done"), st.integers(0, 99)), st.just(("due",)), st.just(("reopen",))
    ),
    max_size=200,
)


@given(operations)
def test_model(steps):
    """Against the dumb version: a list of (generation, packet id, done), looked through from the start each time."""
    window = open_window()
    generation, next_id = 1, 1
    model, tickets, sent = [], [], []
    for operation, *arguments in steps:
        if operation == "receive":
            tickets.append(window.received(next_id))
            model.append([generation, next_id, False])
            next_id = next_id % 7 + 1  # few ids: they come again soon
        elif operation == "done" and tickets:
            at = arguments[0] % len(tickets)
            tickets[at].done = True
            model[at][2] = True
        elif operation == "due":
            expected = []
            for at, entry in enumerate(model):
                if entry[0] != generation or at in sent:
                    continue
                if not entry[2]:
                    break
                expected.append(entry[1])
                sent.append(at)
            assert window.due() == expected
        elif operation == "reopen":
            generation += 1
            window.opened(generation)
        assert len(window) == sum(entry[0] == generation and at not in sent for at, entry in enumerate(model))
