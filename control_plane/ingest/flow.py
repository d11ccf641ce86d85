"""From received to acknowledged: what is new, what waits for Kafka, what may be acknowledged. PURE.

Promises:
- A message is done only when `confirmed` said that Kafka has it, or has had it: then its PUBACK may leave (in order,
  see `window`) and, for a batch, its hub acknowledgement.
- Within a partition messages wait in order of receipt; a repeat never takes a second place. A repeat of what Kafka
  has is done at once; a repeat of what still waits is done when that is.
- The reader is never refused: what is held is bounded by Receive Maximum, because the broker sends no more before
  it is acknowledged. Only messages of QoS 0, which no window bounds and nobody was promised, are dropped beyond
  `unacknowledged_limit`.

Memory: `remember` identities of about 140 bytes, and the messages between receipt and confirmation, each at most
limits.PAYLOAD_BYTES and its headers.
"""

from collections import deque
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from control_plane.ingest import raw_record
from control_plane.ingest.hub_acks import HubAcks
from control_plane.ingest.limits import Book, Limiter
from control_plane.ingest.packets import Message
from control_plane.ingest.raw_record import Copied, Headers, Origin, Stamp
from control_plane.ingest.window import Ticket, Window
from shared import limits
from shared.bounded import Bounded
from shared.recent import Recent

_NO_MARKS: Headers = []
_THROTTLED: Headers = [("throttled", b"1")]
IGNORED = "hint_ignored"
"""Header of a batch whose gateway echoes this flow hint and does not obey it."""
_WAITING_SHARE = 4
"""A window half as full as Receive Maximum (which is half of the limit): the broker may hold messages back."""


class Arrival:
    """A message on its way to Kafka, with the tickets of all its deliveries."""

    __slots__ = (
        "ce_id", "identity", "judgement", "marks", "number", "origin", "properties", "received", "tickets", "trace",
        "value",
    )  # fmt: skip

    def __init__(
        self,
        origin: Origin,
        message: Message,
        properties: Copied,
        received: Stamp,
        identity: bytes,
        ticket: Ticket | None,
    ) -> None:
        self.origin = origin
        self.properties = properties
        self.received = received
        self.identity = identity
        self.tickets = [] if ticket is None else [ticket]
        self.value = payload = message.payload
        self.marks = self.judgement = _NO_MARKS
        if origin.is_gateway:
            self.number = raw_record.batch_number(properties.pairs)
            self.ce_id = raw_record.event_id(origin, identity, self.number, payload)
        else:
            self.number = None
            self.ce_id = origin.event_id(identity)
        self.trace: str | None = None  # this stage's traceparent once it is known, "" for none
        if len(payload) > limits.PAYLOAD_BYTES:
            self.cut()

    def cut(self) -> None:
        """Keep only the beginning, marked; for what is too large, and for what Kafka refuses for good."""
        if not self.marks:
            self.value, self.marks = raw_record.cut_form(self.value)

    @property
    def is_cut(self) -> bool:
        return bool(self.marks)

    def headers(self, traceparent: str | None) -> Headers:
        """The record's headers."""
        pairs = raw_record.headers(self.origin, self.ce_id, self.received, self.properties, traceparent)
        if self.marks:
            pairs += self.marks
        if self.judgement:
            pairs += self.judgement
        return pairs


class Tally(NamedTuple):
    """What one read brought: messages by what became of them, and the partitions that have new ones.

    Of the new: `cut` for their size, `headers_cut` for properties over the limits, `throttled` for their device's
    rates, `ignored_hints` of gateways that do not obey the hint that they echo.
    """

    new: int
    repeats: int
    foreign: int
    dropped: int
    cut: int
    headers_cut: int
    partitions: set[int]
    throttled: int = 0
    ignored_hints: int = 0


_NOTHING = Tally(0, 0, 0, 0, 0, 0, set())


