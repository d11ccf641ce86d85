"""One alarm per episode, over all judges, in event time."""

from hypothesis import given
from hypothesis import strategies as st

from control_plane.analytics import hold
from control_plane.analytics.hold import Alarm, Book, Scale, Signal
from control_plane.analytics.records import Severity

HOLD = hold.HOLD_MS


def signal(score: float, scale: Scale = Scale.SIGMA, severity: Severity = Severity.WARNING) -> Signal:
    return Signal(scale, score, severity, str(scale), None)


def hear(book: Book, at_ms: int, *signals: Signal, late: bool = False) -> Alarm | None:
    return hold.hear(book, at_ms, signals, hold_ms=HOLD, late=late)


def test_the_first_signal_begins_an_episode_named_after_its_moment() -> None:
    assert hear(Book(), 1_000, signal(9.0)) == Alarm(signal(9.0), Severity.WARNING, 1_000, 0)


def test_what_follows_within_the_hold_is_silent_and_prolongs_it() -> None:
    book = Book()
    assert hear(book, 0, signal(9.0))
    assert all(hear(book, at_ms, signal(9.0)) is None for at_ms in range(HOLD, 10 * HOLD, HOLD))
    after = hear(book, 11 * HOLD, signal(9.0))
    assert after is not None
    assert after.episode_ms == 11 * HOLD


def test_a_peak_half_as_large_again_speaks_within_the_episode() -> None:
    book = Book()
    hear(book, 0, signal(10.0))
    assert hear(book, 100, signal(15.0)) is None
    louder = hear(book, 200, signal(22.6))
    assert louder is not None
    assert (louder.episode_ms, louder.number) == (0, 1)
    assert hear(book, 300, signal(23.0)) is None


def test_scales_are_not_compared() -> None:
    book = Book()
    hear(book, 0, signal(3.0, Scale.EDGE))
    assert hear(book, 100, signal(40.0, Scale.SIGMA)) is None
    assert hear(book, 200, signal(5.0, Scale.EDGE)) is not None


def test_the_worse_speaks_again() -> None:
    book = Book()
    hear(book, 0, signal(10.0))
    worse = hear(book, 100, signal(1.01, Scale.LIMIT, Severity.CRITICAL))
    assert worse is not None
    assert worse.severity is Severity.CRITICAL
    assert hear(book, 200, signal(11.0)) is None


def test_of_several_judges_at_once_the_edge_speaks_and_the_worst_severity_counts() -> None:
    alarm = hear(Book(), 0, signal(1.1, Scale.LIMIT, Severity.CRITICAL), signal(7.0, Scale.EDGE))
    assert alarm is not None
    assert alarm.signal.scale is Scale.EDGE
    assert alarm.severity is Severity.CRITICAL


def test_of_the_hubs_own_two_the_worse_speaks() -> None:
    alarm = hear(Book(), 0, signal(9.0), signal(1.1, Scale.LIMIT, Severity.CRITICAL))
    assert alarm is not None
    assert alarm.signal.scale is Scale.LIMIT


def test_a_late_signal_of_a_known_episode_is_silent() -> None:
    book = Book()
    hear(book, 100_000, signal(9.0))
    hear(book, 200_000, signal(9.0))
    assert hear(book, 100_000 + HOLD, signal(9.0), late=True) is None
    assert hear(book, 100_000 - HOLD, signal(9.0), late=True) is None


def test_late_signals_prolong_an_episode_backwards() -> None:
    book = Book()
    hear(book, 100_000, signal(9.0))
    assert [hear(book, 100_000 - step * HOLD, signal(9.0), late=True) for step in (1, 2, 3)] == [None] * 3
    assert book.episodes[0].id_ms == 100_000, "its name stays"


def test_a_late_signal_of_its_own_begins_an_episode_in_its_own_time() -> None:
    book = Book()
    hear(book, 100_000, signal(9.0))
    late = hear(book, 50_000, signal(9.0), late=True)
    assert late is not None
    assert late.episode_ms == 50_000


def test_beyond_a_limit_it_is_one_episode_until_the_return() -> None:
    book = Book()
    limit = signal(1.1, Scale.LIMIT, Severity.CRITICAL)
    assert hear(book, 0, limit)
    hours = [hear(book, hour * 3_600_000, limit) for hour in range(1, 48)]
    assert hours == [None] * 47
    assert hold.cleared(book, late=False)
    assert not hold.cleared(book, late=False)
    assert hear(book, 48 * 3_600_000, limit)


def test_lanes_are_beyond_a_limit_separately() -> None:
    book = Book()
    limit = signal(1.1, Scale.LIMIT, Severity.CRITICAL)
    hear(book, 10_000_000, limit)
    assert hear(book, 1_000_000, limit, late=True)
    assert hear(book, 1_600_000, limit, late=True) is None
    hold.cleared(book, late=True)
    assert hear(book, 20_000_000, limit) is None, "the live lane is still beyond"


def test_a_late_excursion_shortly_before_a_reported_one_is_the_same() -> None:
    book = Book()
    limit = signal(1.1, Scale.LIMIT, Severity.CRITICAL)
    hear(book, 10_000_000, limit)
    assert hear(book, 10_000_000 - hold.JOIN_MS, limit, late=True) is None
    other = Book()
    hear(other, 10_000_000, limit)
    assert hear(other, 10_000_000 - hold.JOIN_MS - 1, limit, late=True)


def test_the_book_is_bounded() -> None:
    book = Book()
    for index in range(100):
        hear(book, index * 10 * HOLD, signal(9.0))
    assert len(book.episodes) == hold.REMEMBERED
    assert book.episodes[-1].id_ms == 990 * HOLD


def test_the_hold_grows_with_the_interval_within_bounds() -> None:
    assert [hold.hold_ms(ms) for ms in (0.0, 200.0, 1_000.0, 1e9)] == [5_000, 5_000, 12_000, 3_600_000]


@given(
    st.lists(
        st.tuples(st.integers(0, 100_000), st.sampled_from([Scale.EDGE, Scale.SIGMA]), st.booleans()), max_size=40
    )
)
def test_the_same_signal_again_never_speaks_twice(events: list[tuple[int, Scale, bool]]) -> None:
    book = Book()
    for at_ms, scale, late in events:
        hear(book, at_ms, signal(9.0, scale), late=late)
        if any(episode.id_ms <= at_ms for episode in book.episodes):
            assert hear(book, at_ms, signal(9.0, scale), late=late) is None


@given(st.lists(st.tuples(st.integers(0, 100_000), st.floats(1.0, 100.0)), max_size=60))
def test_alarms_have_names_of_their_own(events: list[tuple[int, float]]) -> None:
    book = Book()
    alarms = [hear(book, at_ms, signal(score)) for at_ms, score in events]
    names = [(alarm.episode_ms, alarm.number) for alarm in alarms if alarm is not None]
    assert len(names) == len(set(names))
