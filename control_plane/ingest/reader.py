"""The contract between ingest and whatever reads MQTT for it. `tests/stack/ingest/test_reader.py` states it.

Promises of every reader:
- one `connect` is one connection: MQTT 5, clean start off, session expiry infinite, the given Receive Maximum;
- messages are handed over in order of receipt, as soon as they are read, in lists; the reader never acknowledges by
  itself, and stops reading only when told to;
- `acknowledge` sends successful PUBACKs in the order given; `publish` is QoS 1, not retained, and never waits.
Leaves the decision what may be acknowledged to `window`, and connecting again to `service`.
"""

import ssl
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Protocol

from control_plane.ingest.packets import Message
from shared.config import Secret
from shared.errors import Transient

READ_BYTES = 64 * 1024
"""The most that one read takes from the connection, and so the most that `receive` is given at once."""

Receive = Callable[[Sequence[Message]], None]
"""Called in the event loop with what one read brought; must not block and must not raise."""


@dataclass(frozen=True, slots=True)
class Broker:
    """Where and as whom to connect. `receive_maximum`: the most unacknowledged messages; the only back-pressure.

    `tls`: how to speak with it; None is plain.
    """

    host: str
    port: int
    client_id: str
    username: str
    password: Secret
    receive_maximum: int
    keepalive_s: int = 15
    timeout_s: float = 10.0
    tls: ssl.SSLContext | None = field(default=None, compare=False)


class ConnectFailed(Transient):
    """The broker did not let us in. `kind`: unreachable, refused, or timeout; `detail` says it in words."""

    def __init__(self, kind: str, detail: str) -> None:
        super().__init__(f"the broker was {kind}: {detail}" if kind != "timeout" else f"no answer: {detail}")
        self.kind = kind
        self.detail = detail


class Session(Protocol):
    """One live connection."""

    session_present: bool
    """Whether the broker had kept our session; False means that it had forgotten subscriptions and messages."""

    async def subscribe(self, filters: Sequence[str]) -> None:
        """Subscribe to all at QoS 1, retained messages not wanted. Raises Transient if the broker grants less.

        Without limit of time: behind a kept session's messages the answer comes late.
        """
        ...

    def pause(self) -> None:
        """Stop reading, for a broker that sends more than Receive Maximum; the connection is kept alive meanwhile."""
        ...

    def resume(self) -> None:
        """Read again."""
        ...

    def acknowledge(self, packet_ids: Sequence[int]) -> None:
        """PUBACK these, in this order. Does nothing on a connection that has ended."""
        ...

    def publish_room(self) -> int:
        """How many more messages may be published now without exceeding what the broker takes at once."""
        ...

    def publish(self, topic: str, payload: bytes) -> None:
        """QoS 1, at most `publish_room` of them. What an ended connection had not delivered is lost."""
        ...

    def tell(self, topic: str, payload: bytes) -> None:
        """QoS 0, not retained: it arrives or it does not, and nobody is told."""
        ...

    async def ended(self) -> str:
        """Wait until the connection has ended; why, as far as one can tell (Mosquitto 2.0 does not say it)."""
        ...


class Published(Protocol):
    """Told of each answer to a `publish`."""

    def __call__(self, reason_code: int) -> None: ...


class Reader(Protocol):
    """Makes connections."""

    def connect(self, broker: Broker, receive: Receive, published: Published) -> AbstractAsyncContextManager[Session]:
        """Connected on entry (raises ConnectFailed), disconnected on exit; the broker keeps the session.

        `receive` may be called before the entry returns: a kept session delivers at once.
        """
        ...
