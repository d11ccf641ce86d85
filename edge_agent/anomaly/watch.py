"""One channel under watch: its detector, its event layer, its clock, and its pair with another metric. PURE."""

from edge_agent.anomaly.detector import VALUE, ChannelDetector
from edge_agent.anomaly.episodes import LONG_AGO_S, Episodes
from edge_agent.anomaly.models import EDGE, RiverChannel
from edge_agent.anomaly.pair import Pair
from edge_agent.anomaly.residuals import BOOT, QUANTA
from edge_agent.anomaly.streams import Channel, Judged

LATE_RUN = 12
"""Late samples in a row after which they are taken for the present: the clock was set back."""

PAIR = "pair:"
"""The reason of an alarm that only the other metric gives, followed by that metric's name."""


class Watch:
    """All that is kept of one channel."""

    __slots__ = ("at_s", "detector", "episodes", "late", "pair", "value")

    def __init__(self, model: str = EDGE) -> None:
        self.detector: ChannelDetector | RiverChannel = ChannelDetector() if model == EDGE else RiverChannel(model)
        self.episodes = Episodes()
        self.pair: Pair | None = None
        self.at_s = LONG_AGO_S  # of the latest sample, and its value, by which a repeat is known
        self.value = 0.0
        self.late = 0  # late samples in a row

    @property
    def channel(self) -> Channel | None:
        """The edge detector's state; None before the first sample, and with a River model."""
        return self.detector.channels.get(VALUE) if isinstance(self.detector, ChannelDetector) else None

    def takes(self, at_s: float, value: float) -> bool:
        """Is the sample new? One older than the latest, or its repeat, is late, but not for ever."""
        if at_s <= self.at_s and (at_s < self.at_s or value == self.value):
            self.late += 1
            if self.late < LATE_RUN:
                return False
            self.episodes.rewind()
        self.late = 0
        self.at_s, self.value = at_s, value
        return True

    def judge(self, at_s: float, value: float, metric: str, partner: "Watch | None") -> Judged:
        """Score, then learn. `partner`: the watch of this moment's first metric, of that name, already judged."""
        judged = self.detector.observe(at_s, value)
        if partner is None:
            return judged
        own, other = self.channel, partner.channel
        if own is None or other is None or own.seen <= BOOT or other.seen <= BOOT:
            return judged
        if self.pair is None:
            self.pair = Pair(metric)
        return judged if self.pair.other != metric else _with_pair(judged, self.pair, own, other)


def _with_pair(judged: Judged, pair: Pair, own: Channel, other: Channel) -> Judged:
    x, y = other.past, own.past
    if x.moved or y.moved:
        pair.move(x.moved, y.moved)
    if x.suspects or y.suspects:
        return judged  # one of the two is known to be wrong by itself
    expected = pair.expected(x.last)
    decades = pair.observe(
        x.last,
        y.last,
        floor=QUANTA * y.quantum,
        interval_s=y.interval_s,
        lived_s=min(x.lived_s, y.lived_s),
        line=own.line,
        window=own.window,
    )
    score, reason, guess = judged
    if decades > score:
        reason, guess = PAIR + pair.other, expected
    return (score**3 + decades**3) ** (1 / 3) if decades else score, reason, guess
