"""Hold-down: one alarm per episode of (device, metric), over all judges and in event time. PURE.

An episode is a stretch of event time in which somebody found the metric unusual. A signal that falls into one, give
or take the hold, joins it silently, whoever gave it and however late it comes; it speaks again only if it is `BREAK`
times as strong as the strongest of its own scale before (scores of different scales are not compared), or worse.
A signal outside every remembered episode begins one, named after the moment of that signal.
"""

from collections.abc import Sequence
from enum import StrEnum
from typing import NamedTuple

import msgspec

from control_plane.analytics.records import Severity

BREAK = 1.5
REMEMBERED = 16
"""Episodes kept per device and metric: later signals of older ones would be taken for new."""

HOLD_MS = 5_000
"""The shortest hold. The edge holds down by itself, in samples; the hub's own hold grows with the interval."""

HOLD_INTERVALS = 12
HOLD_MOST_MS = 3_600_000

JOIN_MS = 900_000
"""An excursion beyond a limit that turns up afterwards is taken for the beginning of one that was reported to begin
at most so much later: the live lane reports first, the backlog tells when it really began."""

_RANK = {Severity.INFO: 1, Severity.WARNING: 2, Severity.CRITICAL: 3}


class Scale(StrEnum):
    """What a signal's score is measured in."""

    EDGE = "edge"  # the edge detector's own
    SIGMA = "sigma"  # robust sigmas
    LIMIT = "limit"  # 1 + the share of the permitted range that the value lies outside of it


class Signal(NamedTuple):
    """Somebody finds one value unusual."""

    scale: Scale
    score: float
    severity: Severity
    reason: str
    expected: float | None


class Episode(msgspec.Struct, array_like=True):
    """One stretch. `id_ms`: the signal that began it; `first_ms`..`last_ms`: all of its signals; `alarms`: raised."""

    id_ms: int
    first_ms: int
    last_ms: int
    severity: int
    peaks: dict[Scale, float]
    alarms: int


class Book(msgspec.Struct, array_like=True):
    """The remembered episodes of one metric, oldest first, and, per lane, the one that holds while beyond a limit."""

    episodes: list[Episode] = []
    beyond_live: int | None = None
    beyond_late: int | None = None


class Alarm(NamedTuple):
    """Raise it: which signal speaks, in which episode, and which of its alarms this is, from 0."""

    signal: Signal
    severity: Severity
    episode_ms: int
    number: int


def hear(book: Book, at_ms: int, signals: Sequence[Signal], *, hold_ms: int, late: bool) -> Alarm | None:
    """What one value's signals lead to. Changes the book; there is at least one signal."""
    assert signals
    limit = any(signal.scale is Scale.LIMIT for signal in signals)
    episode = _held(book, at_ms, hold_ms, limit=limit, beyond=book.beyond_late if late else book.beyond_live)
    severity = max((signal.severity for signal in signals), key=_RANK.__getitem__)
    if episode is None:
        episode = Episode(at_ms, at_ms, at_ms, 0, {}, 0)
        book.episodes = [*book.episodes, episode][-REMEMBERED:]
    speaks = [signal for signal in signals if signal.score > BREAK * episode.peaks.get(signal.scale, signal.score)]
    loud = bool(speaks) or _RANK[severity] > episode.severity
    episode.first_ms = min(episode.first_ms, at_ms)
    episode.last_ms = max(episode.last_ms, at_ms)
    episode.severity = max(episode.severity, _RANK[severity])
    for signal in signals:
        episode.peaks[signal.scale] = max(episode.peaks.get(signal.scale, 0.0), signal.score)
    if limit:
        _stay(book, episode.id_ms, late=late)
    if not loud:
        return None
    episode.alarms += 1
    # The edge's word is carried where it has one; of the hub's own two the worse speaks, and a limit is plainer.
    speaker = min(
        speaks or signals, key=lambda signal: (signal.scale is not Scale.EDGE, -_RANK[signal.severity], signal.scale)
    )
    return Alarm(speaker, severity, episode.id_ms, episode.alarms - 1)


def cleared(book: Book, *, late: bool) -> bool:
    """The metric is back within its limits; True if that changed the book."""
    held = book.beyond_late if late else book.beyond_live
    if held is None:
        return False
    _stay(book, None, late=late)
    return True


def hold_ms(interval_ms: float) -> int:
    """How long a channel of this interval is held after its last signal."""
    return int(min(HOLD_MOST_MS, max(HOLD_MS, HOLD_INTERVALS * interval_ms)))


def _stay(book: Book, id_ms: int | None, *, late: bool) -> None:
    if late:
        book.beyond_late = id_ms
    else:
        book.beyond_live = id_ms


def _held(book: Book, at_ms: int, hold_ms: int, *, limit: bool, beyond: int | None) -> Episode | None:
    """The episode that this moment belongs to, newest first. `beyond`: the lane's open excursion."""
    ahead_ms = max(hold_ms, JOIN_MS) if limit else hold_ms
    for episode in reversed(book.episodes):
        if limit and episode.id_ms == beyond:
            return episode
        if episode.first_ms - ahead_ms <= at_ms <= episode.last_ms + hold_ms:
            return episode
    return None
