"""Buckets: who is within its rates is never marked, whoever is not is; and nobody pays for our own absence."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from control_plane.ingest import limits
from control_plane.ingest.limits import Book, Limiter, Meter
from shared.device import DeviceView, Kind, Limits, Ownership, Status
from shared.rates import DEVICE, Defaults, Rates

START = 1_000.0
RATES = Rates(messages_per_s=10.0, bytes_per_s=1_000.0, readings_per_s=100.0, burst_s=5.0)


def view(name, limits=None, gateways=(), kind=Kind.DEVICE):
    return DeviceView(name, kind, "thermometer", Status.ACTIVE, 1, gateways, limits)


def limiter(rates=RATES, away_s=0.0, let_in=True):
    book = Book()
    book.learn_defaults(Defaults(1, rates, rates))
    made = Limiter(book, START - away_s)
    made.opened(START)
    if let_in:
        made.connected(START)
    return made


def sends(made, meter, moments, size=10, waiting=False):
    """How many of these messages are within the rates."""
    allowed = 0
    for now in moments:
        made.tick(now, size, 1, waiting=waiting)
        allowed += made.direct(meter, size)
    return allowed


def every(interval_s, count, start=START):
    return [start + number * interval_s for number in range(count)]


def test_at_its_rate_nothing_is_ever_marked():
    assert sends(limiter(), Meter("d", Kind.DEVICE), every(0.1, 2_000)) == 2_000


def test_of_a_flood_the_burst_and_the_rate_are_within():
    allowed = sends(limiter(), Meter("d", Kind.DEVICE), every(0.001, 20_000))
    assert 10 * (5 + 20) <= allowed <= 10 * (5 + 20) + 2


def test_bytes_count_as_messages_do_and_one_large_message_passes():
    made, meter = limiter(), Meter("d", Kind.DEVICE)
    assert sends(made, meter, every(0.1, 1), size=100_000) == 1
    assert sends(made, meter, every(1.0, 94, START + 1), size=10) == 0
    assert sends(made, meter, every(1.0, 10, START + 101), size=10) == 10


def test_one_sender_is_nothing_to_another():
    made, flooding, other = limiter(), Meter("f", Kind.DEVICE), Meter("o", Kind.DEVICE)
    for now in every(0.001, 5_000):
        made.tick(now, 10, 1, waiting=False)
        made.direct(flooding, 10)
        if round(now * 1_000) % 200 == 0:
            assert made.direct(other, 10)


@given(st.lists(st.floats(0.0, 2.0), max_size=300))
def test_no_more_than_burst_and_rate_in_any_order_of_pauses(pauses):
    made, meter, now = limiter(), Meter("d", Kind.DEVICE), START
    made.tick(START, 10, 1, waiting=False)
    made.tick(START + 3.0, 10, 1, waiting=False)  # nothing waits any more
    now = start = START + 3.0
    allowed = 0
    for pause in pauses:
        now += pause
        made.tick(now, 10, 1, waiting=False)
        allowed += made.direct(meter, 10)
    assert allowed <= 10 * (5.0 + now - start) + 1


def test_what_waited_at_the_broker_while_nobody_read_is_not_held_against_anybody():
    """60 s at its rate, delivered within a second after ingest comes back; then the rate holds as ever."""
    made, meter = limiter(away_s=60.0), Meter("d", Kind.DEVICE)
    assert sends(made, meter, every(0.001, 600)) == 600
    assert sends(made, meter, every(0.1, 100, START + 1)) == 100
    assert sends(made, meter, every(0.001, 1_000, START + 20)) <= 10 * 6 + 2


def test_a_quiet_connection_earns_no_credit():
    """Nothing waited: it would have come when we were let in."""
    made, meter = limiter(away_s=60.0), Meter("d", Kind.DEVICE)
    assert sends(made, meter, every(0.0001, 1_000, START + 40)) <= 10 * 5 + 2


def test_what_comes_when_we_are_let_in_did_wait():
    made, meter = limiter(away_s=60.0, let_in=False), Meter("d", Kind.DEVICE)
    assert sends(made, meter, every(0.001, 100)) == 100  # before we know that we are in
    made.connected(START + 0.1)
    assert sends(made, meter, every(0.001, 500, START + 0.1)) == 500


def test_a_link_that_came_back_gives_the_time_it_was_away():
    made, meter = limiter(), Meter("d", Kind.DEVICE)
    assert sends(made, meter, every(0.1, 100)) == 100
    made.opened(START + 40.0)
    made.opened(START + 41.0)  # the first attempt failed
    assert sends(made, meter, every(0.001, 300, START + 49.0)) == 300


def test_while_the_broker_may_hold_messages_back_the_rate_alone_counts():
    """Such as with Kafka away: what comes late was sent in time. A flood stays bound to its rate all the same."""
    made, meter = limiter(), Meter("d", Kind.DEVICE)
    sends(made, meter, every(0.1, 50))
    began = START + 5.0
    assert sends(made, meter, [began], waiting=True) == 1
    assert sends(made, meter, every(0.0001, 290, began + 30.0), waiting=True) == 290
    flooded = sends(made, meter, every(0.001, 5_000, began + 31.0), waiting=True)
    assert flooded <= 10 * (5 + 36) + 2
    assert sends(made, Meter("e", Kind.DEVICE), every(0.001, 9_000, began + 2_000.0), waiting=True) <= 6_200


def test_one_notice_a_device_in_a_while_with_the_pause_that_mends_it():
    made, meter = limiter(), Meter("d", Kind.DEVICE)
    sends(made, meter, every(0.0, 60))
    assert dict(made.notices()) == {"d": pytest.approx(5.0)}
    assert dict(made.notices()) == {}
    sends(made, meter, every(0.01, 900, START + 0.1))
    assert dict(made.notices()) == {}
    sends(made, meter, every(0.01, 900, START + limits.NOTICE_S))
    assert list(made.notices()) == ["d"]


def test_a_change_of_limits_counts_from_the_next_message_on():
    made, meter = limiter(), Meter("d", Kind.DEVICE)
    assert sends(made, meter, every(0.1, 100)) == 100
    made._book.learn(view("d", Limits(messages_per_s=1.0)))
    assert sends(made, meter, every(0.1, 100, START + 10)) < 20
    made._book.learn_defaults(Defaults(0, DEVICE, DEVICE))  # older than what is known
    made._book.forget("d")
    assert sends(made, meter, every(0.1, 100, START + 100)) == 100


def test_the_book_knows_those_that_speak_for_themselves_and_no_more_than_it_may():
    book = Book(known=2)
    before = book.revision
    book.learn(view("behind", gateways=(Ownership("gw", 0),)))
    assert (len(book), book.revision) == (0, before)
    for name in ("a", "b", "c"):
        book.learn(view(name, Limits(bytes_per_s=7.0), gateways=(Ownership("gw", 0, 5),)))
    assert [book.rates(name, Kind.DEVICE)[1] for name in ("a", "b", "c")] == [DEVICE.bytes_per_s, 7.0, 7.0]
    known = book.revision
    book.learn(view("c", Limits(bytes_per_s=7.0)))
    assert book.revision == known
    book.learn(view("c", gateways=(Ownership("gw", 0),)))
    assert book.rates("c", Kind.DEVICE)[1] == DEVICE.bytes_per_s


def batches(made, meter, moments, records=100, size=1_000, **properties):
    """The hints that these batches ignore."""
    found = []
    for now in moments:
        made.tick(now, size, 1, waiting=False)
        said = {name: value.encode() for name, value in properties.items()} | {"records": b"%d" % records}
        found.append(made.batch(meter, size, said))
    return found


GATEWAY_RATES = Rates(messages_per_s=10.0, bytes_per_s=1e6, readings_per_s=100.0, burst_s=5.0)


def test_a_gateway_over_its_readings_is_hinted_again_and_again_until_it_keeps_its_rate():
    made, meter = limiter(GATEWAY_RATES), Meter("gw", Kind.GATEWAY)
    batches(made, meter, every(0.5, 4))
    assert made.hint_for("gw") is None
    batches(made, meter, every(0.1, 40, START + 2))
    first = made.hint_for("gw")
    assert (first.readings_per_s, first.for_s <= limits.HINT_S) == (100.0, True)
    assert made.hint_for("gw") is None, "repeated, but not with each acknowledgement"
    batches(made, meter, every(0.1, 30, START + 6))
    again = made.hint_for("gw")
    assert (again.id, again.for_s > first.for_s - 5, made.hinted) == (first.id, True, 1)
    batches(made, meter, every(1.0, 60, START + 70), records=10)
    assert (made.hint_for("gw"), made.hinted) == (None, 0)
    assert made.hint_for("other") is None


def test_the_hint_keeps_bytes_and_messages_too():
    made, meter = limiter(GATEWAY_RATES), Meter("gw", Kind.GATEWAY)
    batches(made, meter, every(0.01, 100), records=10, size=100_000)
    assert made.hint_for("gw").readings_per_s == pytest.approx(100.0, rel=0.1)  # 10 kB a reading, 1 MB a second
    made, meter = limiter(GATEWAY_RATES), Meter("gw", Kind.GATEWAY)
    batches(made, meter, every(0.001, 200), records=1, size=10)
    assert made.hint_for("gw").readings_per_s == pytest.approx(10.0, rel=0.1)


def hinted():
    made, meter = limiter(GATEWAY_RATES), Meter("gw", Kind.GATEWAY)
    batches(made, meter, every(0.01, 100))
    return made, meter, made.hint_for("gw").id


def test_a_gateway_that_echoes_its_hint_and_goes_on_is_noticed():
    made, meter, name = hinted()
    ignored = batches(made, meter, every(0.1, 600, START + 1), hint=name)
    assert ignored[:50] == [None] * 50, "what a window holds is borne"
    assert ignored[-200:] == [name] * 200


@pytest.mark.parametrize("properties", [{}, {"hint": "another"}, {"hint": "*", "resent": "1"}])
def test_who_does_not_echo_or_only_sends_again_ignores_nothing(properties):
    made, meter, name = hinted()
    said = {key: name if value == "*" else value for key, value in properties.items()}
    assert batches(made, meter, every(0.1, 600, START + 1), **said) == [None] * 600


def test_who_obeys_is_never_noticed_even_with_its_alarms_beside():
    made, meter, name = hinted()
    assert batches(made, meter, every(1.0, 600, START + 1), records=180, hint=name) == [None] * 600


def test_two_hints_never_bear_one_id():
    made, meter, name = hinted()
    batches(made, meter, every(0.01, 100, START + 100))
    assert made.hint_for("gw").id != name


@pytest.mark.parametrize(
    ("text", "expected"),
    [(None, 1), (b"", 1), (b"0", 1), (b"7", 7), (b"1000", 1_000), (b"9999", 1_000), (b"99999", 1), (b"-5", 1)],
)
def test_a_count_that_is_none_counts_as_one(text, expected):
    assert limits._records(text) == expected
