"""Asks the hub which devices are this gateway's, and tells it of those that it does not know.

Promises: never raises for what the hub or the network does; what the hub said is on disk before it is acted upon, so
a restart without the hub goes on as before. Each call runs in a child (`edge_agent.hub_call`). The local broker's
records of the LAN's devices follow (`edge_agent.local_broker_file`): from what is kept at a start, then from the hub.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Literal, Protocol

import msgspec

from edge_agent.chores import Chores
from edge_agent.device_book import DeviceBook, Gate, Page, decode, encode
from edge_agent.durable_file import write
from edge_agent.held_events import DevicesAsked, DevicesNotAsked, DevicesReported
from edge_agent.hub_call import Answer, Call
from edge_agent.local_broker import LocalDevice
from shared.config import Secret
from shared.errors import HubError, Permanent

FILE = "devices.json"
_MOST_REPORTED = 100
_GATHER_S = 1.0
_OK, _NOT_MODIFIED = 200, 304


class Writer(Protocol):
    """What the desk asks of `edge_agent.outbox_writer.OutboxWriter`."""

    held_at_start: tuple[str, ...]

    def chore(self, act: Callable[[Chores], None]) -> None: ...


class Lan(Protocol):
    """What the desk asks of `edge_agent.local_broker_file.LocalBrokerFile`."""

    async def follow(self, devices: Iterable[LocalDevice]) -> bool: ...


class DeviceDesk:
    """One gateway's; `serve` it once. `ask` calls the hub; `key` is the gateway's, read anew for each call.

    `lan`: the local broker's records of its devices, where it has a listener for them.
    """

    def __init__(
        self,
        gateway: str,
        data_dir: Path,
        ask: Callable[[Call], Awaitable[Answer]],
        key: Callable[[], Secret],
        writer: Writer,
        *,
        every_s: float,
        lan: Lan | None = None,
    ) -> None:
        self._path = data_dir / FILE
        self._ask = ask
        self._key = key
        self._writer = writer
        self._every_s = every_s
        self._lan = lan
        self._heard = asyncio.Event()
        self.book = DeviceBook(gateway, _kept(self._path))

    def gate(self, device: str) -> Gate:
        """What intake does with a message of the device."""
        told = len(self.book.unknown)
        found = self.book.gate(device)
        if len(self.book.unknown) > told:
            self._heard.set()
        return found

    def nudge(self) -> None:
        """Ask soon."""
        self._heard.set()

    async def serve(self, stopping: asyncio.Event) -> None:
        """Ask and tell until `stopping`."""
        for device in self._writer.held_at_start:
            self.book.gate(device)  # what is unknown of them is told again
        self._release()
        await self._follow()
        stop = asyncio.ensure_future(stopping.wait())
        try:
            while not stopping.is_set():
                self._heard.clear()  # before asking: what changes meanwhile may not be in the answer
                try:
                    await self._turn()
                except HubError as error:
                    DevicesNotAsked(str(error)).emit()
                await self._pause(stop)
        finally:
            stop.cancel()
            await asyncio.gather(stop, return_exceptions=True)

    async def _pause(self, stop: asyncio.Future[Literal[True]]) -> None:
        heard = asyncio.ensure_future(self._heard.wait())
        delay_s = self._every_s * random.uniform(0.8, 1.2)  # noqa: S311 - jitter
        await asyncio.wait([stop, heard], timeout=delay_s, return_when=asyncio.FIRST_COMPLETED)
        if heard.done():
            await asyncio.wait([stop], timeout=_GATHER_S)  # others are heard for the first time at the same moment
        heard.cancel()
        await asyncio.gather(heard, return_exceptions=True)

    async def _turn(self) -> None:
        await self._look()
        if self.book.unknown and self.book.page.unknown_devices == "pending":
            await self._report(list(self.book.unknown)[:_MOST_REPORTED])

    async def _look(self) -> None:
        headers = {"If-None-Match": f'"{self.book.page.version}"'}
        answer = await self._ask(Call("GET", "/v1/self/devices", self._key(), headers=headers))
        if answer.status == _OK:
            page = _page(answer)
            write(self._path, encode(page))
            self.book.turn(page)
        elif answer.status == _NOT_MODIFIED:
            self.book.turn(self.book.page)  # a device that was told of and refused since then was never in it
        else:
            raise Permanent(f"the hub answered {answer.status} when asked for this gateway's devices")
        DevicesAsked(len(self.book.page.devices), self.book.pending).emit()
        self._release()
        await self._follow()  # also of a page that did not change: what failed the last time is tried again

    async def _report(self, devices: list[str]) -> None:
        body: dict[str, object] = {"devices": [{"id": device} for device in devices]}
        answer = await self._ask(Call("POST", "/v1/self/devices", self._key(), body))
        if answer.status != _OK:
            raise Permanent(f"the hub answered {answer.status} when told of unknown devices")
        words = msgspec.convert(answer.body.get("devices", {}), dict[str, str])
        refused = self.book.answered({device: word for device, word in words.items() if device in devices})
        counts = [list(words.values()).count(word) for word in ("pending", "refused", "later")]
        DevicesReported(*counts).emit()
        for device in refused:
            self._writer.chore(partial(_drop, device))

    async def _follow(self) -> None:
        """Without a page nobody knows who is there: the records stay as they are."""
        page = self.book.page
        if self._lan is not None and page.version:
            await self._lan.follow(
                [
                    LocalDevice(one.id, one.status, tuple((key.key_id, key.hash) for key in one.keys))
                    for one in page.devices
                ]
            )

    def _release(self) -> None:
        """Each time for all: what was stored while the answer was under way is found with the next."""
        self._writer.chore(lambda chores: chores.held.settle(self.book.passes))


def _drop(device: str, chores: Chores) -> None:
    chores.held.drop(device)


def _page(answer: Answer) -> Page:
    try:
        if "devices" in answer.body:
            return msgspec.convert(answer.body, Page)
        raise Permanent("the hub's list of devices is none of ours")
    except msgspec.ValidationError as error:
        raise Permanent(f"the hub's list of devices is none of ours: {error}") from None


def pending(data_dir: Path) -> int | None:
    """How many devices wait for approval, as the hub last said; None if it never did."""
    page = _kept(data_dir / FILE)
    return sum(one.status == "pending" for one in page.devices) if page is not None else None


def _kept(path: Path) -> Page | None:
    try:
        return decode(path.read_bytes())
    except OSError:
        return None
