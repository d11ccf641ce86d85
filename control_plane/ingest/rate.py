"""Events per second over the last seconds. PURE: time is given."""

from collections import deque


class Rate:
    """Counts in buckets of a second over `span_s` seconds; a few hundred bytes, whatever the rate."""

    def __init__(self, span_s: int = 10) -> None:
        assert span_s > 0
        self._span_s = span_s
        self._buckets: deque[tuple[int, int]] = deque(maxlen=span_s + 1)

    def add(self, now_s: float, count: int) -> None:
        """`count` events happened at `now_s`, monotonic seconds."""
        second = int(now_s)
        if self._buckets and self._buckets[-1][0] == second:
            count += self._buckets.pop()[1]
        self._buckets.append((second, count))

    def per_s(self, now_s: float) -> float:
        """The mean over the `span_s` whole seconds before this one."""
        last = int(now_s)
        buckets = tuple(self._buckets)  # another thread reads while the loop adds
        return sum(count for second, count in buckets if last - self._span_s <= second < last) / self._span_s