class Flow:
    """One tenure's messages. `seed`: identities that `raw` already has, oldest first."""

    def __init__(
        self,
        partitions: int,
        *,
        remember: int,
        seed: Iterable[bytes] = (),
        unacknowledged_limit: int,
        hub_acks_limit: int = 100_000,
        origins_limit: int = 50_000,
        limiter: Limiter | None = None,
    ) -> None:
        self.window = Window()
        self.hub_acks = HubAcks(hub_acks_limit)
        self.queues: list[deque[Arrival]] = [deque() for _ in range(partitions)]
        self._recent = Recent(remember, seed)
        self._pending: dict[bytes, Arrival] = {}
        self._origins: Bounded[bytes, Origin | None] = Bounded(origins_limit)
        self._unacknowledged_limit = unacknowledged_limit
        self._closed = False
        self.limiter = limiter if limiter is not None else Limiter(Book(), 0.0)

    def __len__(self) -> int:
        """Messages that Kafka has not confirmed."""
        return len(self._pending)

    def opened(self, generation: int, now_s: float = 0.0) -> None:
        """A new connection; what the last one left unacknowledged comes again by this one."""
        self.window.opened(generation)
        self.limiter.opened(now_s)
        for arrival in self._pending.values():
            arrival.tickets.clear()  # void, and one more each time while Kafka is away and the link comes and goes

    def close(self) -> None:
        """Take nothing more: what still comes stays unacknowledged, so the broker keeps it."""
        self._closed = True

    def received(self, generation: int, messages: Sequence[Message], received: Stamp, now_s: float = 0.0) -> Tally:
        """What one read of the connection `generation` brought, in order of receipt. `now_s`: a clock that only
        grows, for the limits.
        """
        if self._closed or generation != self.window.generation:
            return _NOTHING
        held = len(self.window) * _WAITING_SHARE >= self._unacknowledged_limit
        self.limiter.tick(now_s, sum([len(item.payload) for item in messages]), len(messages), waiting=held)
        throttled = ignored = 0
        new = repeats = foreign = dropped = cut = headers_cut = 0
        touched: set[int] = set()
        for message in messages:
            ticket = self.window.received(message.packet_id) if message.packet_id else None
            source = self._origin(message.topic)
            if source is None:
                foreign += 1
                _finish(ticket)
                continue
            properties = raw_record.copied(source, message)
            identity = raw_record.identify(source, message, properties)
            if identity in self._recent:
                repeats += 1
                _finish(ticket)
                self._hub_ack(source, properties)
                continue
            waiting = self._pending.get(identity)
            if waiting is not None:
                repeats += 1
                if ticket is not None:
                    waiting.tickets.append(ticket)
                continue
            if ticket is None and len(self._pending) >= self._unacknowledged_limit:
                dropped += 1
                continue
            arrival = Arrival(source, message, properties, received, identity, ticket)
            self._pending[identity] = arrival
            self.queues[source.partition].append(arrival)
            touched.add(source.partition)
            new += 1
            cut += arrival.is_cut
            headers_cut += properties.cut
            if source.is_gateway:
                hint = self.limiter.batch(source.meter, len(message.payload), dict(properties.pairs))
                if hint is not None:
                    arrival.judgement = [(IGNORED, hint.encode())]
                    ignored += 1
            elif not self.limiter.direct(source.meter, len(message.payload)):
                arrival.judgement = _THROTTLED
                throttled += 1
        return Tally(new, repeats, foreign, dropped, cut, headers_cut, touched, throttled, ignored)

    def confirmed(self, arrivals: Iterable[Arrival]) -> None:
        """Kafka has these."""
        for arrival in arrivals:
            del self._pending[arrival.identity]
            self._recent.add(arrival.identity)
            for ticket in arrival.tickets:
                ticket.done = True
            if arrival.number is not None:
                self.hub_acks.confirmed(arrival.origin.owner, *arrival.number)

    def _hub_ack(self, source: Origin, properties: Copied) -> None:
        if source.is_gateway:
            number = raw_record.batch_number(properties.pairs)
            if number is not None:
                self.hub_acks.confirmed(source.owner, *number)

    def _origin(self, topic: bytes) -> Origin | None:
        try:
            return self._origins[topic]
        except KeyError:
            found = raw_record.origin(topic, len(self.queues))
            self._origins.keep(topic, found)
            return found


def _finish(ticket: Ticket | None) -> None:
    if ticket is not None:
        ticket.done = True
