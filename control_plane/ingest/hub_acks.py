"""Which hub acknowledgements are due: batches that Kafka has, merged per gateway, each with the hint due to it. PURE.

Promises: a number is due only after `confirmed` named it, and again each time it is named. Beyond `limit` waiting
numbers the gateway that waits longest is forgotten: its agent sends again, and is answered then.
"""

from collections.abc import Callable

from shared.batch import Ack, Hint, encode_ack
from shared.ids import DeviceId

HintFor = Callable[[DeviceId], Hint | None]


def _no_hint(_: DeviceId) -> Hint | None:
    return None


class HubAcks:
    """What waits to be told to gateways. At most `limit` numbers (some 200 bytes each)."""

    def __init__(self, limit: int) -> None:
        assert limit > 0
        self._limit = limit
        self._waiting: dict[DeviceId, dict[str, dict[int, None]]] = {}
        self._count = 0
        self.forgotten = 0

    def __len__(self) -> int:
        return self._count

    def confirmed(self, gateway: DeviceId, epoch: str, number: int) -> None:
        """Kafka has this batch."""
        numbers = self._waiting.setdefault(gateway, {}).setdefault(epoch, {})
        if number in numbers:
            return
        numbers[number] = None
        self._count += 1
        if self._count > self._limit:
            oldest = next(iter(self._waiting))
            self.forgotten += self._remove(oldest)[1]

    def take(self, gateways: int, hint_for: HintFor = _no_hint) -> list[tuple[DeviceId, bytes]]:
        """Up to `gateways` payloads for the acks topic, as (gateway, payload), the longest waiting first."""
        taken = []
        for gateway in list(self._waiting)[: max(0, gateways)]:
            epochs, _ = self._remove(gateway)
            acks = {epoch: list(numbers) for epoch, numbers in epochs.items()}
            taken.append((gateway, encode_ack(Ack(acks, hint_for(gateway)))))
        return taken

    def _remove(self, gateway: DeviceId) -> tuple[dict[str, dict[int, None]], int]:
        epochs = self._waiting.pop(gateway)
        count = sum(map(len, epochs.values()))
        self._count -= count
        return epochs, count
