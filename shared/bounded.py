"""A map that holds the newest few: what would otherwise grow with the fleet. PURE.

Reading is a plain dictionary's, and forgetting the oldest takes the same time however many were forgotten before
(a plain dictionary finds its first key by passing all that it lost).
"""

from collections import OrderedDict
from typing import TypeVar

Key = TypeVar("Key")
Value = TypeVar("Value")


class Bounded(OrderedDict[Key, Value]):
    """At most `capacity` keys, in order of their last `keep`. Fill it by `keep` only."""

    def __init__(self, capacity: int) -> None:
        assert capacity > 0
        super().__init__()
        self.capacity = capacity

    def keep(self, key: Key, value: Value) -> tuple[Key, Value] | None:
        """Hold `value` under `key`, which is the newest now; what was forgotten for it, if anything."""
        self[key] = value
        self.move_to_end(key)
        return self.popitem(last=False) if len(self) > self.capacity else None
