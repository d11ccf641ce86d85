"""Start, signal, drain, stop: one `run` a process.

A service is `async def serve(stopping: asyncio.Event)`: it works until `stopping` is set, drains, and returns.
One that raises stops all the others in order; the first error decides the exit status.
"""

import asyncio
import ctypes
import logging
import os
import signal
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

from shared.errors import HubError
from shared.events import Event
from shared.fault import place_of

Service = Callable[[asyncio.Event], Awaitable[None]]

_PR_SET_PDEATHSIG = 1
_BEAT_S = 1.0


@dataclass(frozen=True, slots=True)
class ServiceFailed(Event):
    """A service of this process ended with an error; the process stops."""

    LEVEL = logging.ERROR
    service: str
    error: str


@dataclass(frozen=True, slots=True)
class ServiceHung(Event):
    """A service did not drain within the grace and was cancelled."""

    LEVEL = logging.ERROR
    service: str
    grace_s: float


def run(services: Mapping[str, Service], *, grace_s: float = 10.0, beat: Callable[[], None] | None = None) -> int:
    """Run all until SIGTERM or SIGINT, or until one ends; exit status 0, or 1 if one failed or hung.

    `beat` is called each second by the event loop (`health.Beat.stamp`), so not while something blocks it.
    """
    return asyncio.run(_run(services, grace_s, beat))


async def _run(services: Mapping[str, Service], grace_s: float, beat: Callable[[], None] | None) -> int:
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    if beat is not None:
        _stamp(loop, beat)
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    tasks = {asyncio.ensure_future(service(stopping)): name for name, service in services.items()}
    stop = asyncio.ensure_future(stopping.wait())
    await asyncio.wait([stop, *tasks], return_when=asyncio.FIRST_COMPLETED)
    stopping.set()
    await stop
    _, hung = await asyncio.wait(tasks, timeout=grace_s)
    for task in hung:
        ServiceHung(tasks[task], grace_s).emit()
        task.cancel()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    failed = False
    for name, result in zip(tasks.values(), results, strict=True):
        if isinstance(result, Exception):
            failed = True
            # Our bug is shown by its place alone: its text may name devices and what they said.
            ServiceFailed(name, str(result) if isinstance(result, HubError) else place_of(result)).emit()
    return 1 if failed or hung else 0


def _stamp(loop: asyncio.AbstractEventLoop, beat: Callable[[], None]) -> None:
    beat()
    loop.call_later(_BEAT_S, _stamp, loop, beat)  # ends with the loop


def die_with_parent(parent_pid: int) -> None:
    """Have the kernel kill this process when the thread that started it ends; at once if it is gone already.

    Linux prctl(2) PR_SET_PDEATHSIG. Orphans of a dead supervisor would fence its successor's children.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG)")
    if os.getppid() != parent_pid:
        os.kill(os.getpid(), signal.SIGKILL)
