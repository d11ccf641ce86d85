"""What the broker says of itself: messages that it dropped, and connects that it refused.

Promises: the gauge follows the broker's own count, and each growth that we saw is a warning: the first count that is
heard is what was known already. Refused connects are counted by kind, as far as the log tells, while we listen. A
broker that is away is tried again and said by nobody here: the bridge says it.
"""

import asyncio
import ssl

import aiomqtt

from control_plane.ingest import events, refused_connects
from shared.config import Secret

TOPIC = "$SYS/broker/publish/messages/dropped"
USERNAME = "_monitor"
_RETRY_S = 5.0


class BrokerWatch:
    """Follows one broker until cancelled."""

    def __init__(self, host: str, port: int, password: Secret, name: str, tls: ssl.SSLContext | None = None) -> None:
        """`name` makes the client id this process's own; `tls`: how to speak with the broker, None for plain."""
        self._tls = tls
        self._host = host
        self._port = port
        self._password = password
        self._client_id = f"{USERNAME}-{name}"
        self._last: int | None = None
        self.listening = asyncio.Event()
        """Set once the subscriptions stand for the first time."""

    async def run(self) -> None:
        """Connect, again and again, and listen."""
        while True:
            try:
                await self._listen()
            except aiomqtt.MqttError as error:
                events.BrokerWatchEnded(str(error)).emit()
            await asyncio.sleep(_RETRY_S)

    async def _listen(self) -> None:
        async with aiomqtt.Client(
            self._host,
            self._port,
            username=USERNAME,
            password=str(self._password),
            identifier=self._client_id,
            protocol=aiomqtt.ProtocolVersion.V5,
            tls_context=self._tls,
        ) as client:
            await client.subscribe([(topic, 0) for topic in (TOPIC, *refused_connects.TOPICS)])
            self.listening.set()
            async for message in client.messages:
                payload = bytes(message.payload)
                if message.topic.value == TOPIC:
                    self.told(payload)
                else:
                    self.logged(payload)

    def logged(self, line: bytes) -> None:
        """A line of the broker's log."""
        kind = refused_connects.kind_of(line)
        if kind is not None:
            events.CONNECT_FAILURES.labels(kind).inc()

    def told(self, payload: bytes) -> None:
        """The broker's count since its start; what is no number is not counted."""
        if not payload.isdigit():
            return
        dropped = int(payload)
        events.BROKER_DROPPED.set(dropped)
        if self._last is not None and dropped > self._last:
            events.BrokerDropped(dropped - self._last).emit()
        self._last = dropped
