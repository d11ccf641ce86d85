from random import Random

from edge_agent.skew import CONFIRMATIONS, JUMP_MS, LEAST, WINDOW, SkewBook

NOW = 1_790_000_000_000


def feed(book: SkewBook, offset: int, count: int, start: int = NOW, every: int = 1_000) -> int | None:
    answer = None
    for number in range(count):
        receive = start + number * every
        answer = book.observe("a", receive + offset, receive)
    return answer


def test_no_estimate_before_the_third_message() -> None:
    book = SkewBook()
    assert feed(book, 700, 2) is None
    assert feed(book, 700, 1, NOW + 60_000) == 700


def test_median_withstands_late_deliveries() -> None:
    book = SkewBook()
    random = Random(1)
    answer = None
    for number in range(200):
        sent = NOW + number * 1_000
        delay = 4_000 if random.random() < 0.2 else random.randrange(5, 20)
        answer = book.observe("a", sent + 2_000, sent + delay)
    assert answer is not None
    assert 1_980 <= answer <= 1_995


def test_devices_are_apart() -> None:
    book = SkewBook()
    for number in range(10):
        receive = NOW + number * 1_000
        book.observe("a", receive + 100, receive)
        book.observe("b", receive - 900, receive)
    assert book.observe("a", NOW + 20_100, NOW + 20_000) == 100
    assert book.observe("b", NOW + 19_100, NOW + 20_000) == -900
    assert book.worst_ms() == 900


def test_resent_and_waiting_messages_teach_nothing() -> None:
    book = SkewBook()
    feed(book, 0, 10)
    for number in range(WINDOW):  # the same message again and again, ever later, always within JUMP_MS
        assert book.observe("a", NOW + 9_000, NOW + 10_000 + number * 100) == 0
    for number in range(WINDOW):
        assert book.observe("a", NOW + 20_000 + number, NOW + 24_000 + number, fresh=False) == 0


def test_what_waited_confirms_no_jump() -> None:
    book = SkewBook()
    feed(book, 0, 20)
    for number in range(20):
        waited = NOW + 30_000 + number * 1_000
        assert book.observe("a", waited - 600_000, waited, fresh=False) is None
    assert (book.jumps, book.in_doubt()) == (0, 0)


def test_a_clock_set_back_is_followed_from_then_on() -> None:
    book = SkewBook()
    feed(book, 0, 20)
    feed(book, -86_400_000, 20, NOW + 30_000)
    assert feed(book, -86_401_000, WINDOW, NOW + 60_000) == -86_401_000


def test_a_jump_is_in_doubt_and_then_confirmed() -> None:
    book = SkewBook()
    feed(book, 0, 20)
    answers = [book.observe("a", NOW + 30_000 + 3_600_000 + n * 1_000, NOW + 30_000 + n * 1_000) for n in range(6)]
    assert answers == [None] * (CONFIRMATIONS - 1) + [3_600_000] * (6 - CONFIRMATIONS + 1)
    assert book.jumps == 1
    assert book.in_doubt() == 0


def test_doubt_ends_when_the_old_clock_speaks_again() -> None:
    book = SkewBook()
    feed(book, 0, 20)
    assert book.observe("a", NOW + 9_999_999, NOW + 30_000) is None
    assert book.in_doubt() == 1
    assert book.observe("a", NOW + 31_000, NOW + 31_000) == 0
    assert book.in_doubt() == 0


def test_a_clock_set_back_is_confirmed_although_its_time_is_not_newer() -> None:
    book = SkewBook()
    feed(book, 0, 20)
    assert feed(book, -86_400_000, 6, NOW + 30_000) == -86_400_000


def test_a_backlog_never_passes_for_a_jump() -> None:
    book = SkewBook()
    feed(book, 0, 20)
    hour_ago = NOW + 30_000 - 3_600_000
    for number in range(3_000):  # an hour of readings, sent in half a minute
        assert book.observe("a", hour_ago + number * 1_000, NOW + 30_000 + number * 10) in (None, 0)
    assert book.jumps == 0
    assert book.observe("a", NOW + 61_000, NOW + 61_000) == 0


def test_a_burst_within_a_moment_confirms_nothing() -> None:
    book = SkewBook()
    feed(book, 0, 20)
    for number in range(CONFIRMATIONS * 4):
        assert book.observe("a", NOW + number * 20, NOW + 90_000 + number) is None
    assert book.jumps == 0


def test_a_clock_that_was_never_set_is_counted_once_per_reset() -> None:
    book = SkewBook()
    feed(book, 0, 20)
    for number in range(20):
        book.observe("a", number * 1_000, NOW + 30_000 + number * 1_000)
    assert book.resets == 1
    assert book.observe("a", 20_000, NOW + 50_000) == -(NOW + 30_000)
    feed(book, 0, 20, NOW + 60_000)
    book.observe("a", 5, NOW + 90_000)
    assert book.resets == 2


def test_a_step_of_the_gateway_moves_every_offset() -> None:
    book = SkewBook()
    feed(book, 0, WINDOW)
    book.shift(3_600_000)
    stepped = NOW + 3_600_000 + WINDOW * 1_000
    assert book.observe("a", stepped - 3_600_000, stepped) == -3_600_000
    assert feed(book, -3_600_000, WINDOW * 2, stepped + 1_000) == -3_600_000
    assert book.jumps == 0


def test_memory_is_bounded_and_the_longest_silent_goes() -> None:
    book = SkewBook(max_devices=2)
    for device in ("a", "b", "a", "c"):
        for number in range(LEAST):
            book.observe(device, NOW + number + 1, NOW + number)
    assert len(book) == 2
    assert book.observe("a", NOW + 100, NOW + 99) == 1
    assert book.observe("b", NOW + 100, NOW + 99) is None


def test_the_window_forgets_slow_drift() -> None:
    book = SkewBook()
    answer = None
    for number in range(1_000):
        answer = book.observe("a", NOW + number * 1_100, NOW + number * 1_000)
    assert answer is not None
    assert abs(answer - 999 * 100) <= WINDOW * 100
    assert book.jumps == 0
    assert WINDOW * 100 < JUMP_MS
