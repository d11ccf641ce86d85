"""A network link made worse on purpose: a TCP proxy on loopback that delays, and that can be cut and restored.

Promises: order is kept; a delay costs no bandwidth (bytes in flight wait side by side); a cut resets what is
connected, loses what is in flight, and refuses until it is restored, on the same port. There is no packet loss: TCP
would hide it.
"""

import asyncio
import socket
import struct
from collections import deque
from collections.abc import Callable
from types import TracebackType
from typing import Self

from deploy.stack import host

IN_FLIGHT_BYTES = 64 * 1024 * 1024
"""The most that waits in one direction of one connection; beyond it the sender is held back."""
_CHUNK_BYTES = 256 * 1024
_BACKLOG = 512


class Link:
    """Forwards connections to a target. Use it in one event loop; as a context manager it starts and stops itself."""

    def __init__(self, target_host: str, target_port: int, delay_s: float = 0.0, port: int | None = None) -> None:
        """`delay_s` is one way: half of what it adds to the round trip. It may be set at any time."""
        self.delay_s = delay_s
        self.port = port or host.free_port()
        self.bytes_up = 0
        """Delivered to the target so far."""
        self.bytes_down = 0
        """Delivered to clients so far."""
        self._target = (target_host, target_port)
        self._listener: socket.socket | None = None
        self._connections: dict[asyncio.Task[None], _Ends] = {}

    async def start(self) -> None:
        """Listen. Raises OSError if the port is taken."""
        self.restore()

    async def stop(self) -> None:
        """Cut, and wait for what served the connections to end."""
        tasks = list(self._connections)
        self.cut()
        await asyncio.gather(*tasks, return_exceptions=True)

    def cut(self) -> None:
        """Reset every connection and refuse new ones, until `restore`."""
        if self._listener is not None:
            asyncio.get_running_loop().remove_reader(self._listener)
            self._listener.close()
            self._listener = None
        for task, ends in self._connections.items():
            ends.reset()
            task.cancel()

    def restore(self) -> None:
        """Accept connections again; nothing to do if it is not cut."""
        if self._listener is not None:
            return
        listener = socket.socket()
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.setblocking(False)
            listener.bind(("127.0.0.1", self.port))
            listener.listen(_BACKLOG)
        except OSError:
            listener.close()
            raise
        self._listener = listener
        asyncio.get_running_loop().add_reader(listener, self._accept)

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    def _accept(self) -> None:
        assert self._listener is not None
        try:
            accepted, _ = self._listener.accept()
        except (BlockingIOError, ConnectionAbortedError):
            return  # the client has gone again
        ends = _Ends(accepted)
        task = asyncio.get_running_loop().create_task(self._serve(ends), name="link connection")
        self._connections[task] = ends
        task.add_done_callback(self._connections.pop)

    async def _serve(self, ends: "_Ends") -> None:
        try:
            from_client, to_client = await ends.client()
            from_target, to_target = await ends.target(*self._target)
            up, down = _Pipe(self), _Pipe(self)
            async with asyncio.TaskGroup() as group:
                group.create_task(up.fill(from_client))
                group.create_task(down.fill(from_target))
                group.create_task(up.pour(to_target, self._count_up))
                group.create_task(down.pour(to_client, self._count_down))
            await ends.close()
        except* OSError:
            ends.reset()  # one side has gone: so the other learns it

    def _count_up(self, count: int) -> None:
        self.bytes_up += count

    def _count_down(self, count: int) -> None:
        self.bytes_down += count


class _Ends:
    """Both sockets of one forwarded connection, so that a cut can reset them at any moment."""

    def __init__(self, accepted: socket.socket) -> None:
        accepted.setblocking(False)
        self._accepted: socket.socket | None = accepted
        self._writers: list[asyncio.StreamWriter] = []

    async def client(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        accepted = self._accepted
        assert accepted is not None
        reader, writer = await asyncio.open_connection(sock=accepted, limit=_CHUNK_BYTES)
        self._accepted = None
        self._writers.append(writer)
        return reader, writer

    async def target(self, address: str, port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader, writer = await asyncio.open_connection(address, port, limit=_CHUNK_BYTES)
        self._writers.append(writer)
        return reader, writer

    async def close(self) -> None:
        """In order: what was written still arrives."""
        for writer in self._writers:
            writer.close()
        for writer in self._writers:
            await writer.wait_closed()

    def reset(self) -> None:
        """At once: what was written and not yet sent is lost."""
        if self._accepted is not None:
            self._accepted.close()
        for writer in self._writers:
            if (sock := writer.get_extra_info("socket")) is not None and sock.fileno() >= 0:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            writer.transport.abort()


class _Pipe:
    """One direction: chunks in order, each due `delay_s` after it came, and never before the one before it."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self._waiting: deque[tuple[float, bytes]] = deque()
        self._bytes = 0
        self._changed = asyncio.Condition()

    async def fill(self, reader: asyncio.StreamReader) -> None:
        """Take what comes until the end, which waits in line as an empty chunk."""
        clock = asyncio.get_running_loop()
        while True:
            chunk = await reader.read(_CHUNK_BYTES)
            async with self._changed:
                await self._changed.wait_for(lambda: self._bytes < IN_FLIGHT_BYTES)
                last_due = self._waiting[-1][0] if self._waiting else 0.0
                self._waiting.append((max(last_due, clock.time() + self._link.delay_s), chunk))
                self._bytes += len(chunk)
                self._changed.notify_all()
            if not chunk:
                return

    async def pour(self, writer: asyncio.StreamWriter, count: Callable[[int], None]) -> None:
        """Write what is due; after the end pass the end on."""
        clock = asyncio.get_running_loop()
        while True:
            async with self._changed:
                await self._changed.wait_for(lambda: self._waiting)
                due, chunk = self._waiting.popleft()
                self._bytes -= len(chunk)
                self._changed.notify_all()
            if due > clock.time():
                await asyncio.sleep(due - clock.time())
            if not chunk:
                writer.write_eof()
                return
            writer.write(chunk)
            await writer.drain()
            count(len(chunk))
