from edge_agent.anomaly.episodes import FADE, HOLD_S, HOLD_SAMPLES, REMEMBERED, Episodes

LINE = 5.0


def run(scores: list[float], interval_s: float = 1.0, episodes: Episodes | None = None) -> list[int]:
    episodes = episodes or Episodes()
    return [n for n, score in enumerate(scores) if episodes.alarm(n * interval_s, score, LINE)]


def test_below_the_line_is_no_alarm_and_on_it_is() -> None:
    assert run([4.99, 0.0, 5.0]) == [2]


def test_one_alarm_for_one_episode_however_long() -> None:
    assert run([6.0] * 500) == [0]
    assert run([6.0, 0.0, 0.0] * 100) == [0]


def test_after_a_quiet_time_the_next_episode_speaks() -> None:
    quiet = [0.0] * HOLD_SAMPLES
    assert run([6.0, *quiet, 6.0]) == [0, HOLD_SAMPLES + 1]
    assert run([6.0, *quiet[2:], 6.0]) == [0]


def test_fast_channels_are_held_by_seconds() -> None:
    per_s = 100
    at = int(HOLD_S * per_s)
    assert run([6.0, *[0.0] * (at - 2), 6.0], 1 / per_s) == [0]
    assert run([6.0, *[0.0] * (at + 1), 6.0], 1 / per_s) == [0, at + 2]


def test_a_much_stronger_peak_breaks_the_hold() -> None:
    assert run([6.0, 8.0]) == [0]
    assert run([6.0, 9.1]) == [0, 1]
    assert run([6.0, 9.1, 13.0]) == [0, 1]


def test_a_long_aftermath_does_not_hide_the_next_fault() -> None:
    """The peak that must be surpassed fades while the score lingers just above the line."""
    lingering = 40
    assert 20.0 * FADE**lingering < 8.0
    assert run([20.0, *[5.5] * lingering, 19.0]) == [0, lingering + 1]


def test_what_keeps_happening_must_be_stronger() -> None:
    """Scores just above the line stop speaking after a few; a strong one still does."""
    quiet = [0.0] * (HOLD_SAMPLES + 1)
    episodes = Episodes()
    found = run([*[6.0, *quiet] * 10], episodes=episodes)
    assert len(found) == 3  # 6 / 1.2 reaches 5, 6 / 1.3 does not
    assert episodes.alarm(1e6, 12.0, LINE)


def test_habituation_is_to_the_like_only() -> None:
    quiet = [0.0] * (HOLD_SAMPLES + 1)
    assert len(run([*[30.0, *quiet] * 8, 5.2])) == 9


def test_memory_is_bounded() -> None:
    quiet = [0.0] * (HOLD_SAMPLES + 1)
    episodes = Episodes()
    run([30.0, *quiet] * 100, episodes=episodes)
    assert len(episodes.earlier) == REMEMBERED


def test_a_clock_set_back_does_not_mute() -> None:
    episodes = Episodes()
    assert episodes.alarm(1_000_000.0, 6.0, LINE)
    episodes.rewind()
    found = [number for number in range(60) if episodes.alarm(float(number), 0.0 if number < 30 else 6.0, LINE)]
    assert found == [30]
