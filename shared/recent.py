"""A bounded memory of what was seen lately: how a repeat is recognised at the edge and at ingest. PURE.

Identity is a 128-bit digest; at 200,000 remembered a false match has a probability of about 10^-33 a message.
"""

import hashlib
from collections import deque
from collections.abc import Iterable


def identity(*parts: bytes) -> bytes:
    """16 bytes that stand for these parts, in order and unambiguously."""
    digest = hashlib.blake2b(digest_size=16)
    for part in parts:
        digest.update(len(part).to_bytes(4, "big"))
        digest.update(part)
    return digest.digest()


class Recent:
    """The newest `capacity` identities, oldest forgotten first."""

    def __init__(self, capacity: int, seed: Iterable[bytes] = ()) -> None:
        assert capacity > 0
        self._capacity = capacity
        self._seen: set[bytes] = set()
        # Their order stands apart: a dict that loses its first keys finds the next first one by passing all the lost.
        self._order: deque[bytes] = deque()
        for item in seed:
            self.add(item)

    def __contains__(self, item: bytes) -> bool:
        return item in self._seen

    def __len__(self) -> int:
        return len(self._seen)

    def add(self, item: bytes) -> bool:
        """Remember `item`; False if it was remembered already (its age is left as it was)."""
        if item in self._seen:
            return False
        self._seen.add(item)
        self._order.append(item)
        if len(self._order) > self._capacity:
            self._seen.discard(self._order.popleft())
        return True
