"""All channels of one gateway: score, then learn; alarms as `Verdict`s; bounded memory; state that can be saved.

Channels are made as they appear, at most `max_channels`, the least recently used making room (counted). A late
sample (older than the channel's latest, or its repeat) is neither scored nor learned, unless so many come in a row
that the clock must have been set back. No I/O: the agent stores what `dirty_channels` or `snapshot` gives.
"""

from collections import OrderedDict
from collections.abc import Iterable, Iterator
from math import isfinite

import msgspec

from edge_agent.anomaly import state
from edge_agent.anomaly.models import EDGE, check_model
from edge_agent.anomaly.watch import Watch
from shared.reading import Verdict

ChannelKey = tuple[str, str]
"""Device id and metric."""

MAX_CHANNELS = 10_000
SNAPSHOT_VERSION = 1


class _Saved(msgspec.Struct, array_like=True, frozen=True):
    version: int
    model: str
    channels: list[tuple[str, str, bytes]]


class Scorer:
    """Scores every channel of one gateway.

    Raises ConfigError if `model` is unknown.
    """

    def __init__(self, *, max_channels: int = MAX_CHANNELS, model: str = EDGE) -> None:
        assert max_channels > 0
        check_model(model)
        self.max_channels = max_channels
        self.model = model
        self.cold_start_reason: str | None = None  # why a stored state was not used, if one was not
        self.cold_channels = 0  # stored channels that could not be read
        self.evicted = 0
        self.late = 0  # samples ignored because they were not newer than their channel's latest
        self._channels: OrderedDict[ChannelKey, Watch] = OrderedDict()
        self._dirty: dict[ChannelKey, None] = {}
        self._gone: dict[ChannelKey, None] = {}
        self._first: dict[str, tuple[float, str, Watch]] = {}  # per device, the first metric of its latest moment

    def __len__(self) -> int:
        return len(self._channels)

    def score(self, device_id: str, metric: str, at_s: float, value: float) -> Verdict | None:
        """Score the sample, then learn it; a Verdict only where it begins an episode that deserves an alarm.

        `at_s`: seconds since the epoch, the same for all metrics of one reading; `value` is finite. The Verdict's
        value is the joint surprise in decades, its reason the loudest stream's name (docs/detector.md lists them).
        """
        assert isfinite(value)
        watch = self._watch((device_id, metric), at_s, value)
        if watch is None:
            return None
        first = self._first.get(device_id)
        if first is None or first[0] != at_s or first[1] == metric:
            self._first[device_id] = (at_s, metric, watch)
            score, reason, expected = watch.judge(at_s, value, metric, None)
        else:
            score, reason, expected = watch.judge(at_s, value, first[1], first[2])
        if watch.episodes.alarm(at_s, score, watch.detector.line):
            return Verdict(score, metric, reason, expected)
        return None

    def learn(self, device_id: str, metric: str, at_s: float, value: float) -> None:
        """Learn from history: as `score`, but nothing is an episode, and habituation learns nothing."""
        assert isfinite(value)
        watch = self._watch((device_id, metric), at_s, value)
        if watch is not None:
            watch.judge(at_s, value, metric, None)

    def _watch(self, key: ChannelKey, at_s: float, value: float) -> Watch | None:
        """The sample's channel; None if the sample is late."""
        watch = self._channels.get(key)
        if watch is None:
            watch = self._open(key)
        else:
            self._channels.move_to_end(key)
        if not watch.takes(at_s, value):
            self.late += 1
            return None
        self._dirty[key] = None
        return watch

    def _open(self, key: ChannelKey) -> Watch:
        self._gone.pop(key, None)
        if len(self._channels) >= self.max_channels:
            gone, _ = self._channels.popitem(last=False)
            self._dirty.pop(gone, None)
            if gone[0] in self._first and self._first[gone[0]][1] == gone[1]:
                del self._first[gone[0]]
            self.evicted += 1
            if len(self._gone) < self.max_channels:
                self._gone[gone] = None
        watch = self._channels[key] = Watch(self.model)
        return watch

    # -- state --------------------------------------------------------------------------------------------------

    def dirty_channels(self, limit: int | None = None) -> Iterator[tuple[ChannelKey, bytes]]:
        """Channels that learned since they were last given here, with their state, longest waiting first.

        At most `limit` of them; each is clean once it was given.
        """
        for key in list(self._dirty)[:limit]:
            del self._dirty[key]
            yield key, state.pack(self._channels[key], self.model)

    def gone_channels(self) -> list[ChannelKey]:
        """Channels evicted since the last call: their stored state may be deleted."""
        gone = list(self._gone)
        self._gone.clear()
        return gone

    def load(self, channels: Iterable[tuple[ChannelKey, bytes]]) -> None:
        """Take stored channels back, the latest used last. What cannot be read starts cold and is counted."""
        for key, data in channels:
            watch = state.unpack(data, self.model)
            if watch is None:
                self.cold_channels += 1
                self.cold_start_reason = "unreadable state of a channel"
                continue
            self._open(key)
            self._channels[key] = watch

    def snapshot(self) -> bytes:
        """The whole state, at most `max_channels` x `state.STATE_BYTES` and names. Leaves dirty marks as they are."""
        channels = [
            (device, metric, state.pack(watch, self.model)) for (device, metric), watch in self._channels.items()
        ]
        return msgspec.msgpack.encode(_Saved(SNAPSHOT_VERSION, self.model, channels))

    @classmethod
    def restore(cls, data: bytes, *, max_channels: int = MAX_CHANNELS, model: str = EDGE) -> "Scorer":
        """A scorer that goes on where `snapshot` was taken; cold, with `cold_start_reason`, if it cannot be read."""
        scorer = cls(max_channels=max_channels, model=model)
        try:
            saved = msgspec.msgpack.decode(data, type=_Saved)
        except (msgspec.DecodeError, ValueError):
            scorer.cold_start_reason = "unreadable snapshot"
            return scorer
        if saved.version != SNAPSHOT_VERSION:
            scorer.cold_start_reason = f"snapshot version {saved.version}, this is {SNAPSHOT_VERSION}"
        elif saved.model != model:
            scorer.cold_start_reason = f"snapshot of model {saved.model!r}, this is {model!r}"
        else:
            scorer.load(((device, metric), blob) for device, metric, blob in saved.channels)
        return scorer
