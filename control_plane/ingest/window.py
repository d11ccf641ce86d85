"""Which received messages are done, and which may be acknowledged to the broker now. PURE.

Promises (MQTT 5.0, 4.6 [MQTT-4.6.0-2]): acknowledgements leave in the order of receipt, so only up to the first
message that is not done; and an acknowledgement never leaves on another connection than the one that its message
came by, because a broker gives packet ids anew and a late acknowledgement would silently take a new message.

What an ended connection left unacknowledged the broker delivers again; the ticket of the first delivery is then
worth nothing, and finishing it harms nothing.
"""

from collections import deque


class Ticket:
    """One delivery that waits to be done."""

    __slots__ = ("done", "packet_id")

    def __init__(self, packet_id: int) -> None:
        self.packet_id = packet_id
        self.done = False


class Window:
    """The deliveries of the present connection, oldest first. Its size is bounded by Receive Maximum."""

    def __init__(self) -> None:
        self.generation = 0
        self._order: deque[Ticket] = deque()

    def __len__(self) -> int:
        """Deliveries of this connection that are not acknowledged."""
        return len(self._order)

    def opened(self, generation: int) -> None:
        """A new connection: tickets of the ones before it are void."""
        assert generation > self.generation, "generations only grow"
        self.generation = generation
        self._order.clear()

    def received(self, packet_id: int) -> Ticket:
        """A delivery by the present connection; call in order of receipt."""
        ticket = Ticket(packet_id)
        self._order.append(ticket)
        return ticket

    def due(self) -> list[int]:
        """The packet ids that may be acknowledged now, in order, each answered once."""
        order = self._order
        ids = []
        while order and order[0].done:
            ids.append(order.popleft().packet_id)
        return ids
